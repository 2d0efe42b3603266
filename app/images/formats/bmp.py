"""BMP (Microsoft's BITMAPFILEHEADER and BITMAPCOREHEADER to BITMAPV5HEADER)."""

import struct

from PIL.BmpImagePlugin import BmpImageFile

from app.errors import TooComplexError
from app.images.formats.base import (
    Container,
    DecodeLimits,
    ImageHeader,
    InputFormat,
    checked_profile,
    is_gray_palette,
)
from app.images.formats.ifd import plausible_dpi

MAX_RLE_PIXELS = 4_000_000
"""For run-length encoded files: Pillow expands those in Python, at up to 100 ns per pixel."""

_CORE = 12
_HEADER_SIZES = frozenset((_CORE, 40, 52, 56, 64, 108, 124))
_BITFIELDS, _RLE = 3, (1, 2)


def is_bmp(data: bytes) -> bool:
    """Many texts begin with ``BM``, so the size of the second header is checked too, if it is there."""
    return data[:2] == b"BM" and (len(data) < 18 or struct.unpack_from("<I", data, 14)[0] in _HEADER_SIZES)


def read_bmp(data: bytes, limits: DecodeLimits) -> Container:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = x_density = y_density = colours = 0
    else:
        fields = struct.unpack_from("<IiHHIIiiI", data, 18)
        width, height, _, bits, compression, _, x_density, y_density, colours = fields
        height = abs(height)  # negative: the top row comes first
    limits.check(width, height)
    if compression in _RLE and width * height > MAX_RLE_PIXELS:
        detail = "The BMP is run-length encoded and too large for that"
        raise TooComplexError(detail, limit=MAX_RLE_PIXELS, actual=width * height)
    stride = 3 if header_size == _CORE else 4
    start = 14 + header_size
    # As many as an index can address; a header may claim four thousand million.
    palette = data[start : start + stride * min(colours or 1 << bits, 1 << bits)] if bits <= 8 else b""
    return Container(
        header=ImageHeader(
            format="bmp",
            width=width,
            height=height,
            gray=bits <= 8 and is_gray_palette(palette, stride),
            has_alpha=compression == _BITFIELDS and bits == 32 and _has_alpha_mask(data, header_size),
        ),
        stream=(data,),
        icc_profile=_profile(data, header_size),
        dpi=plausible_dpi(x_density * 0.0254, y_density * 0.0254),  # stored as pixels per metre
    )


def _profile(data: bytes, header_size: int) -> bytes | None:
    """The embedded profile of a BITMAPV5HEADER. Browsers ignore its own gamma and primaries."""
    if header_size < 124 or data[70:74] != b"DEBM":  # PROFILE_EMBEDDED, "MBED"
        return None
    offset, size = struct.unpack_from("<2I", data, 126)
    return checked_profile(data[14 + offset : 14 + offset + size])


def _has_alpha_mask(data: bytes, header_size: int) -> bool:
    """BITMAPV3HEADER and later have four masks; if none is set, Pillow takes the fourth byte for alpha."""
    if header_size < 56:
        return False
    *colour, alpha = struct.unpack_from("<4I", data, 54)
    return alpha != 0 or not any(colour)


FORMAT = InputFormat(
    name="bmp",
    suffixes=(".bmp",),
    matches=is_bmp,
    read=read_bmp,
    plugin=BmpImageFile,
)
