"""A part of a finished file (RFC 9110, 13 and 14): which bytes are asked for, and whether the client has them."""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from app.errors import RangeError

ONE_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """The bytes from ``start`` to before ``end`` of ``size``."""

    start: int
    end: int
    size: int

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.end == self.size

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def whole(size: int) -> Part:
    return Part(0, size, size)


def part_asked_for(headers: Headers, size: int, etag: str) -> Part:
    """The one range that is asked for; the whole where there is none, several, one that makes no sense, or one of
    another version of the file. ``RangeError`` where it lies outside."""
    if headers.get("if-range", etag) != etag:
        return whole(size)
    found = ONE_RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if not found or found.group(0).endswith("=-"):
        return whole(size)
    first, last = found.groups()
    if not first:  # the last so many bytes
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole(size)
    if start >= size or start == end:
        raise RangeError("The file is shorter.", limit=size, actual=start)
    return Part(start, end, size)


def has_it_already(headers: Headers, etag: str) -> bool:
    """By ``If-None-Match``, whose comparison is weak."""
    told = headers.get("if-none-match", "")
    return told.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in told.split(","))
