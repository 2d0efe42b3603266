"""What a client prefers (RFC 7240): to be answered at once, with a job, or to wait so many seconds for the picture."""

from collections.abc import Iterable
from dataclasses import dataclass

MAX_WAIT = 600.0  # seconds


@dataclass(frozen=True)
class Preference:
    """``respond_async``: rather a job than a connection kept open for longer than ``wait`` seconds."""

    respond_async: bool = False
    wait: float = 0.0

    @property
    def applied(self) -> str:
        """The value of ``Preference-Applied``."""
        return f"respond-async, wait={self.wait:g}" if self.wait else "respond-async"


def parse_prefer(values: Iterable[str]) -> Preference:
    """Of all ``Prefer`` headers; what is unknown or malformed is ignored, and the first of equal names counts."""
    told: dict[str, str] = {}
    for preference in ",".join(values).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        told.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = told.get("wait", "")
    return Preference(
        "respond-async" in told, min(MAX_WAIT, float(wait)) if wait.isdecimal() and wait.isascii() else 0.0
    )
