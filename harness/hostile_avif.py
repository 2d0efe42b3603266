"""AVIF files of headers alone, whose boxes and streams tell what they like."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from app.images.formats.isobmff import MAX_PARTS


class Av1(NamedTuple):
    """An AV1 stream of headers alone: enough to be refused by, or to be read by ``inspect``."""

    width: int
    height: int
    frames: int = 1
    reduced: bool = True
    own_size: bool = False
    sequences: int = 1
    profile: int = 0
    colour: tuple[tuple[int, int], ...] = ()
    """(value, bits) of ``color_config`` and what follows it; zeros if there are none."""

    def stream(self) -> bytes:
        sequence = unit(1, packed(*self._sequence()))
        frame = unit(6, packed((0, 1), (0, 2), (1, 1), (0, 1), (0, 1), (self.own_size, 1), (0, 64)))
        return b"\x12\0" + sequence * self.sequences + frame * self.frames

    def _sequence(self) -> Iterator[tuple[int, int]]:
        """(value, bits) of the fields of 5.5.1."""
        yield from ((self.profile, 3), (1, 1), (self.reduced, 1))
        if not self.reduced:
            yield from ((0, 1), (0, 1), (0, 5), (0, 12))  # no timing, no delay, one operating point
        yield 0, 5
        yield from ((15, 4), (15, 4), (self.width - 1, 16), (self.height - 1, 16))
        if not self.reduced:
            yield from ((0, 1), (0, 7), (0, 1), (1, 1), (1, 1))
        yield 0, 3 + 3 * self.reduced
        yield from self.colour
        yield 0, 32


def packed(*fields: tuple[int, int]) -> bytes:
    bits = "".join(f"{int(value):0{count}b}" for value, count in fields)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


def unit(kind: int, payload: bytes) -> bytes:
    """An OBU with its size, which is below 128 here."""
    assert len(payload) < 128
    return bytes((kind << 3 | 2, len(payload))) + payload


def box(name: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), name) + b"".join(parts)


FULL = b"\0\0\0\0"
ALPHA_KIND = box(b"auxC", FULL, b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
AV1C = box(b"av1C", b"\x81\0\x0c\0")


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", FULL, struct.pack(">II", width, height))


class Entry(NamedTuple):
    kind: bytes
    content: bytes
    properties: tuple[bytes, ...]
    references: tuple[tuple[bytes, tuple[int, ...]], ...] = ()


def avif(
    *entries: Entry,
    before: bytes = b"",
    within: bytes = b"",
    replaced: dict[bytes, bytes] | None = None,
    brands: bytes = b"avif\0\0\0\0avifmif1miaf",
) -> bytes:
    """An AVIF of these items, numbered from 1; ``replaced``: boxes of ``meta`` to be put in place of its own."""
    properties = list(dict.fromkeys(each for entry in entries for each in entry.properties))
    parts = {
        b"hdlr": box(b"hdlr", FULL, b"\0\0\0\0pict", bytes(13)),
        b"pitm": box(b"pitm", FULL, b"\0\1"),
        b"iinf": box(
            b"iinf",
            FULL,
            struct.pack(">H", len(entries)),
            *(box(b"infe", b"\2\0\0\0", struct.pack(">HH4sx", n, 0, each.kind)) for n, each in enumerate(entries, 1)),
        ),
        b"iref": box(
            b"iref",
            FULL,
            *(
                box(kind, struct.pack(f">HH{len(to)}H", n, len(to), *to))
                for n, each in enumerate(entries, 1)
                for kind, to in each.references
            ),
        ),
        b"iprp": box(
            b"iprp",
            box(b"ipco", *properties),
            box(
                b"ipma",
                FULL,
                struct.pack(">I", len(entries)),
                *(
                    struct.pack(">HB", n, len(each.properties))
                    + bytes(properties.index(own) + 1 for own in each.properties)
                    for n, each in enumerate(entries, 1)
                ),
            ),
        ),
    }

    def located(start: int) -> bytes:
        places = b""
        for number, each in enumerate(entries, 1):
            places += struct.pack(">HHHII", number, 0, 1, start, len(each.content))
            start += len(each.content)
        return box(b"iloc", FULL, b"\x44\0", struct.pack(">H", len(entries)), places)

    head = box(b"ftyp", brands) + before
    for start in (0, len(head) + len(box(b"meta", FULL, *parts.values(), located(0), within)) + 8):
        boxes = {**parts, b"iloc": located(start), **(replaced or {})}
        whole = head + box(b"meta", FULL, *boxes.values(), within)
    return whole + box(b"mdat", *(each.content for each in entries))


def picture(stream: Av1, told: tuple[int, int] | None = None, *more: bytes) -> Entry:
    width, height = told or (stream.width, stream.height)
    return Entry(b"av01", stream.stream(), (ispe(width, height), AV1C, *more))


def grid(rows: int, columns: int, size: tuple[int, int], first: int, *more: bytes) -> Entry:
    content = bytes((0, 0, rows - 1, columns - 1)) + struct.pack(">HH", *size)
    tiles = tuple(range(first, first + rows * columns))
    return Entry(b"grid", content, (ispe(*size), *more), ((b"dimg", tiles),))


def alpha_of(entry: Entry, target: int = 1) -> Entry:
    return entry._replace(properties=(*entry.properties, ALPHA_KIND), references=((b"auxl", (target,)),))


LARGE, SMALL = Av1(10_000, 10_000), Av1(8, 8)
TOO_LARGE = {
    "picture": avif(picture(LARGE, (8, 8))),
    "side": avif(picture(Av1(40_000, 1), (8, 8))),
    "second sequence": avif(
        Entry(b"av01", SMALL.stream() + LARGE.stream(), (ispe(8, 8), AV1C)),
    ),
    "sequence of choices": avif(picture(LARGE._replace(reduced=False), (8, 8))),
    "frame's own size": avif(picture(SMALL._replace(reduced=False, own_size=True))),
    "alpha": avif(picture(SMALL), alpha_of(picture(LARGE, (8, 8)))),
    "alpha that says so": avif(picture(SMALL), alpha_of(picture(LARGE))),
    "tile": avif(grid(1, 2, (16, 8), 2), picture(SMALL), picture(LARGE, (8, 8))),
    "tiles together": avif(grid(2, 4, (8, 8), 2), *[picture(Av1(3000, 3000))] * 8),
    "alpha of a tile": avif(
        grid(1, 2, (16, 8), 2), picture(SMALL), picture(SMALL), *(alpha_of(picture(LARGE, (8, 8)), n) for n in (2, 3))
    ),
    "alpha in tiles": avif(
        picture(SMALL),
        alpha_of(grid(1, 1, (8, 8), 3))._replace(references=((b"auxl", (1,)), (b"dimg", (3,)))),
        picture(LARGE, (8, 8)),
    ),
    "layers together": avif(picture(Av1(5000, 5000, frames=3))),
}


CONTRADICTORY = {
    "stream larger": avif(picture(Av1(9, 8), (8, 8))),
    "stream smaller": avif(picture(Av1(8, 7), (8, 8))),
    "tile larger": avif(grid(1, 2, (16, 8), 2), picture(SMALL), picture(Av1(64, 8), (8, 8))),
    "grid of another size": avif(grid(1, 2, (16, 8), 2)._replace(properties=(ispe(15, 8),)), *[picture(SMALL)] * 2),
    "tiles missing": avif(grid(2, 2, (16, 16), 2)._replace(references=((b"dimg", (2, 3)),)), *[picture(SMALL)] * 2),
    "no stream": avif(Entry(b"av01", b"", (ispe(8, 8), AV1C))),
    "no frame": avif(picture(SMALL._replace(frames=0))),
    "no sequence": avif(picture(SMALL._replace(sequences=0))),
    "nine frames": avif(picture(SMALL._replace(frames=9))),
    "no size": avif(Entry(b"av01", SMALL.stream(), (AV1C,))),
    "item missing": avif(grid(1, 1, (8, 8), 7)),
}


def counted(name: bytes, payload: bytes) -> bytes:
    return avif(picture(SMALL), replaced={name: payload})


MULTIPLIED = {
    "empty extents": counted(
        b"iloc",
        box(
            b"iloc",
            FULL,
            b"\0\0",
            struct.pack(">H", 1000),
            b"".join(struct.pack(">HHH", n, 0, 1000) for n in range(1000)),
        ),
    ),
    "extents of one item": counted(
        b"iloc", box(b"iloc", FULL, b"\0\0", struct.pack(">H", 1), struct.pack(">HHH", 1, 0, 65_535))
    ),
    "locations": counted(b"iloc", box(b"iloc", FULL, b"\0\0", struct.pack(">H", 60_000), bytes(6 * 60_000))),
    "boxes": avif(picture(SMALL), before=box(b"free") * (MAX_PARTS + 1)),
    "boxes in meta": avif(picture(SMALL), within=box(b"free") * (MAX_PARTS + 1)),
    "boxes of boxes": counted(b"iprp", box(b"iprp", *[box(b"ipco", box(b"free") * 100)] * 100)),
    "associations": counted(
        b"iprp",
        box(b"iprp", box(b"ipco"), *[box(b"ipma", FULL, struct.pack(">I", 1), b"\0\1\xff" + bytes(255))] * 40),
    ),
    "associated items": counted(
        b"iprp", box(b"iprp", box(b"ipco"), box(b"ipma", FULL, struct.pack(">I", 0xFFFF_FFFF), bytes(3 * 9000)))
    ),
    "items": counted(b"iinf", box(b"iinf", FULL, b"\xff\xff", box(b"infe", b"\2\0\0\0", bytes(9)) * 10_000)),
    "references": counted(b"iref", box(b"iref", FULL, *[box(b"auxl", struct.pack(">HH", 1, 1000), bytes(2000))] * 20)),
    "units": avif(Entry(b"av01", b"\x7a\0" * 20_000 + SMALL.stream(), (ispe(8, 8), AV1C))),
}
