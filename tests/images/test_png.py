"""PNG: few bits and many, keyed colours, animations, bombs."""

import struct
import tracemalloc
import zlib
from collections.abc import Iterable

import numpy as np
import pytest

from app.errors import (
    CorruptImageError,
    TooComplexError,
)
from app.images.decoder import decode, inspect
from harness.files import (
    BOMB,
    DEEP,
    chunk,
    frames,
    ihdr,
    png,
    saved,
)
from tests.support.decoding import LIMITS, alpha, colour, decoded, gray3


@pytest.mark.parametrize(("bits", "levels"), [(1, (0, 255)), (2, (0, 85, 170, 255)), (4, range(0, 256, 17))])
def test_png_of_few_bits_with_a_transparent_gray(bits: int, levels: Iterable[int]) -> None:
    levels = list(levels)
    count = len(levels)
    row = int("".join(f"{value:0{bits}b}" for value in range(count)).ljust(8 * -(-count * bits // 8), "0"), 2)
    raw = b"\0" + row.to_bytes(-(-count * bits // 8), "big")
    source = decoded(png(ihdr(count, 1, bits, 0), raw, chunk(b"tRNS", struct.pack(">H", count - 1))))
    assert alpha(source).tolist() == [[255] * (count - 1) + [0]]
    assert colour(source)[0, : count - 1, 0].tolist() == levels[:-1]


def test_16_bit_gray_png_keeps_its_samples() -> None:
    source = decoded(png(ihdr(6, 2, 16, 0), b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)))
    np.testing.assert_array_equal(colour(source), gray3(DEEP))
    assert (source.gray, source.depth, colour(source).dtype) == (True, 16, np.uint16)
    assert inspect(png(ihdr(6, 2, 16, 0), b""), LIMITS).bits == 16


def test_16_bit_is_told_by_the_header_not_by_the_pixels() -> None:
    """A dark picture, all of whose samples would fit 8 bits."""
    source = decoded(png(ihdr(2, 1, 16, 0), b"\0" + struct.pack(">HH", 100, 255)))
    assert colour(source)[0, :, 0].tolist() == [100, 255]


def test_16_bit_transparent_gray_is_compared_in_16_bits() -> None:
    raw = b"\0" + struct.pack(">HHH", 0x1234, 0x1235, 0x1134)
    source = decoded(png(ihdr(3, 1, 16, 0), raw, chunk(b"tRNS", struct.pack(">H", 0x1234))))
    assert alpha(source).tolist() == [[0, 65535, 65535]]


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_and_alpha_keep_their_samples(colour_type: int, channels: int) -> None:
    samples = np.random.default_rng(1).integers(256, 65536, (2, 3, channels)).astype(">u2")
    source = decoded(png(ihdr(3, 2, 16, colour_type), b"".join(b"\0" + row.tobytes() for row in samples)))
    np.testing.assert_array_equal(colour(source), gray3(samples[:, :, 0]) if channels == 2 else samples[:, :, :3])
    if channels != 3:
        np.testing.assert_array_equal(alpha(source), samples[:, :, -1])
    assert source.gray == (channels == 2)


def test_16_bit_transparent_colour() -> None:
    raw = b"\0" + struct.pack(">6H", 0x1000, 0x2000, 0x3000, 0x1001, 0x2000, 0x3000)
    source = decoded(png(ihdr(2, 1, 16, 2), raw, chunk(b"tRNS", struct.pack(">HHH", 0x1000, 0x2000, 0x3000))))
    assert alpha(source).tolist() == [[0, 65535]]


def test_a_broken_png_profile_is_dropped() -> None:
    source = decoded(png(ihdr(1, 1), bytes(4), chunk(b"iCCP", b"name\0\0not deflated")))
    assert source.icc_profile is None


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(chunk(b"iCCP", b"profile\0\0" + BOMB), id="iCCP"),
        pytest.param(chunk(b"quIz") * 40_000, id="many chunks"),
    ],
)
@pytest.mark.usefixtures("_no_pixels")
def test_png_bombs(payload: bytes) -> None:
    data = png(ihdr(1, 1), bytes(4), payload)
    tracemalloc.start()
    with pytest.raises(TooComplexError):
        inspect(data, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000, f"a bomb of 64 MB took {peak}"


def test_ordinary_png_text_is_no_bomb() -> None:
    text = chunk(b"tEXt", b"a\0b") + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text " * 100_000)) + chunk(b"zTXt", b"")
    text += chunk(b"iTXt", b"a\0\0\0\0\0plain") + chunk(b"iTXt", b"broken") + chunk(b"zTXt", b"a\0\0damaged")
    assert decoded(png(ihdr(1, 1), bytes(4), text)).width == 1


def test_apng_with_a_default_image_of_its_own() -> None:
    default, *others = frames()
    data = saved(default, "png", save_all=True, append_images=others, default_image=True)
    assert colour(decoded(data))[0, 0].tolist() == [255, 0, 0]


def test_an_invalid_apng_is_a_png() -> None:
    for control in (bytes(8), b"\xff" * 8, struct.pack(">II", 2, 0) * 2, b""):  # Pillow would warn or refuse
        assert decoded(png(ihdr(1, 1), bytes(4), chunk(b"acTL", control), chunk(b"acTL", control))).width == 1


def test_a_flipped_bit_in_png_pixels_is_seen() -> None:
    """Stored, not deflated, pixels: any change inflates without complaint, and only the checksum tells."""
    raw = zlib.compress(b"\0" + bytes(30), 0)
    data = b"\x89PNG\r\n\x1a\n" + ihdr(10, 1) + chunk(b"IDAT", raw) + chunk(b"IEND")
    at = data.index(b"IDAT") + 20
    with pytest.raises(CorruptImageError, match="checksum"):
        decode(data[:at] + b"\x01" + data[at + 1 :], LIMITS)
