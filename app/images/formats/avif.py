"""AVIF (AV1 Image File Format; HEIF, ISO/IEC 23008-12; ISO base media file format, 14496-12).

What the boxes of ``meta`` tell is held against the AV1 streams themselves, of every tile and of alpha: libavif decodes
what the streams say. Pillow (libavif) is given another file, written by ``heif_stream``, with those items alone that
were looked at: no track, whose images it would prefer, no layer of another size, no Exif, profile or text.
"""

from PIL.AvifImagePlugin import AvifImageFile

from app.errors import CorruptImageError, TooManyPixelsError, UnsupportedFormatError
from app.images.code_points import UNSPECIFIED, CodePoints
from app.images.formats.av1 import read_av1
from app.images.formats.base import Container, DecodeLimits, ImageHeader, InputFormat, upright
from app.images.formats.heif import (
    alpha_of,
    contents_of,
    exif_in,
    has_brand,
    has_gain_map,
    orientation_of,
    plane_of,
    profile_in,
    size_of,
    xmp_in,
)
from app.images.formats.heif_stream import AVIF, Plane, write_heif
from app.images.formats.isobmff import Meta

_BRANDS = frozenset((b"avif", b"avis", b"mif1", b"msf1", b"miaf"))


def is_avif(data: bytes) -> bool:
    """``ftyp`` with a brand of AVIF; HEIC shares the container and the generic brands, and is told by its own."""
    return data[8:12] in _BRANDS and has_brand(data, b"avif", b"avis")


def read_avif(data: bytes, limits: DecodeLimits) -> Container:
    meta = Meta(data)
    primary = meta.item(meta.primary)
    stored_width, stored_height = size_of(primary)
    limits.check(stored_width, stored_height)
    colour = plane_of(AVIF, meta, meta.primary)
    alpha = alpha_of(AVIF, meta, colour)
    contents = contents_of(meta, (colour, alpha) if alpha else (colour,))
    if alpha:
        _check_streams(meta, alpha, contents, limits)
    points = _check_streams(meta, colour, contents, limits)
    orientation = orientation_of(primary)
    width, height = upright(stored_width, stored_height, orientation)
    exif = exif_in(meta)
    configuration = meta.item(colour.tiles[0]).property(b"av1C")
    gray = configuration is not None and bool(configuration[2] & 0x10)  # monochrome (AV1-ISOBMFF 2.3.3)
    return Container(
        header=ImageHeader(
            format="avif",
            width=width,
            height=height,
            gray=gray,
            has_alpha=alpha is not None,
            orientation=orientation,
            gain_map=has_gain_map(meta),
        ),
        stream=write_heif(AVIF, meta, colour, alpha, contents),
        icc_profile=profile_in(meta, colour, points, gray),
        exif=exif.block,
        exif_colour=exif.colour,
        dpi=exif.dpi,
        xmp=xmp_in(meta),
    )


def _check_streams(meta: Meta, plane: Plane, contents: dict[int, memoryview], limits: DecodeLimits) -> CodePoints:
    """What will be decoded for a plane, each image and all together; the colour that the first one tells."""
    total, points = 0, None
    for number in plane.tiles:
        item = meta.item(number)
        if item.kind != b"av01":
            raise UnsupportedFormatError("An AVIF with another codec than AV1 is not supported")
        stream = read_av1(contents[number], meta.count)
        points = points or CodePoints(*stream.points)
        for width, height in ((stream.width, stream.height), *stream.frames):
            limits.check(width, height)
        total += sum(width * height for width, height in stream.frames)
        layered = len(stream.frames) > 1 or item.property(b"lsel") or item.property(b"a1op")
        if not layered and size_of(item) != (stream.width, stream.height):
            raise CorruptImageError("The AVIF's image has a different size than its header says")
    if total > limits.max_pixels:
        detail = f"Tiles and layers of {total} pixels are more than the {limits.max_pixels} allowed"
        raise TooManyPixelsError(detail, limit=limits.max_pixels, actual=total)
    return points or CodePoints(UNSPECIFIED, UNSPECIFIED)


FORMAT = InputFormat(
    name="avif",
    suffixes=(".avif",),
    matches=is_avif,
    read=read_avif,
    plugin=AvifImageFile,
    copied=True,
)
