"""Where a job's picture comes from and where its result goes: what may be named, and how it is read and written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from app.errors import ForbiddenUrlError
from app.jobs.egress import Egress
from app.jobs.store import CHUNK_BYTES, Store, split_object, told


@dataclass(frozen=True)
class Locations:
    """``buckets``: URLs of buckets, or of folders in them, that requests may name; none without."""

    egress: Egress
    buckets: Sequence[str] = ()

    def check(self, url: str) -> None:
        """Raises ``ForbiddenUrlError`` or ``SourceError`` where a request may not name this URL."""
        if url.startswith(("http:", "https:")):
            self.egress.check(url)
            return
        bucket, key = split_object(url)
        if not any(f"{bucket}/{key}".startswith(each.rstrip("/") + "/") for each in self.buckets):
            raise ForbiddenUrlError(f"{told(url)} is in none of the buckets that this service may reach.")

    def read(self, url: str, most: int) -> tuple[bytes, str]:
        """The picture, of at most so many bytes, and its file name."""
        if url.startswith(("http:", "https:")):
            return self.egress.get(url, most)
        bucket, key = split_object(url)
        return Store.open(bucket).get(key, most), key.rsplit("/", 1)[-1]

    def write(self, url: str, file: IO[bytes], size: int, media_type: str) -> None:
        """The whole result, or nothing of it."""
        if url.startswith(("http:", "https:")):
            self.egress.put(url, pieces(file), size, media_type)
        else:
            bucket, key = split_object(url)
            Store.open(bucket).put(key, file)


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    read: Callable[[], bytes] = lambda: file.read(CHUNK_BYTES)  # noqa: E731
    return iter(read, b"")
