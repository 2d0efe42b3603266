"""What an image file says before a pixel of it is decoded: one reader a format, none of which needs Pillow.

Each reader takes the file apart far enough to know the size, the channels and the metadata, checks every limit, and
names the ``stream``: the parts of the file from which Pillow is to make the pixels, and nothing else. Pillow thus never
sees text chunks, Exif, profiles, later frames or trailing data. So bombs hidden in them cannot go off, Pillow's
warnings about them (which no thread can silence for itself alone) cannot arise, and it cannot read another picture out
of the file than the one whose size was checked.

A header is a stranger's. Whatever it counts is bounded in all and not a part at a time; what is not used is neither
unpacked nor inflated; and where it tells the size twice, the one that the codec goes by is checked.
"""

import struct
from collections.abc import Callable, Mapping

from app.errors import CorruptImageError, EmptyImageError, UnsupportedFormatError
from app.images.formats.avif import is_avif, read_avif
from app.images.formats.base import Bytewise, Container, DecodeLimits, Format, ImageHeader
from app.images.formats.bmp import is_bmp, read_bmp
from app.images.formats.gif import read_gif
from app.images.formats.jpeg import read_jpeg
from app.images.formats.png import read_png
from app.images.formats.tiff import read_tiff
from app.images.formats.webp import read_webp
from app.images.formats.xmp import enlarged_xmp

__all__ = [
    "READERS",
    "SUFFIXES",
    "Bytewise",
    "Container",
    "DecodeLimits",
    "Format",
    "ImageHeader",
    "enlarged_xmp",
    "read_container",
    "sniff",
]

READERS: Mapping[Format, Callable[[bytes, DecodeLimits], Container]] = {
    "png": read_png,
    "jpeg": read_jpeg,
    "webp": read_webp,
    "avif": read_avif,
    "bmp": read_bmp,
    "tiff": read_tiff,
    "gif": read_gif,
}

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif"))
"""Of the files that are looked for in a folder. What is in one is told by its content."""

_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
)


def sniff(data: bytes) -> Format:
    """The format by its signature alone: neither a name nor a declared type is asked."""
    if not data:
        raise EmptyImageError("The image has no bytes")
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if is_avif(data):
        return "avif"
    if is_bmp(data):
        return "bmp"
    accepted = ", ".join(name.upper() for name in READERS)
    raise UnsupportedFormatError(f"This is none of the formats accepted: {accepted}")


def read_container(data: bytes, limits: DecodeLimits) -> Container:
    """Take a file apart and check every limit. Raises the public errors of ``app.errors`` only."""
    reader = READERS[sniff(data)]
    try:
        return reader(data, limits)
    except (IndexError, struct.error) as error:
        raise CorruptImageError("The file ends before its header does, or its header contradicts itself") from error
