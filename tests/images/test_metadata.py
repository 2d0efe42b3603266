"""Profiles, resolution, Exif and orientation, in every format that has them."""

import random

import numpy as np
import pytest
from PIL import Image

from app.images.decoder import decode
from harness.files import (
    DEEP,
    chunk,
    exif_block,
    ihdr,
    png,
    saved,
    smooth,
    tiff,
    tiff_tags,
)
from tests.support.decoding import LIMITS, SRGB, TURNS, alpha, colour, decoded, gray3, pattern, sample

GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "tiff"])
def test_a_profile_is_passed_on(fmt: str) -> None:
    assert decoded(saved(smooth(), fmt, icc_profile=SRGB)).icc_profile == SRGB


@pytest.mark.parametrize(
    ("mode", "profile", "kept"),
    [
        ("RGB", SRGB, True),
        ("P", SRGB, True),
        ("RGBA", SRGB, True),
        ("L", GRAY_PROFILE, True),
        ("L", SRGB, False),
        ("RGB", GRAY_PROFILE, False),
        ("RGB", SRGB[:-1], False),
        ("RGB", b"no profile at all", False),
        ("RGB", SRGB[:36] + b"xxxx" + SRGB[40:], False),
    ],
)
def test_a_profile_that_does_not_fit_is_dropped(mode: str, profile: bytes, kept: bool) -> None:
    image = smooth().quantize(16) if mode == "P" else smooth().convert(mode)
    assert decoded(saved(image, "png", icc_profile=profile)).icc_profile == (profile if kept else None)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "tiff", "bmp"])
def test_resolution(fmt: str) -> None:
    dpi = decoded(saved(smooth(), fmt, dpi=(300, 150))).dpi
    assert dpi is not None
    assert dpi == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "gif"])
def test_no_resolution(fmt: str) -> None:
    assert decoded(sample(fmt)).dpi is None


def read_back(exif: bytes | None) -> Image.Exif:
    assert exif is not None
    assert exif[:2] in (b"II", b"MM"), "no Exif prefix"
    read = Image.Exif()
    read.load(exif)
    return read


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "tiff"])
def test_exif_travels_without_place_thumbnail_and_orientation(fmt: str) -> None:
    exif = read_back(decoded(saved(smooth(), fmt, exif=exif_block(6, gps=True))).exif)
    assert exif[271] == "Maker"
    assert set(exif) == {271, 34665}
    assert exif.get_ifd(34665) == {33434: 0.5}


def test_exif_of_orientation_alone_is_none() -> None:
    exif = Image.Exif()
    exif[274] = 3
    assert decoded(saved(smooth(), "jpeg", exif=exif)).exif is None


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",  # orientation 99
        b"II+\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_broken_exif_is_not_fatal(block: bytes) -> None:
    source = decoded(saved(smooth(), "jpeg", exif=b"Exif\0\0" + block))
    assert source.exif is None
    assert (source.width, source.height) == (16, 16)


def test_random_exif_neither_warns_nor_fails() -> None:
    random_source = random.Random(7)
    good = exif_block(1, gps=True)
    for _ in range(300):
        block = bytearray(good)
        for _ in range(random_source.randint(1, 6)):
            block[random_source.randrange(6, len(block))] = random_source.randrange(256)
        decode(png(ihdr(1, 1), bytes(4), chunk(b"eXIf", bytes(block[6:]))), LIMITS)


TURNED = [
    *((fmt, mode) for fmt in ("png", "tiff") for mode in ("L", "RGB", "RGBA")),
    *(("jpeg", "L"), ("jpeg", "RGB"), ("webp", "RGB"), ("webp", "RGBA")),
]


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("fmt", "mode"), TURNED)
def test_orientation(fmt: str, mode: str, orientation: int) -> None:
    pixels = pattern(5, 4, len(mode)) | 1
    options = {"lossless": True, "exact": True} if fmt == "webp" else {}
    plain = decoded(saved(Image.fromarray(pixels), fmt, **options))
    turned = decoded(saved(Image.fromarray(pixels), fmt, exif=exif_block(orientation), **options))
    np.testing.assert_array_equal(colour(turned), TURNS[orientation](colour(plain)))
    if plain.has_alpha:
        np.testing.assert_array_equal(alpha(turned), TURNS[orientation](alpha(plain)))
    assert 274 not in read_back(turned.exif)


def test_orientation_of_deep_gray() -> None:
    data = DEEP.astype("<u2").tobytes()
    source = decoded(tiff([*tiff_tags(6, 2, (16,), 1, len(data)), (274, "H", (6,))], data))
    np.testing.assert_array_equal(colour(source), TURNS[6](gray3(DEEP)))
