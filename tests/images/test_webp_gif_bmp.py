"""WebP, GIF and BMP: transparency, run lengths, chunks and extensions without end."""

import struct

import numpy as np
import pytest

from app.errors import (
    TooComplexError,
)
from app.images.decoder import inspect
from harness.files import (
    bmp_rle8,
    gif,
    gif_frame,
    saved,
    smooth,
)
from tests.support.decoding import LIMITS, SRGB, alpha, colour, decoded, pattern


def test_gif_with_transparency() -> None:
    control = b"!\xf9\x04\x01\0\0\x01\0"
    source = decoded(gif(2, 2, gif_frame(), before=control))
    assert alpha(source).tolist() == [[0, 0], [0, 0]], "outside the frame a GIF is transparent, if anything in it is"
    assert source.gray
    source = decoded(gif(1, 1, gif_frame(), before=b"!\xf9\x04\x01\0\0\x00\0"))
    assert alpha(source).tolist() == [[255]]
    assert colour(source).tolist() == [[[255, 255, 255]]]


def test_bmp_with_alpha_masks() -> None:
    pixels = pattern(3, 4, 4) | 1
    masks = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 124, 4, -3, 1, 32, 3, 48, 0, 0, 0, 0) + masks
    header = header.ljust(124, b"\0")
    source = decoded(b"BM" + struct.pack("<IHHI", 14 + 124 + 48, 0, 0, 138) + header + pixels.tobytes())
    np.testing.assert_array_equal(np.dstack([colour(source), alpha(source)]), pixels)


def test_run_length_bmp() -> None:
    source = decoded(bmp_rle8(4, 2, b"\x04\x10\0\0\x01\x20\x03\x30\0\x01"))
    blue = [[0x20, 0x30, 0x30, 0x30], [0x10] * 4]  # from the bottom row up
    assert colour(source)[:, :, 2].tolist() == blue


def test_run_length_bmp_bomb() -> None:
    with pytest.raises(TooComplexError):
        inspect(bmp_rle8(7000, 7000, b"\0\0" * 7000), LIMITS)


def test_gif_extensions_without_end() -> None:
    with pytest.raises(TooComplexError):
        inspect(gif(1, 1, gif_frame(), before=b"!\xfe\0" * 20_000), LIMITS)
    with pytest.raises(TooComplexError):
        inspect(gif(1, 1, gif_frame(), before=b"!\xfe" + b"\x01x" * 20_000 + b"\0"), LIMITS)


def test_webp_chunks_without_end() -> None:
    data = saved(smooth(), "webp", lossless=True, icc_profile=SRGB)
    body = data[12:30] + b"JUNK\0\0\0\0" * 2000 + data[30:]
    with pytest.raises(TooComplexError):
        inspect(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body, LIMITS)
