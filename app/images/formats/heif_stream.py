"""Writes an AVIF or HEIC that holds only what is decoded: the images, alpha, and the properties that decoding needs."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.errors import TooComplexError, UnsupportedFormatError
from app.images.formats.base import Buffer
from app.images.formats.isobmff import Item, Meta, Property

MAX_PROPERTY = 4096  # bytes; an AV1 configuration has about twenty


class Codec(NamedTuple):
    """A kind of HEIF: its name, the type of its coded items, and its ``ftyp``. ``needed``: the properties that its
    library must see. ``done_here``: properties that may be essential but are hidden from it, because ``decoder``
    rotates and mirrors, and nothing stretches."""

    name: str
    item: bytes
    brands: bytes
    needed: frozenset[bytes]
    done_here: frozenset[bytes]


AVIF = Codec(  # nothing crops, as in libavif
    name="AVIF",
    item=b"av01",
    brands=b"avif\0\0\0\0avifmif1miaf",
    needed=frozenset((b"ispe", b"pixi", b"av1C", b"colr", b"auxC", b"lsel", b"a1op", b"a1lx")),
    done_here=frozenset((b"irot", b"imir", b"clap", b"pasp")),
)
HEIC = Codec(
    name="HEIC",
    item=b"hvc1",
    brands=b"heic\0\0\0\0mif1heic",
    needed=frozenset((b"ispe", b"pixi", b"hvcC", b"colr", b"auxC", b"clap")),
    done_here=frozenset((b"irot", b"imir", b"pasp")),
)


class Plane(NamedTuple):
    """Colour or alpha: an item, and the items that are decoded for it: itself, or the tiles of its grid, row by row.

    ``item`` is None for an alpha that only the tiles have.
    """

    item: int | None
    tiles: tuple[int, ...]

    @property
    def is_grid(self) -> bool:
        return self.tiles != (self.item,)


@dataclass(frozen=True)
class _Part:
    """An item to be written; numbers begin with 1."""

    kind: bytes
    content: Buffer
    properties: tuple[Property, ...]
    references: tuple[tuple[bytes, tuple[int, ...]], ...] = ()


def write_heif(
    codec: Codec, meta: Meta, colour: Plane, alpha: Plane | None, contents: Mapping[int, memoryview]
) -> tuple[Buffer, ...]:
    """The file, in pieces: contents are not copied."""
    parts = _parts(codec, meta, colour, contents, 1)
    if alpha:
        first = len(parts) + 1
        premultiplied = ((b"prem", (first,)),) if meta.targets(b"prem", meta.primary) else ()
        whole, *tiles = _parts(codec, meta, alpha, contents, first, grid_of=colour)
        whole = _Part(whole.kind, whole.content, whole.properties, (*whole.references, (b"auxl", (1,))))
        parts[0] = _Part(parts[0].kind, parts[0].content, parts[0].properties, (*parts[0].references, *premultiplied))
        parts += [whole, *tiles]
    unique = {id(part.content): part.content for part in parts}  # tiles may share theirs
    head = _head(codec, parts, dict.fromkeys(unique, 0))
    position = len(head) + 8
    offsets = {}
    for key, content in unique.items():
        offsets[key] = position
        position += len(content)
    return _head(codec, parts, offsets), struct.pack(">I4s", position - len(head), b"mdat"), *unique.values()


def _parts(
    codec: Codec,
    meta: Meta,
    plane: Plane,
    contents: Mapping[int, memoryview],
    first: int,
    grid_of: Plane | None = None,
) -> list[_Part]:
    """The item of a plane, numbered ``first``, and its tiles. An alpha without an item gets the grid of ``grid_of``."""
    tiles = [_Part(codec.item, contents[number], _properties(codec, meta.item(number))) for number in plane.tiles]
    if not plane.is_grid:
        return tiles
    number = plane.item if plane.item is not None or grid_of is None else grid_of.item
    assert number is not None  # colour is an item
    item = meta.item(number)
    properties = _properties(codec, item)
    if plane.item is None:
        own = meta.item(plane.tiles[0])
        properties = tuple(each for each in properties if each.box.name == b"ispe")
        properties += tuple(each for each in _properties(codec, own) if each.box.name in (b"pixi", b"auxC"))
    references = ((b"dimg", tuple(range(first + 1, first + 1 + len(tiles)))),)
    return [_Part(b"grid", meta.content(item, MAX_PROPERTY), properties, references), *tiles]


def _properties(codec: Codec, item: Item) -> tuple[Property, ...]:
    for each in item.properties:
        if each.essential and each.box.name not in codec.needed | codec.done_here:
            name = each.box.name.decode("latin-1")
            raise UnsupportedFormatError(f"{codec.name} images with the essential property {name!r} are not supported")
        if each.box.name in codec.needed and len(each.box.payload) > MAX_PROPERTY and not _is_profile(each):
            raise TooComplexError(f"A property of the {codec.name} is too large", limit=MAX_PROPERTY)
    return tuple(each for each in item.properties if each.box.name in codec.needed and not _is_profile(each))


def _is_profile(each: Property) -> bool:
    return each.box.name == b"colr" and bytes(each.box.payload[:4]) != b"nclx"


def _box(name: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), name) + b"".join(parts)


def _head(codec: Codec, parts: list[_Part], offsets: Mapping[int, int]) -> bytes:
    """``ftyp`` and ``meta``; ``offsets``: the position of each content in the file, by its id."""
    numbered = list(enumerate(parts, 1))
    kinds = [  # the flag hides all items but the first, the image
        _box(b"infe", struct.pack(">IHH4sx", 2 << 24 | (number > 1), number, 0, part.kind)) for number, part in numbered
    ]
    places = [
        struct.pack(">HHHII", number, 0, 1, offsets[id(part.content)], len(part.content)) for number, part in numbered
    ]
    references = [
        _box(kind, struct.pack(f">HH{len(targets)}H", number, len(targets), *targets))
        for number, part in numbered
        for kind, targets in part.references
    ]
    count = struct.pack(">H", len(parts))
    full = b"\0\0\0\0"
    meta = (
        _box(b"hdlr", full, b"\0\0\0\0pict", bytes(13)),
        _box(b"pitm", full, struct.pack(">H", 1)),
        _box(b"iloc", full, b"\x44\0", count, *places),
        _box(b"iinf", full, count, *kinds),
        *([_box(b"iref", full, *references)] if references else []),
        _item_properties(parts),
    )
    return _box(b"ftyp", codec.brands) + _box(b"meta", full, *meta)


def _item_properties(parts: list[_Part]) -> bytes:
    """``iprp``: each property once, and the properties of each item (HEIF 9.3)."""
    numbers: dict[bytes, int] = {}
    belonging = []
    for number, part in enumerate(parts, 1):
        listed = []
        for each in part.properties:
            index = numbers.setdefault(_box(each.box.name, bytes(each.box.payload)), len(numbers) + 1)
            listed.append(index | 0x8000 * each.essential)
        belonging.append(struct.pack(f">HB{len(listed)}H", number, len(listed), *listed))
    table = _box(b"ipma", b"\0\0\0\1", struct.pack(">I", len(parts)), *belonging)
    return _box(b"iprp", _box(b"ipco", *numbers), table)
