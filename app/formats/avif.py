"""AVIF (AV1 Image File Format; HEIF, ISO/IEC 23008-12; ISO base media file format, 14496-12).

The boxes of ``meta`` are read here for the size, the limits and what is to be restored. Pillow (libavif) is given the
whole file: its offsets forbid taking it apart. libavif reads no Exif, profile or text when it makes pixels.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from app.errors import CorruptImageError, TooComplexError, UnsupportedFormatError
from app.formats.base import Container, DecodeLimits, ImageHeader, checked_profile, upright
from app.formats.ifd import Exif, read_exif
from app.formats.xmp import cleaned_xmp

MAX_BOXES = 1000  # at one level; a still picture has about ten
MAX_EXTENTS = 1000
MAX_METADATA = 1 << 20

_BRANDS = frozenset((b"avif", b"avis", b"mif1", b"msf1", b"miaf"))
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics (ITU-T H.273, table 3) of light far beyond a screen's white, which 8 bits cannot tell."""


class Box(NamedTuple):
    name: bytes
    payload: memoryview

    def inner(self, skipped: int = 0) -> "Iterator[Box]":
        return boxes(self.payload[skipped:])


class Item(NamedTuple):
    """Where an item's bytes lie, and its properties: numbers from 1 into the list of all."""

    kind: bytes
    extents: tuple[tuple[int, int], ...]
    properties: tuple[int, ...]


def is_avif(data: bytes) -> bool:
    """``ftyp`` with a brand of AVIF; HEIC shares the container and the generic brands, and is told by its own."""
    if data[4:8] != b"ftyp" or data[8:12] not in _BRANDS:
        return False
    end = min(int.from_bytes(data[:4]), 512)
    return any(data[at : at + 4] in (b"avif", b"avis") for at in range(8, end, 4))


def read_avif(data: bytes, limits: DecodeLimits) -> Container:
    meta = next((box for box in boxes(memoryview(data)) if box.name == b"meta"), None)
    if meta is None:
        raise CorruptImageError("The AVIF has no meta box")
    parts = {box.name: box for box in meta.inner(4)}
    if not {b"pitm", b"iinf", b"iloc", b"iprp"} <= set(parts):
        raise CorruptImageError("The AVIF lacks what its picture is made of")
    version = parts[b"pitm"].payload[0]
    (primary,) = struct.unpack_from(">I" if version else ">H", parts[b"pitm"].payload, 4)
    properties, belonging = _properties(parts[b"iprp"])
    items = _items(parts, belonging)
    own = {box.name: box for box in _owned(items, primary, properties)}
    if b"ispe" not in own:
        raise CorruptImageError("The AVIF does not tell its size")
    stored_width, stored_height = struct.unpack_from(">II", own[b"ispe"].payload, 4)
    limits.check(stored_width, stored_height)
    orientation = _orientation(own)
    width, height = upright(stored_width, stored_height, orientation)
    exif = _exif(data, items)
    return Container(
        header=ImageHeader(
            format="avif",
            width=width,
            height=height,
            gray=b"av1C" in own and bool(own[b"av1C"].payload[2] & 0x10),  # monochrome (AV1-ISOBMFF 2.3.3)
            has_alpha=_has_alpha(parts, items, primary, properties),
            orientation=orientation,
        ),
        stream=(data,),
        icc_profile=_colour(_owned(items, primary, properties)),
        exif=exif.block,
        dpi=exif.dpi,
        xmp=next((cleaned_xmp(_bytes(data, item)) for item in items.values() if item.kind == b"mime"), None),
    )


def boxes(view: memoryview) -> Iterator[Box]:
    """The boxes one after another: size, name, contents; size 1 means a longer size follows, 0 the rest."""
    position = count = 0
    while position + 8 <= len(view):
        size, name = struct.unpack_from(">I4s", view, position)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", view, position + 8)
            head = 16
        size = size or len(view) - position
        count += 1
        if size < head or count > MAX_BOXES:
            raise CorruptImageError("An AVIF box is smaller than its own head, or there are too many")
        yield Box(name, view[position + head : position + size])
        position += size


def _properties(iprp: Box) -> tuple[list[Box], dict[int, tuple[int, ...]]]:
    """All properties in order, and which of them belong to which item (HEIF 9.3)."""
    listed: list[Box] = []
    belonging: dict[int, tuple[int, ...]] = {}
    for box in iprp.inner():
        if box.name == b"ipco":
            listed = list(box.inner())
        if box.name == b"ipma":
            version, wide = box.payload[0], box.payload[3] & 1
            (count,) = struct.unpack_from(">I", box.payload, 4)
            position = 8
            for _ in range(min(count, MAX_BOXES)):
                (item,) = struct.unpack_from(">I" if version else ">H", box.payload, position)
                position += 4 if version else 2
                number = box.payload[position]
                found = struct.unpack_from(f">{number}{'H' if wide else 'B'}", box.payload, position + 1)
                position += 1 + number * (2 if wide else 1)
                belonging[item] = tuple(index & (0x7FFF if wide else 0x7F) for index in found)
    return listed, belonging


