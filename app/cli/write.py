"""Writes a result: the file appears complete or not at all; links and pipes are written through."""

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.cli.find import STREAM, Source, is_marked
from app.errors import EnlargerError

PART = ".enlarger-{}.part"  # short, however long the result's name is


def is_there(target: Path) -> bool:
    """Whether a result exists already; a pipe or a device is not a result."""
    return target != STREAM and target.is_file()


def is_stream(target: Path) -> bool:
    """Whether a result goes to standard output, a pipe or a device, whose reader may be slow."""
    return target == STREAM or (target.exists() and not target.is_file())


def check_replaceable(target: Path) -> None:
    """Raises ``EnlargerError`` if a name that was not given explicitly belongs to a file that is not a result."""
    if is_there(target) and not is_marked(target):
        raise EnlargerError(
            f"{target} exists and is not a result of this command; move it, or name another folder with -o."
        )


@contextmanager
def writing(target: Path, times_of: Source | None = None) -> Iterator[BinaryIO]:
    """The file to write a result to: a new one that replaces ``target`` at the end and keeps its permissions. A link
    is kept and its target replaced. ``times_of``: the source whose time stamps the result gets."""
    if target == STREAM:
        sys.stdout.flush()
        with open(1, "wb", closefd=False) as stream:
            yield stream
        return
    real = Path(os.path.realpath(target))
    if is_stream(real):
        with open(real, "wb") as stream:
            yield stream
        return
    before = real.stat() if real.exists() else None
    real.parent.mkdir(parents=True, exist_ok=True)
    part = real.with_name(PART.format(secrets.token_hex(8)))
    try:
        with open(part, "xb") as file:
            yield file
        if before:
            os.chmod(part, stat.S_IMODE(before.st_mode))
        if times_of and not times_of.is_stream:
            times = times_of.path.stat()
            os.utime(part, ns=(times.st_atime_ns, times.st_mtime_ns))
        os.replace(part, real)
    finally:
        part.unlink(missing_ok=True)
