"""What a job is: what it was asked to do, how far it is, and the document that tells it."""

import os
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

UPLOAD = "upload"  # the source of a job whose picture came with the request
SMALL_SECONDS = 2.0  # jobs estimated below this have half of the turns, however many large ones wait

Status = Literal["queued", "processing", "succeeded", "failed", "canceled"]
FINISHED: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


@dataclass(frozen=True)
class JobSpec:
    """What a job is to do; kept in the database as JSON, and never a picture.

    ``source`` is ``UPLOAD`` or a URL; ``sink`` a URL, or None where the result is fetched here. ``seconds`` estimates
    the networks' time, None where the picture has not been seen yet.
    """

    source: str
    parameters: dict[str, str]
    sink: str | None = None
    accept: str = "*/*"
    filename: str | None = None
    webhook: str | None = None
    seconds: float | None = None

    @property
    def small(self) -> bool:
        return self.seconds is not None and self.seconds < SMALL_SECONDS

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**value)


@dataclass(frozen=True)
class Result:
    """A finished picture: where it lies in the store (None: at the job's sink) and what to tell of it."""

    key: str | None
    size: int
    etag: str
    media_type: str
    filename: str | None
    headers: dict[str, str]


@dataclass(frozen=True)
class Job:
    """A job as the engine knows it. Times are seconds since the epoch; ``progress`` is 0 to 1."""

    id: str
    owner: str
    status: Status
    spec: JobSpec
    created: float
    started: float | None = None
    finished: float | None = None
    progress: float = 0.0
    left: float | None = None
    """Seconds that the work itself is estimated to need from now."""
    error: dict[str, Any] | None = None
    """A problem document."""
    result: Result | None = None
    expired: bool = False

    @property
    def done(self) -> bool:
        return self.status in FINISHED

    @property
    def version(self) -> str:
        """Changes whenever the document does: the id of an event."""
        return f"{self.status}-{self.progress:.3f}"

    def document(self, retention: float) -> dict[str, Any]:
        """What ``GET /jobs/{id}`` answers."""
        urls = {"get": f"/jobs/{self.id}", "cancel": f"/jobs/{self.id}"}
        if self.spec.sink is None:
            urls["result"] = f"/jobs/{self.id}/result"
        return {
            "id": self.id,
            "status": self.status,
            "progress": round(self.progress, 3),
            "seconds_left": None if self.left is None or self.done else round(self.left, 1),
            "created": timestamp(self.created),
            "started": timestamp(self.started),
            "finished": timestamp(self.finished),
            "expires": timestamp(self.finished + retention) if self.finished else None,
            "source": self.spec.source,
            "sink": self.spec.sink,
            "filename": self.result.filename if self.result else self.spec.filename,
            "bytes": self.result.size if self.result else None,
            "media_type": self.result.media_type if self.result else None,
            "model": self.result.headers.get("Enlarger-Model") if self.result else None,
            "choice": self.result.headers.get("Enlarger-Choice") if self.result else None,
            "error": self.error,
            "urls": urls,
        }


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, 6.2 method 3): it tells when the job was made, to a quarter of a microsecond, even
    when nothing else is left of it, so ids are in the order of age."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    octets = bytearray(milliseconds.to_bytes(6, "big") + (0x7000 | fraction).to_bytes(2, "big") + os.urandom(8))
    octets[8] = 0x80 | octets[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(octets)))


def created_at(job_id: str) -> float | None:
    """When the job of that id was made, seconds since the epoch; None if no job has such an id."""
    try:
        made = uuid.UUID(job_id)
    except ValueError:
        return None
    if made.version != 7 or str(made) != job_id:
        return None
    return int.from_bytes(made.bytes[:6], "big") / 1000
