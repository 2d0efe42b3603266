"""What a promise's measurement gives."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Result:
    """``figure`` is told in the table; ``kept`` says whether the promise was; ``details`` go into the JSON file."""

    promise: int
    title: str
    figure: str
    kept: bool
    details: dict[str, object] = field(default_factory=dict)
