"""The reader that AVIF and HEIC share as kinds of HEIF (ISO/IEC 23008-12): size, grid, alpha, orientation, colour,
metadata."""

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from app.errors import CorruptImageError, UnsupportedFormatError
from app.images.code_points import CodePoints, check_standard_light, profile_of
from app.images.formats.base import Container, DecodeLimits, ImageHeader, checked_profile, upright
from app.images.formats.heif_stream import Codec, Plane, write_heif
from app.images.formats.ifd import Exif, read_exif
from app.images.formats.isobmff import Item, Meta
from app.images.formats.xmp import cleaned_xmp
from app.images.icc import plausible_profile

MAX_TILES = 256  # of 512 x 512: 67 million pixels
MAX_METADATA = 1 << 20
RGBA_BYTES = 8  # per pixel, besides the decoded planes: what the library and Pillow make of them, at a time

_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_GAIN_MAPS = (b"urn:com:apple:photo:2020:aux:hdrgainmap",)
_TONE_MAPPED = b"tmap"  # ISO 21496-1: an item derived from an image and its gain map


class Coding(NamedTuple):
    """What the streams of a plane say of its samples.

    ``held``: bytes of the planes while they are decoded. ``is_deep``: decoded to 16 bits, unless there is alpha.
    """

    gray: bool
    points: CodePoints
    held: float
    is_deep: bool = False


CheckStreams = Callable[[Meta, Plane, Mapping[int, memoryview], DecodeLimits], Coding]
"""Checks the streams of a plane, by tile, against its boxes and the limits."""


def read_heif(
    name: str,
    codec: Codec,
    data: bytes,
    limits: DecodeLimits,
    check_streams: CheckStreams,
    shown_size: Callable[[Item], tuple[int, int]] | None = None,
) -> Container:
    """Reads a HEIF of one codec. ``shown_size``: the size that the library shows, if it crops."""
    meta = Meta(data)
    primary = meta.item(meta.primary)
    limits.check(*size_of(primary))
    colour = plane_of(codec, meta, meta.primary)
    alpha = alpha_of(codec, meta, colour)
    planes = (colour, alpha) if alpha else (colour,)
    contents = contents_of(meta, planes)
    codings = [check_streams(meta, plane, contents, limits) for plane in planes]
    coding, pixels = codings[0], math.prod(size_of(primary))
    limits.check_memory(pixels, sum(each.held for each in codings) / pixels + RGBA_BYTES)
    orientation = orientation_of(primary)
    width, height = upright(*(shown_size or size_of)(primary), orientation)
    depth: Literal[8, 16] = 16 if coding.is_deep and alpha is None else 8
    exif = exif_in(meta)
    return Container(
        header=ImageHeader(
            format=name,
            width=width,
            height=height,
            gray=coding.gray,
            has_alpha=alpha is not None,
            bits=depth,
            depth=depth,
            orientation=orientation,
            gain_map=has_gain_map(meta),
        ),
        stream=write_heif(codec, meta, colour, alpha, contents),
        icc_profile=profile_in(meta, colour, coding.points, coding.gray),
        exif=exif.block,
        exif_colour=exif.colour,
        dpi=exif.dpi,
        xmp=xmp_in(meta),
    )


def has_brand(data: bytes, *brands: bytes) -> bool:
    """Whether ``ftyp`` names one of these brands, as the major one or a compatible one."""
    end = min(int.from_bytes(data[:4]), 512)
    return data[4:8] == b"ftyp" and any(data[at : at + 4] in brands for at in (8, *range(16, end, 4)))


def size_of(item: Item) -> tuple[int, int]:
    size = item.property(b"ispe")
    if size is None:
        raise CorruptImageError("The image does not state its size")
    width, height = struct.unpack_from(">II", size, 4)
    return width, height


def plane_of(codec: Codec, meta: Meta, number: int) -> Plane:
    """An item that is a single image, or a grid of them (HEIF 6.6.2.3)."""
    item = meta.item(number)
    if item.kind == codec.item:
        return Plane(number, (number,))
    if item.kind != b"grid":
        kind = item.kind.decode("latin-1")
        raise UnsupportedFormatError(f"{codec.name} images derived by {kind!r} are not supported")
    grid = meta.content(item, MAX_METADATA)
    rows, columns = grid[2] + 1, grid[3] + 1
    size = struct.unpack_from(">II" if grid[1] & 1 else ">HH", grid, 4)
    tiles = meta.targets(b"dimg", number)
    if len(tiles) != rows * columns or len(tiles) > MAX_TILES or size != size_of(item):
        raise CorruptImageError(f"A grid of {columns} x {rows} does not match its {len(tiles)} tiles or its size")
    return Plane(number, tiles)


