"""What an image file says before a pixel of it is decoded: one reader a format, none of which needs Pillow.

Each reader takes the file apart far enough to know the size, the channels and the metadata, checks every limit, and
names the ``stream``: the parts of the file from which Pillow is to make the pixels, and nothing else. Pillow thus never
sees text chunks, Exif, profiles, later frames or trailing data. So bombs hidden in them cannot go off, Pillow's
warnings about them (which no thread can silence for itself alone) cannot arise, and it cannot read another image out
of the file than the one whose size was checked.

A header is a stranger's. Whatever it counts is bounded in all and not a part at a time; what is not used is neither
unpacked nor inflated; and where it tells the size twice, the one that the codec goes by is checked.
"""

import struct
from collections.abc import Mapping

from app.errors import CorruptImageError, EmptyImageError, UnsupportedFormatError
from app.images.formats import avif, bmp, gif, heic, jpeg, png, tiff, webp
from app.images.formats.base import Block, Bytewise, Container, DecodeLimits, ImageHeader, InputFormat
from app.images.formats.profile import settled
from app.images.formats.xmp import enlarged_xmp

__all__ = [
    "INPUTS",
    "SUFFIXES",
    "Block",
    "Bytewise",
    "Container",
    "DecodeLimits",
    "ImageHeader",
    "InputFormat",
    "enlarged_xmp",
    "read_container",
    "sniff",
]

_FORMATS = (png, jpeg, webp, avif, bmp, tiff, gif, *((heic,) if heic.AVAILABLE else ()))
INPUTS: Mapping[str, InputFormat] = {each.name: each for each in (module.FORMAT for module in _FORMATS)}
"""Every format that is read, by its name."""

SUFFIXES = frozenset(suffix for each in INPUTS.values() for suffix in each.suffixes)
"""Of the files that are looked for in a folder. What is in one is detected from its content."""


def sniff(data: bytes) -> InputFormat:
    """The format by its signature alone: neither a name nor a declared type is asked."""
    if not data:
        raise EmptyImageError("The image has no bytes")
    for each in INPUTS.values():
        if each.matches(data):
            return each
    accepted = ", ".join(name.upper() for name in INPUTS)
    if heic.is_heic(data):
        detail = f"HEIC needs the extra `heif` (pip install enlarger[heif]), which this service lacks; send {accepted}"
        raise UnsupportedFormatError(detail)
    raise UnsupportedFormatError(f"This is none of the formats accepted: {accepted}")


def read_container(data: bytes, limits: DecodeLimits) -> Container:
    """Take a file apart and check every limit. Raises the public errors of ``app.errors`` only."""
    reader = sniff(data).read
    try:
        return settled(reader(data, limits))
    except (IndexError, struct.error) as error:
        raise CorruptImageError("The file ends before its header does, or its header contradicts itself") from error
