"""AVIF (AV1 Image File Format; HEIF, ISO/IEC 23008-12; ISO base media file format, 14496-12).

What the boxes of ``meta`` tell is held against the AV1 streams themselves, of every tile and of alpha: libavif decodes
what the streams say. Pillow (libavif) is given another file, written by ``avif_stream``, with those items alone that
were looked at: no track, whose pictures it would prefer, no layer of another size, no Exif, profile or text.
"""

import struct
from collections.abc import Iterable

from PIL.AvifImagePlugin import AvifImageFile

from app.errors import CorruptImageError, TooManyPixelsError, UnsupportedFormatError
from app.images.formats.av1 import read_av1
from app.images.formats.avif_stream import Plane, write_avif
from app.images.formats.base import Container, DecodeLimits, ImageHeader, InputFormat, checked_profile, upright
from app.images.formats.ifd import Exif, read_exif
from app.images.formats.isobmff import Box, Item, Meta
from app.images.formats.xmp import cleaned_xmp

MAX_TILES = 256  # of 512 x 512: 67 million pixels
MAX_METADATA = 1 << 20

_BRANDS = frozenset((b"avif", b"avis", b"mif1", b"msf1", b"miaf"))
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics (ITU-T H.273, table 3) of light far beyond a screen's white, which 8 bits cannot tell."""


def is_avif(data: bytes) -> bool:
    """``ftyp`` with a brand of AVIF; HEIC shares the container and the generic brands, and is told by its own."""
    if data[4:8] != b"ftyp" or data[8:12] not in _BRANDS:
        return False
    end = min(int.from_bytes(data[:4]), 512)
    return any(data[at : at + 4] in (b"avif", b"avis") for at in range(8, end, 4))


def read_avif(data: bytes, limits: DecodeLimits) -> Container:
    meta = Meta(data)
    primary = meta.item(meta.primary)
    stored_width, stored_height = _size(primary)
    limits.check(stored_width, stored_height)
    colour = _plane(meta, meta.primary)
    alpha = _alpha(meta, colour)
    contents = _contents(meta, (colour, alpha) if alpha else (colour,))
    for plane in (colour, alpha) if alpha else (colour,):
        _check_streams(meta, plane, contents, limits)
    orientation = _orientation(primary)
    width, height = upright(stored_width, stored_height, orientation)
    exif = _exif(meta)
    configuration = meta.item(colour.tiles[0]).property(b"av1C")
    return Container(
        header=ImageHeader(
            format="avif",
            width=width,
            height=height,
            gray=configuration is not None and bool(configuration[2] & 0x10),  # monochrome (AV1-ISOBMFF 2.3.3)
            has_alpha=alpha is not None,
            orientation=orientation,
        ),
        stream=write_avif(meta, colour, alpha, contents),
        icc_profile=_colour(each.box for each in primary.properties),
        exif=exif.block,
        dpi=exif.dpi,
        xmp=_xmp(meta),
    )


def _size(item: Item) -> tuple[int, int]:
    size = item.property(b"ispe")
    if size is None:
        raise CorruptImageError("The AVIF does not tell its size")
    width, height = struct.unpack_from(">II", size, 4)
    return width, height


def _plane(meta: Meta, number: int) -> Plane:
    """An item that is one picture, or a grid of them (HEIF 6.6.2.3)."""
    item = meta.item(number)
    if item.kind == b"av01":
        return Plane(number, (number,))
    if item.kind != b"grid":
        raise UnsupportedFormatError(f"An AVIF made by way of {item.kind.decode('latin-1')!r} is not supported")
    grid = meta.content(item, MAX_METADATA)
    rows, columns = grid[2] + 1, grid[3] + 1
    size = struct.unpack_from(">II" if grid[1] & 1 else ">HH", grid, 4)
    tiles = meta.targets(b"dimg", number)
    if len(tiles) != rows * columns or len(tiles) > MAX_TILES or size != _size(item):
        raise CorruptImageError(
            f"The AVIF's grid of {columns} x {rows} does not fit its {len(tiles)} tiles or its size"
        )
    return Plane(number, tiles)


