"""Ink and Lab become sRGB, and no colour lies in holes."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from app.images.decoder import decode
from harness.files import (
    saved,
    smooth,
)
from tests.support.decoding import LIMITS, alpha, colour, decoded


def cmyk() -> Image.Image:
    return Image.fromarray(np.asarray(smooth((16, 16)).resize((16, 16)).convert("CMYK")), "CMYK")


@pytest.mark.parametrize("fmt", ["jpeg", "tiff"])
def test_cmyk_without_a_profile(fmt: str) -> None:
    data = saved(smooth().convert("CMYK"), fmt)
    source = decoded(data)
    np.testing.assert_array_equal(colour(source), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    difference = np.abs(colour(source).astype(int) - np.asarray(smooth()))
    assert difference.max() < 60, f"inverted or swapped? up to {difference.max()} off"


def ycck_jpeg() -> bytes:
    """A CMYK JPEG made YCCK by its Adobe segment: the channels are then read as YCbCr of inverted CMY, and K."""
    data = saved(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "jpeg", quality=100)
    at = data.index(b"Adobe")
    return data[: at + 11] + b"\x02" + data[at + 12 :]


def test_ycck() -> None:
    data = ycck_jpeg()
    np.testing.assert_array_equal(colour(decoded(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_lab() -> None:
    image = Image.merge("LAB", [Image.new("L", (2, 2), n) for n in (136, 208, 195)])  # L 53, a 80, b 67: sRGB red
    red = colour(decoded(saved(image, "tiff")))[0, 0]
    assert red[0] > 240, red
    assert red[1:].max() < 40, red


def gray_ink_profile() -> bytes:
    """An ICC profile for CMYK in which every ink, however much, prints the same mid gray: nobody else's formula."""
    identity = bytes(range(256))
    grid = bytes((128, 128, 128)) * 16  # L = 50, a = b = 0, at each of the 2^4 corners
    matrix = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + grid + identity * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"A2B0": lut, b"A2B1": lut, b"wtpt": white}
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("fmt", ["jpeg", "tiff"])
def test_cmyk_by_its_own_profile(fmt: str) -> None:
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    source = decoded(saved(image, fmt, icc_profile=gray_ink_profile()))
    plain = decoded(saved(image, fmt))
    assert colour(plain)[0, 0].tolist() == [0, 255, 255]
    red, green, blue = colour(source)[0, 0].tolist()
    assert abs(red - green) <= 2
    assert abs(green - blue) <= 2
    assert 90 < red < 150
    assert source.icc_profile is None, "the profile no longer holds"


def test_cmyk_with_a_broken_profile_falls_back() -> None:
    profile = gray_ink_profile()
    broken = profile[:128] + bytes(len(profile) - 128)
    source = decoded(saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "tiff", icc_profile=broken))
    assert colour(source)[0, 0].tolist() == [0, 255, 255]


def test_holes_take_the_colour_around_them() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :20] = (200, 100, 50, 255)
    pixels[:, 40:] = (10, 20, 220, 3)
    pixels[40:, :20] = 0
    source = decoded(saved(Image.fromarray(pixels), "png"))
    seen = pixels[:, :, 3] > 0
    np.testing.assert_array_equal(colour(source)[seen], pixels[:, :, :3][seen])
    np.testing.assert_array_equal(alpha(source), pixels[:, :, 3])
    np.testing.assert_allclose(colour(source)[:30, 20:24], np.full((30, 4, 3), (200, 100, 50)), atol=2)
    np.testing.assert_allclose(colour(source)[:30, 38:40], np.full((30, 2, 3), (10, 20, 220)), atol=4)
    assert not (colour(source) == 0).all(axis=2).any(), "black is left in the hole"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (17, 3), (2100, 1030)])
def test_holes_of_any_size(size: tuple[int, int]) -> None:
    """One visible pixel colours the picture, whatever the bands and the odd edges of the pyramid."""
    width, height = size
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[height // 2, width // 2] = (120, 60, 240, 255)
    source = decode(saved(Image.fromarray(pixels), "png", compress_level=1), LIMITS)
    difference = np.abs(colour(source).astype(np.int16) - (120, 60, 240))
    assert difference.max() <= 12, difference.max()


def test_holes_in_gray() -> None:
    levels, opaque = np.full((8, 8), 77, np.uint8), np.full((8, 8), 255, np.uint8)
    levels[2:5, 2:5] = opaque[2:5, 2:5] = 0
    image = Image.merge("LA", [Image.fromarray(levels), Image.fromarray(opaque)])
    assert (colour(decoded(saved(image, "png"))) == 77).all()


def test_a_picture_that_is_one_hole() -> None:
    source = decoded(saved(Image.new("RGBA", (5, 4), (9, 8, 7, 0)), "png"))
    assert (alpha(source) == 0).all()
