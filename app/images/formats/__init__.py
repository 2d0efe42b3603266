"""Readers of image headers, one per format; none of them needs Pillow.

Each reader parses the file far enough to know the size, the channels and the metadata, checks every limit, and names
the ``stream``: the only parts of the file that Pillow decodes. Pillow thus never sees text chunks, Exif, profiles,
later frames or trailing data. Bombs hidden in them cannot go off, Pillow cannot warn about them (which no thread can
silence for itself alone), and it cannot decode another image of the file than the one whose size was checked.

Headers are untrusted. Every count is bounded in total, not per part; what is not used is neither unpacked nor
inflated; and if a header states a size twice, the one that the codec uses is checked.
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
"""Every input format by its name."""

SUFFIXES = frozenset(suffix for each in INPUTS.values() for suffix in each.suffixes)
"""Suffixes of the files that are looked for in a folder. The format of a file is detected from its content."""


def sniff(data: bytes) -> InputFormat:
    """The format, detected from the signature; names and declared types are ignored."""
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
    """Parses a file and checks every limit. Raises only the public errors of ``app.errors``."""
    reader = sniff(data).read
    try:
        return settled(reader(data, limits))
    except (IndexError, struct.error) as error:
        raise CorruptImageError("The file ends before its header does, or its header contradicts itself") from error
