"""AVIF (AV1 Image File Format; HEIF, ISO/IEC 23008-12; ISO base media file format, 14496-12).

The boxes of ``meta`` are checked against the AV1 streams themselves, for every tile and for alpha, because libavif
decodes what the streams say. Pillow (libavif) is given a new file, written by ``heif_stream``, that holds only the
checked items: no track, whose images it would prefer, no layer of another size, no Exif, profile or text.
"""

from collections.abc import Mapping

from PIL.AvifImagePlugin import AvifImageFile

from app.errors import CorruptImageError, TooManyPixelsError, UnsupportedFormatError
from app.images.code_points import UNSPECIFIED, CodePoints
from app.images.formats.av1 import read_av1
from app.images.formats.base import Container, DecodeLimits, InputFormat
from app.images.formats.heif import Coding, has_brand, read_heif, size_of
from app.images.formats.heif_stream import AVIF, Plane
from app.images.formats.isobmff import Meta

_BRANDS = frozenset((b"avif", b"avis", b"mif1", b"msf1", b"miaf"))


def is_avif(data: bytes) -> bool:
    """Whether ``ftyp`` has a brand of AVIF. HEIC shares the container and the generic brands, and is recognised by
    its own."""
    return data[8:12] in _BRANDS and has_brand(data, b"avif", b"avis")


def read_avif(data: bytes, limits: DecodeLimits) -> Container:
    return read_heif("avif", AVIF, data, limits, check_streams)


def check_streams(meta: Meta, plane: Plane, contents: Mapping[int, memoryview], limits: DecodeLimits) -> Coding:
    """Checks what will be decoded for a plane, each image and all together."""
    total, held, points = 0, 0.0, None
    for number in plane.tiles:
        item = meta.item(number)
        if item.kind != AVIF.item:
            raise UnsupportedFormatError("An AVIF with another codec than AV1 is not supported")
        stream = read_av1(contents[number], meta.count)
        points = points or CodePoints(*stream.points)  # those of the first tile count
        for width, height in ((stream.width, stream.height), *stream.frames):
            limits.check(width, height)
        pixels = sum(width * height for width, height in stream.frames)
        total, held = total + pixels, held + pixels * stream.pixel_bytes
        layered = len(stream.frames) > 1 or item.property(b"lsel") or item.property(b"a1op")
        if not layered and size_of(item) != (stream.width, stream.height):
            raise CorruptImageError("The AVIF's image has a different size than its header says")
    if total > limits.max_pixels:
        detail = f"Tiles and layers of {total} pixels are more than the {limits.max_pixels} allowed"
        raise TooManyPixelsError(detail, limit=limits.max_pixels, actual=total)
    configuration = meta.item(plane.tiles[0]).property(b"av1C")
    gray = configuration is not None and bool(configuration[2] & 0x10)  # monochrome (AV1-ISOBMFF 2.3.3)
    return Coding(gray, points or CodePoints(UNSPECIFIED, UNSPECIFIED), held)


FORMAT = InputFormat(
    name="avif",
    suffixes=(".avif",),
    matches=is_avif,
    read=read_avif,
    plugin=AvifImageFile,
    copied=True,
)
