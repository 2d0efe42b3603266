"""Finds the images in the named files, folders and streams, and reports everything that is left out."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import EnlargerError
from app.images.formats import SUFFIXES, sniff
from app.images.formats.xmp import SOURCE_TYPES

STREAM = Path("-")  # standard input or output
RESULT = "-enlarged"  # appended to the source's name if the result lies next to it
HEAD_BYTES = 4096  # enough to detect any format
APPLE_DOUBLE = b"\x00\x05\x16\x07"  # RFC 1740: what macOS leaves as ._NAME beside files on other file systems
MARK = SOURCE_TYPES.encode()


@dataclass(frozen=True)
class Source:
    """An image to be enlarged. ``relative``: its path below the named folder."""

    path: Path
    relative: Path

    @property
    def is_stream(self) -> bool:
        """Whether it can be read only once, from standard input or a pipe; nothing lies next to it."""
        return self.path == STREAM or (self.path.exists() and not self.path.is_file())

    def read(self) -> bytes:
        if self.path == STREAM:
            with open(0, "rb", closefd=False) as stream:
                return stream.read()
        return self.path.read_bytes()


@dataclass(frozen=True)
class Omission:
    """Something that is not enlarged, and why. ``failed``: it should have been."""

    path: Path
    reason: str
    failed: bool = False


def find(named: Sequence[Path], output: Path | None) -> Iterator[Source | Omission]:
    """Everything that was named, folders in the order of their names; each file once."""
    seen: set[str] = set()
    for path in named:
        if path == STREAM:
            yield Source(path, Path("stdin"))
        elif path.is_dir():
            yield from find_in(path, output, seen)
        elif (place := place_of(path)) in seen:
            yield Omission(path, "already named")
        else:
            seen.add(place)
            yield Source(path, Path(path.name))


def find_in(folder: Path, output: Path | None, seen: set[str]) -> Iterator[Source | Omission]:
    """A folder that was named; if it contains no image, that counts as a failure."""
    if os.path.realpath(folder) in seen:
        yield Omission(folder, "already searched")
        return
    count = 0
    for found in walk(folder, Path(), os.path.realpath(output) if output else None, seen):
        count += isinstance(found, Source)
        yield found
    if not count:
        yield Omission(folder, "there is no image to enlarge in it", failed=True)


def walk(folder: Path, relative: Path, output: str | None, seen: set[str]) -> Iterator[Source | Omission]:
    """The images below a folder, following links; ``seen``: files and folders visited so far."""
    real = os.path.realpath(folder)
    if real == output and relative.parts:
        yield Omission(folder, "it is the output folder")
        return
    if real in seen:
        yield Omission(folder, "the same folder was already searched")
        return
    seen.add(real)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        yield Omission(folder, str(error.strerror), failed=True)
        return
    if not names and relative.parts:
        yield Omission(folder, "it is empty")
    known = {*names, *(stem_of(Path(name)) for name in names)}
    for name in names:
        path = folder / name
        if path.is_dir():
            yield from walk(path, relative / name, output, seen)
        elif place_of(path) not in seen:
            seen.add(place_of(path))
            yield judged(path, relative / name, known)
        else:
            yield Omission(path, "already named")


def judged(path: Path, relative: Path, known: set[str]) -> Source | Omission:
    """Whether a file in a folder is an image, by its content; ``known``: the names of the files next to it, and
    their stems."""
    if not path.is_file():
        return Omission(path, "a broken link" if path.is_symlink() else "not a regular file")
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
        if stem_of(path).endswith(RESULT) and is_own_result(path, known):
            return Omission(path, "the result of an earlier run")
    except OSError as error:
        return Omission(path, str(error.strerror), failed=True)
    if head.startswith(APPLE_DOUBLE):
        return Omission(path, "macOS' metadata of another file")
    if path.name.startswith(".enlarger-") and path.suffix == ".part":
        return Omission(path, "an unfinished result")
    if path.suffix.lower() not in SUFFIXES:  # otherwise opening it reports what is wrong
        try:
            sniff(head)
        except EnlargerError as error:
            return Omission(path, error.detail)
    return Source(path, relative)


def is_own_result(path: Path, known: set[str]) -> bool:
    """Whether a file with a result's name is one: its source lies next to it, or its XMP says so."""
    return stem_of(path).removesuffix(RESULT) in known or is_marked(path)


def is_marked(path: Path) -> bool:
    """Whether a file has a digital source type, as every result does."""
    return MARK in path.read_bytes()


def stem_of(path: Path) -> str:
    """A file's name without an image suffix."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def place_of(path: Path) -> str:
    """The same for two names of one directory entry; a link is a different entry from its target."""
    return os.path.join(os.path.realpath(path.parent), path.name)