def alpha_of(codec: Codec, meta: Meta, colour: Plane) -> Plane | None:
    """The alpha item of the whole image, or the grid of its tiles' alphas."""
    alphas = {
        target: each.source
        for each in meta.references
        if each.kind == b"auxl" and _is_alpha(meta.item(each.source))
        for target in each.targets
    }
    if colour.item in alphas:
        return plane_of(codec, meta, alphas[colour.item])
    if colour.is_grid and all(tile in alphas for tile in colour.tiles):
        return Plane(None, tuple(alphas[tile] for tile in colour.tiles))
    return None


def _is_alpha(item: Item) -> bool:
    return _auxiliary_kind(item) in _ALPHA


def has_gain_map(meta: Meta) -> bool:
    return any(item.kind == _TONE_MAPPED or _auxiliary_kind(item) in _GAIN_MAPS for item in meta.items.values())


def _auxiliary_kind(item: Item) -> bytes:
    kind = item.property(b"auxC")
    return b"" if kind is None else bytes(kind[4:104]).split(b"\0")[0]


def contents_of(meta: Meta, planes: Iterable[Plane]) -> dict[int, memoryview]:
    """The bytes of each tile. Their total must not exceed the file: tiles may share extents, but not overlap in
    part. None may be truncated, because a decoder would invent the missing pixels."""
    numbers = {tile for plane in planes for tile in plane.tiles}
    extents = {meta.item(number).extents for number in numbers}
    if any(offset + length > len(meta.data) for each in extents for offset, length in each):
        raise CorruptImageError("The file ends before its image does")
    if sum(length for each in extents for _, length in each) > len(meta.data):
        raise CorruptImageError("The images are larger than the file")
    read: dict[tuple[tuple[int, int], ...], memoryview] = {}
    for number in numbers:
        item = meta.item(number)
        if item.extents not in read:
            read[item.extents] = meta.content(item, len(meta.data))
    return {number: read[meta.item(number).extents] for number in numbers}


def orientation_of(item: Item) -> int:
    """Rotation (counter-clockwise quarter turns), then mirror, as one Exif orientation. Exif's own is ignored here.

    HEIF 6.5.10 and 6.5.12: ``imir`` axis 0 swaps top and bottom, 1 left and right.
    """
    rotation, mirror = item.property(b"irot"), item.property(b"imir")
    quarters = rotation[0] & 3 if rotation else 0
    if not mirror:
        return (1, 8, 3, 6)[quarters]
    return ((4, 2), (5, 7), (2, 4), (7, 5))[quarters][mirror[0] & 1]


def profile_in(meta: Meta, colour: Plane, points: CodePoints, gray: bool) -> bytes | None:
    """The ICC profile or, if there is none, the equivalent of the code points in ``nclx`` or else in the stream.

    Raises ``UnsupportedFormatError`` for HDR, even if there is a profile, and for curves that no profile here
    expresses.
    """
    profile = told = None
    whole = meta.item(meta.primary)
    item = whole if whole.property(b"colr") else meta.item(colour.tiles[0])
    for box in (each.box for each in item.properties):
        if box.name == b"colr" and bytes(box.payload[:4]) in (b"prof", b"rICC"):
            profile = profile or plausible_profile(checked_profile(box.payload[4:]))
        if box.name == b"colr" and bytes(box.payload[:4]) == b"nclx":
            told = told or CodePoints(*struct.unpack_from(">HH", box.payload, 4))
    check_standard_light((told or points).transfer)
    return profile or profile_of(told or points, gray)


def exif_in(meta: Meta) -> Exif:
    """An Exif item begins with the offset of its TIFF header (A.2.1)."""
    item = _describing(meta, b"Exif")
    block = meta.content(item, MAX_METADATA) if item else b""
    return read_exif(block[4 + int.from_bytes(block[:4]) :]) if len(block) > 4 else Exif()


def xmp_in(meta: Meta) -> bytes | None:
    item = _describing(meta, b"mime")
    return cleaned_xmp(meta.content(item, MAX_METADATA)) if item else None


def _describing(meta: Meta, kind: bytes) -> Item | None:
    """The item of that kind that describes the image rather than its depth or gain map; else the first one of that
    kind."""
    described = {each.source for each in meta.references if each.kind == b"cdsc" and meta.primary in each.targets}
    numbers = [number for number, item in meta.items.items() if item.kind == kind]
    return next((meta.items[number] for number in sorted(numbers, key=lambda each: each not in described)), None)
