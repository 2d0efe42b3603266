"""Where pictures lie: a folder, or an object store by URL, through ``obstore``; credentials are the environment's."""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from app.errors import SourceError, StoreError

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
CHUNK_BYTES = 8 * 2**20  # of what is read or written at a time
RETRY = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}


@dataclass(frozen=True)
class Stored:
    """An object: its key below the store's prefix, its size in bytes and its tag, if the store has tags."""

    key: str
    size: int
    etag: str


class Store:
    """A folder or a bucket. Objects appear whole or not at all; ``key`` is relative, its parts parted by slashes."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store, self._folder = store, folder

    @classmethod
    def open(cls, place: str) -> Self:
        """``place``: a path, or a URL like ``s3://bucket/prefix``. The folder is made."""
        if not is_url(place):
            folder = Path(place).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            return cls(LocalStore(folder), folder)
        check_bucket_url(place)
        try:
            return cls(from_url(place, retry_config=RETRY))  # type: ignore[call-overload]
        except (BaseError, ValueError) as error:
            raise StoreError(f"The store {told(place)} cannot be opened.") from error

    def put(self, key: str, content: bytes | IO[bytes]) -> None:
        with told_errors(key):
            obstore.put(self._store, key, content, chunk_size=CHUNK_BYTES, max_concurrency=2)
        if self._folder:
            sync(self._folder / key)

    def get(self, key: str, most: int | None = None) -> bytes:
        """The whole object; ``StoreError`` if it is larger than ``most`` bytes, ``SourceError`` if there is none."""
        with told_errors(key):
            found = obstore.get(self._store, key)
            if most is not None and found.meta["size"] > most:
                raise SourceError("The source is too large.", limit=most, actual=found.meta["size"])
            return bytes(found.bytes())

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``end``, some mebibytes at a time."""
        for at in range(start, end, CHUNK_BYTES):
            with told_errors(key):
                piece = obstore.get_range(self._store, key, start=at, end=min(end, at + CHUNK_BYTES))
            yield bytes(piece)

    def find(self, key: str) -> Stored | None:
        try:
            with told_errors(key):
                meta = obstore.head(self._store, key)
        except SourceError:
            return None
        return Stored(key, meta["size"], meta["e_tag"] or "")

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Everything below a prefix that ends at a slash."""
        with told_errors(prefix):
            for page in obstore.list(self._store, prefix=prefix or None):
                for meta in page:
                    yield Stored(meta["path"], meta["size"], meta["e_tag"] or "")

    def delete(self, *keys: str) -> None:
        """What is not there is deleted already."""
        for key in keys:
            try:
                with told_errors(key):
                    obstore.delete(self._store, key)
            except SourceError:
                continue

    def delete_below(self, prefix: str) -> None:
        self.delete(*(stored.key for stored in self.list(prefix)))


class told_errors:  # noqa: N801  # reads as a verb
    """The object store's errors as ours. None tells a URL or a credential."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotFoundError | FileNotFoundError):
            raise SourceError("There is no such object.") from error
        if isinstance(error, BaseError | OSError):
            logging.getLogger("enlarger.jobs").warning("the object store failed: %s", type(error).__name__)
            raise StoreError("The object store cannot be reached, or refused.") from error


def is_url(place: str) -> bool:
    return "://" in place


def check_bucket_url(url: str) -> None:
    """Raises ``SourceError`` unless it names a bucket and a plain path in it."""
    try:
        parts = urlsplit(url)
        named = parts.netloc and not parts.username and not parts.password and parts.port is None
    except ValueError:
        named = False
    path = unquote(url.partition("://")[2].partition("/")[2])
    plain = not any(step in ("..", ".") for step in path.split("/")) and "\\" not in path and path.isprintable()
    if not named or parts.scheme not in SCHEMES or parts.query or parts.fragment or "%" in url or not plain:
        raise SourceError(f"{told(url)} is not the URL of a bucket or of an object in one.")


def split_object(url: str) -> tuple[str, str]:
    """The bucket's URL and the object's key."""
    check_bucket_url(url)
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if not key or key.endswith("/"):
        raise SourceError(f"{told(url)} names no object.")
    return f"{scheme}://{bucket}", key


def told(url: str) -> str:
    """A URL as it may be shown: without what may be secret in it."""
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])[:200]


def sync(path: Path) -> None:
    """A file and its name, on the disk itself: an accepted picture outlives the machine's next second."""
    for each, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(each, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
