"""Reports the images in flight to the supervisor, so that it knows the suspects of a crash."""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress

from app.errors import CrashedBeforeError
from app.telemetry.record import Record


class InFlightTracker:
    """A worker's end of the supervisor's pipe; without a pipe it does nothing.

    ``refused``: sha256 digests of images that were in flight at more than one crash.
    """

    def __init__(self, pipe: int | None = None, refused: Iterable[str] = ()) -> None:
        self._pipe, self._refused = pipe, frozenset(refused)
        if pipe is not None:
            os.set_blocking(pipe, False)

    def ready(self) -> None:
        self._tell("ready")

    def begin(self, record: Record, image: bytes) -> None:
        """Raises ``CrashedBeforeError`` for an image that is refused. Takes a millisecond per megabyte."""
        if self._pipe is None:
            return
        digest = hashlib.sha256(image).hexdigest()
        if digest in self._refused:
            raise CrashedBeforeError("The service has crashed more than once on this image and now refuses it.")
        self._tell(f"begin {id(record)} {digest}")

    def end(self, record: Record) -> None:
        """Called when a request is over, however it ended, and even if it never began."""
        self._tell(f"end {id(record)}")

    def _tell(self, line: str) -> None:
        """A write below PIPE_BUF is atomic. A supervisor too busy to read must not block the service."""
        if self._pipe is not None:
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(self._pipe, f"{line}\n".encode())
