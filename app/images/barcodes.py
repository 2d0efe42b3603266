"""QR codes and bar codes in an image, read before and after it is enlarged (``decode=true``)."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from app.errors import CodesUnavailableError, TooManyPixelsError
from app.images.channels import at_depth
from app.images.decoder import DecodeLimits, SourceImage, decode

AVAILABLE = find_spec("zxingcpp") is not None  # the extra "codes" is installed
MAX_PIXELS = 4_000_000  # of the result: it is computed whole before the first byte, so it must be small
MAX_HEADER = 640
"""Bytes of one header that lists codes. There are two of them, and proxies allow 4 KiB for all headers of a response.
"""
_CUT = quote("…")  # marks a text or a list that was truncated


def check_readable(height: int, width: int) -> None:
    """Refuses ``decode=true`` if the result is too large to be computed before its headers are sent, or no reader is
    installed."""
    if not AVAILABLE:
        raise CodesUnavailableError("No bar code reader is installed here (pip install enlarger[codes]).")
    if height * width > MAX_PIXELS:
        raise TooManyPixelsError(
            "With decode=true the result is read before it is sent, so its number of pixels is limited.",
            limit=MAX_PIXELS,
            actual=height * width,
        )


def read_codes(pixels: NDArray[np.uint8 | np.uint16]) -> tuple[str, ...]:
    """The texts that ZXing reads in an image, uint8 ``[H, W, 3]`` or ``[H, W]``, in its order, no duplicates."""
    import zxingcpp  # an extra; without it decode=true is refused

    found = zxingcpp.read_barcodes(np.ascontiguousarray(pixels))
    return tuple(dict.fromkeys(code.text for code in found if code.valid and code.text))


def header_value(codes: Sequence[str]) -> str:
    """Texts as a header value: UTF-8, percent-encoded (RFC 3986, 2.1) so that a comma can only be a separator; empty
    for none.

    A value longer than ``MAX_HEADER`` is truncated between two characters and ends in an ellipsis.
    """
    told = ""
    for number, code in enumerate(codes):
        for character in ("" if number == 0 else ", ", *code):
            encoded = character if character == ", " else quote(character, safe="")
            if len(told) + len(encoded) + len(_CUT) > MAX_HEADER:
                return told.removesuffix(", ") + _CUT
            told += encoded
    return told


def read_when_whole(pieces: Iterator[bytes], tell: Callable[[tuple[str, ...]], None]) -> Iterator[bytes]:
    """All pieces of a file as one, after ``tell`` was called with the codes in its image."""
    data = b"".join(pieces)
    # Our own decoder scales every depth to 8 bits by its range.
    tell(codes_of(decode(data, DecodeLimits(MAX_PIXELS, MAX_PIXELS))))
    yield data


def codes_of(source: SourceImage) -> tuple[str, ...]:
    """The codes in a decoded image of any depth."""
    return read_codes(at_depth(source.rows(0, source.height), 8))