def _items(parts: dict[bytes, Box], belonging: dict[int, tuple[int, ...]]) -> dict[int, Item]:
    extents = _locations(parts[b"iloc"])
    items = {}
    payload = parts[b"iinf"].payload
    for box in boxes(payload[8 if payload[0] else 6 :]):
        if box.name == b"infe" and box.payload[0] >= 2:
            layout = ">IH4s" if box.payload[0] >= 3 else ">HH4s"
            number, _, kind = struct.unpack_from(layout, box.payload, 4)
            items[number] = Item(kind, extents.get(number, ()), belonging.get(number, ()))
    return items


def _locations(iloc: Box) -> dict[int, tuple[tuple[int, int], ...]]:
    """Item -> (offset, length) of its pieces in the file (ISOBMFF 8.11.3); those that lie elsewhere are left out."""
    payload, version = iloc.payload, iloc.payload[0]
    sizes = payload[4] >> 4, payload[4] & 15, payload[5] >> 4, payload[5] & 15 if version else 0
    position = 6

    def number(size: int) -> int:
        nonlocal position
        position += size
        if position > len(payload):
            raise struct.error("iloc ends early")
        return int.from_bytes(payload[position - size : position])

    offset_size, length_size, base_size, index_size = sizes
    found = {}
    for _ in range(min(number(4 if version == 2 else 2), MAX_BOXES)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)  # data reference: this file
        base, count = number(base_size), number(2)
        if count > MAX_EXTENTS:
            raise TooComplexError("An AVIF item has too many pieces", limit=MAX_EXTENTS, actual=count)
        extents = []
        for _ in range(count):
            number(index_size)
            extents.append((base + number(offset_size), number(length_size)))
        if method == 0:
            found[item] = tuple(extents)
    return found


def _owned(items: dict[int, Item], number: int, properties: list[Box]) -> list[Box]:
    if number not in items:
        raise CorruptImageError("The AVIF's picture is not among its items")
    return [properties[index - 1] for index in items[number].properties if 0 < index <= len(properties)]


def _has_alpha(parts: dict[bytes, Box], items: dict[int, Item], primary: int, properties: list[Box]) -> bool:
    """Whether an auxiliary item says that it is alpha and that it belongs to the picture."""
    if b"iref" not in parts:
        return False
    wide = parts[b"iref"].payload[0]
    for box in parts[b"iref"].inner(4):
        if box.name != b"auxl":
            continue
        source, count = struct.unpack_from(">IH" if wide else ">HH", box.payload)
        targets = struct.unpack_from(f">{count}{'I' if wide else 'H'}", box.payload, 6 if wide else 4)
        if primary in targets and source in items:
            kinds = [own.payload[4:] for own in _owned(items, source, properties) if own.name == b"auxC"]
            if any(bytes(kind).split(b"\0")[0] in _ALPHA for kind in kinds):
                return True
    return False


def _orientation(own: dict[bytes, Box]) -> int:
    """Rotation (counter-clockwise quarters), then mirror, as one orientation of Exif, which itself does not count here.

    HEIF 6.5.10 and 6.5.12: ``imir`` axis 0 swaps top and bottom, 1 left and right.
    """
    quarters = own[b"irot"].payload[0] & 3 if b"irot" in own else 0
    if b"imir" not in own:
        return (1, 8, 3, 6)[quarters]
    return ((4, 2), (5, 7), (2, 4), (7, 5))[quarters][own[b"imir"].payload[0] & 1]


def _colour(own: list[Box]) -> bytes | None:
    """The ICC profile. Light that no profile of ours tells is refused rather than shown wrongly."""
    profile = None
    for box in own:
        if box.name == b"colr" and bytes(box.payload[:4]) in (b"prof", b"rICC"):
            profile = checked_profile(bytes(box.payload[4:]))
        if box.name == b"colr" and bytes(box.payload[:4]) == b"nclx":
            (transfer,) = struct.unpack_from(">H", box.payload, 6)
            if transfer in _HDR:
                raise UnsupportedFormatError(f"This is an HDR picture ({_HDR[transfer]}); send a standard one")
    return profile


def _exif(data: bytes, items: dict[int, Item]) -> Exif:
    """An Exif item begins with the offset of its TIFF header (HEIF A.2.1)."""
    for item in items.values():
        if item.kind == b"Exif":
            block = _bytes(data, item)
            if len(block) > 4:
                return read_exif(block[4 + int.from_bytes(block[:4]) :])
    return Exif()


def _bytes(data: bytes, item: Item) -> bytes:
    if sum(length for _, length in item.extents) > MAX_METADATA:
        return b""
    return b"".join(data[offset : offset + length] for offset, length in item.extents)
