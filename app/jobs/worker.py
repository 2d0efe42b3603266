"""One job's work: its picture fetched, enlarged in the time that requests leave, its result put where it belongs."""

import hashlib
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Protocol

from app.errors import EnlargerError, ShuttingDownError
from app.jobs.lifecycle import source_key
from app.jobs.locations import Locations
from app.jobs.records import UPLOAD, JobSpec, Result
from app.jobs.running import Running
from app.jobs.store import Store

DELAYS = (1.0, 5.0, 15.0, 60.0, 120.0, 300.0)
"""Seconds from one try to the next, where the store, a source or the engine failed in a way that may pass."""
SPOOL_BYTES = 2**20  # of a result in memory; the rest of it lies in an unlinked file until it is whole


@dataclass(frozen=True)
class Enlarged:
    """A picture on its way: its file piece by piece, and what to tell of it."""

    pieces: Iterator[bytes]
    media_type: str
    filename: str | None
    headers: dict[str, str]


class Enlarge(Protocol):
    """Enlarges a picture in the background, for a job; the context ends when the last piece was taken."""

    def __call__(
        self, running: Running, spec: JobSpec, data: bytes, filename: str | None
    ) -> AbstractContextManager[Enlarged]: ...


class Worker:
    """``most``: bytes of a source."""

    def __init__(self, store: Store, locations: Locations, enlarge: Enlarge, most: int) -> None:
        self._store, self._locations, self._enlarge, self._most = store, locations, enlarge, most

    def perform(self, running: Running, spec: JobSpec) -> Result:
        """The result, or the error that the job is to end with; what may pass is tried again for some minutes."""
        for delay in DELAYS:
            try:
                return self._try(running, spec)
            except ShuttingDownError:
                running.sleep(24 * 3600)  # until it is handed on
            except EnlargerError as error:
                running.check()
                if not error.retryable:
                    raise
                running.sleep(delay)
        return self._try(running, spec)

    def _try(self, running: Running, spec: JobSpec) -> Result:
        image, name = self._fetch(running.id, spec)
        running.check()
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
            with self._enlarge(running, spec, image, spec.filename or name) as enlarged:
                del image
                size, etag = keep(enlarged.pieces, file, running.check)
            file.seek(0)
            key = None if spec.sink else f"results/{running.id}/{uuid.uuid4().hex}"
            if spec.sink:
                self._locations.write(spec.sink, file, size, enlarged.media_type)
            elif key:
                self._store.put(key, file)
        return Result(key, size, etag, enlarged.media_type, enlarged.filename, enlarged.headers)

    def _fetch(self, job_id: str, spec: JobSpec) -> tuple[bytes, str | None]:
        if spec.source == UPLOAD:
            return self._store.get(source_key(job_id)), None
        return self._locations.read(spec.source, self._most)


def keep(pieces: Iterator[bytes], file: IO[bytes], check: Callable[[], None]) -> tuple[int, str]:
    """Writes all pieces; how many bytes they were, and their SHA-256."""
    size, digest = 0, hashlib.sha256()
    for piece in pieces:
        check()
        file.write(piece)
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()