def _alpha(meta: Meta, colour: Plane) -> Plane | None:
    """The item of the whole picture's alpha, or the grid of alphas of its tiles."""
    alphas = {
        target: each.source
        for each in meta.references
        if each.kind == b"auxl" and _is_alpha(meta.item(each.source))
        for target in each.targets
    }
    if colour.item in alphas:
        return _plane(meta, alphas[colour.item])
    if colour.is_grid and all(tile in alphas for tile in colour.tiles):
        return Plane(None, tuple(alphas[tile] for tile in colour.tiles))
    return None


def _is_alpha(item: Item) -> bool:
    kind = item.property(b"auxC")
    return kind is not None and bytes(kind[4:104]).split(b"\0")[0] in _ALPHA


def _contents(meta: Meta, planes: Iterable[Plane]) -> dict[int, memoryview]:
    """The bytes of each tile. All together are no more than the file: pieces may be used twice, but not half of one."""
    numbers = {tile for plane in planes for tile in plane.tiles}
    extents = {meta.item(number).extents for number in numbers}
    if sum(length for each in extents for _, length in each) > len(meta.data):
        raise CorruptImageError("The AVIF's pictures are larger than the file")
    read: dict[tuple[tuple[int, int], ...], memoryview] = {}
    for number in numbers:
        item = meta.item(number)
        if item.extents not in read:
            read[item.extents] = meta.content(item, len(meta.data))
    return {number: read[meta.item(number).extents] for number in numbers}


def _check_streams(meta: Meta, plane: Plane, contents: dict[int, memoryview], limits: DecodeLimits) -> None:
    """What will be decoded for a plane, each picture and all together."""
    total = 0
    for number in plane.tiles:
        item = meta.item(number)
        if item.kind != b"av01":
            raise UnsupportedFormatError("An AVIF of anything but AV1 is not supported")
        stream = read_av1(contents[number], meta.count)
        for width, height in ((stream.width, stream.height), *stream.frames):
            limits.check(width, height)
        total += sum(width * height for width, height in stream.frames)
        layered = len(stream.frames) > 1 or item.property(b"lsel") or item.property(b"a1op")
        if not layered and _size(item) != (stream.width, stream.height):
            raise CorruptImageError("The AVIF's picture has another size than its header says")
    if total > limits.max_pixels:
        detail = f"Tiles and layers of {total} pixels are more than the {limits.max_pixels} allowed"
        raise TooManyPixelsError(detail, limit=limits.max_pixels, actual=total)


def _orientation(item: Item) -> int:
    """Rotation (counter-clockwise quarters), then mirror, as one orientation of Exif, which itself does not count here.

    HEIF 6.5.10 and 6.5.12: ``imir`` axis 0 swaps top and bottom, 1 left and right.
    """
    rotation, mirror = item.property(b"irot"), item.property(b"imir")
    quarters = rotation[0] & 3 if rotation else 0
    if not mirror:
        return (1, 8, 3, 6)[quarters]
    return ((4, 2), (5, 7), (2, 4), (7, 5))[quarters][mirror[0] & 1]


def _colour(own: Iterable[Box]) -> bytes | None:
    """The ICC profile. Light that no profile of ours tells is refused rather than shown wrongly."""
    profile = None
    for box in own:
        if box.name == b"colr" and bytes(box.payload[:4]) in (b"prof", b"rICC"):
            profile = checked_profile(box.payload[4:])
        if box.name == b"colr" and bytes(box.payload[:4]) == b"nclx":
            (transfer,) = struct.unpack_from(">H", box.payload, 6)
            if transfer in _HDR:
                raise UnsupportedFormatError(f"This is an HDR picture ({_HDR[transfer]}); send a standard one")
    return profile


def _exif(meta: Meta) -> Exif:
    """An Exif item begins with the offset of its TIFF header (HEIF A.2.1)."""
    item = next((item for item in meta.items.values() if item.kind == b"Exif"), None)
    block = meta.content(item, MAX_METADATA) if item else b""
    return read_exif(block[4 + int.from_bytes(block[:4]) :]) if len(block) > 4 else Exif()


def _xmp(meta: Meta) -> bytes | None:
    item = next((item for item in meta.items.values() if item.kind == b"mime"), None)
    return cleaned_xmp(meta.content(item, MAX_METADATA)) if item else None


FORMAT = InputFormat(
    name="avif",
    suffixes=(".avif",),
    matches=is_avif,
    read=read_avif,
    plugin=AvifImageFile,
    copied=True,
)
