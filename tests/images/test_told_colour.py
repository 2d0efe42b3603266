"""Colour told by numbers becomes the ICC profile of that meaning, as LittleCMS reads it; HDR is refused everywhere."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.errors import UnsupportedFormatError
from app.images.code_points import PNG_TRANSFERS, PRIMARIES, TRANSFERS, CodePoints, png_profile_of, profile_of
from app.images.decoder import DecodeLimits, decode, inspect
from app.images.icc import Curve, Primaries, as_gray, colorants_at_d50, for_rgb, gray_profile, rgb_profile, space_of
from app.images.tone import evaluated
from tests.support.profiles import P3, SRGB_CURVE, curve, fixed, profile, table_profile, text, xyz
from tests.support.profiles import rgb_profile as curve_profile
from tests.support.told_colour import avif, bmp, chunk, cicp, iccp, photo, png

LIMITS = DecodeLimits()
SRGB = ImageCms.createProfile("sRGB")
D50 = (0.9642, 1.0, 0.8249)


def shown(data: bytes, colours: np.ndarray) -> np.ndarray:
    """uint8 ``[n, 3]`` in sRGB of colours under a profile, relative colorimetric."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(data))
    image = ImageCms.profileToProfile(
        Image.fromarray(colours[np.newaxis]), source, SRGB, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    return np.asarray(image)[0].astype(int)


@pytest.mark.parametrize(("points", "same"), [((12, 13), P3), ((11, 13), None), ((9, 13), None), ((4, 13), None)])
def test_white_stays_white_and_primaries_are_the_standards(points: tuple[int, int], same: object) -> None:
    made = profile_of(CodePoints(*points), gray=False)
    assert made is not None
    colours = np.array([[255, 255, 255], [128, 128, 128], [0, 0, 0], [150, 44, 188], [90, 120, 70]], np.uint8)
    seen = shown(made, colours)
    assert np.abs(seen[:3] - colours[:3]).max() <= 1
    if same is not None:
        assert np.abs(seen - shown(curve_profile(P3, *SRGB_CURVE), colours)).max() <= 1


def test_matrices_are_those_of_the_books() -> None:
    """Display P3 and BT.2020 at D50, as Apple and the ICC publish them; BT.709 is sRGB's."""
    known = {
        1: [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]],
        9: [[0.6735, 0.1657, 0.1251], [0.2790, 0.6753, 0.0456], [-0.0019, 0.0300, 0.7969]],
        12: [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]],
    }
    for number, matrix in known.items():
        found = colorants_at_d50(PRIMARIES[number])
        assert found is not None
        np.testing.assert_allclose(found, matrix, atol=3e-4)
        np.testing.assert_allclose(found.sum(axis=1), D50, atol=1e-6)


@pytest.mark.parametrize(
    "primaries",
    [
        Primaries((0, 0), (0, 0), (0, 0), (0.3, 0.3)),
        Primaries((0.6, 0.3), (0.3, 0.3), (0.2, 0.3), (0.3, 0.3)),  # on one line
        Primaries((0.6, 0.3), (0.3, 0.6), (0.15, 0.06), (0.3, 0)),
        Primaries((0.6, 1.3), (0.3, 0.6), (0.15, 0.06), (0.3, 0.3)),
        Primaries((21474, 0.3), (0.3, 0.6), (0.15, 0.06), (0.3, 0.3)),
    ],
)
def test_impossible_primaries_make_no_profile(primaries: Primaries) -> None:
    assert rgb_profile("x", primaries, Curve(0, (2.2,))) is None


def test_curves_are_those_of_the_standard() -> None:
    """Some values of H.273, table 3, to light."""
    wanted = {4: {0.5: 0.2176}, 5: {0.5: 0.1436}, 8: {0.5: 0.5}, 13: {0.5: 0.2140, 0.02: 0.00155}, 17: {0.5: 0.1799}}
    wanted |= {7: {0.5: 0.2650, 0.05: 0.0125}}
    for number, values in wanted.items():
        made = profile_of(CodePoints(12, number), gray=True)
        assert made is not None
        tag = made[made.index(b"para") :]
        for encoded, light in values.items():
            assert evaluated(tag, np.array([encoded]))[0] == pytest.approx(light, abs=5e-4)


def test_what_says_srgb_or_nothing_is_no_profile() -> None:
    for points in ((1, 13), (2, 2), (1, 1), (2, 6), (0, 8), (1, 3), (200, 200)):
        assert profile_of(CodePoints(*points), gray=False) is None, points
    for points in ((2, 13), (12, 2), (12, 9), (3, 13), (12, 200)):
        assert png_profile_of(CodePoints(*points), gray=False) is None, points
    for number in (9, 10, 11, 12):
        with pytest.raises(UnsupportedFormatError, match=f"Transfer characteristics {number}"):
            profile_of(CodePoints(12, number), gray=False)
    assert set(TRANSFERS) | {11} == set(PNG_TRANSFERS)


def test_gray_and_rgb_profiles_of_one_curve() -> None:
    levels = np.repeat(np.arange(0, 256, 15, dtype=np.uint8)[:, None], 3, axis=1)
    gray = gray_profile("x", Curve(0, (1.8,)))
    wide = for_rgb(gray)
    assert wide is not None
    assert (space_of(gray), space_of(wide)) == (b"GRAY", b"RGB ")
    linear = shown(curve_profile(P3, 1.8), levels)
    assert np.abs(shown(wide, levels) - linear).max() <= 1
    back = as_gray(wide)
    assert back is not None
    image = Image.fromarray(levels[:, :1].T.copy())
    seen = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(back)), SRGB, outputMode="RGB")
    assert np.abs(np.asarray(seen)[0].astype(int) - linear).max() <= 1


# -- what a decoder makes of them ----------------------------------------------------------------------------------


def tinting() -> bytes:
    """Three curves that differ: grays are none."""
    tags = {b"desc": text("test"), b"cprt": text("CC0"), b"wtpt": xyz(D50)}
    for index, (name, power) in enumerate(((b"r", 1.5), (b"g", 2.2), (b"b", 2.6))):
        tags[name + b"XYZ"] = xyz(tuple(row[index] for row in P3))
        tags[name + b"TRC"] = curve(power)
    return profile(b"RGB ", tags)


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("made", [tinting(), table_profile(P3, 1.8)], ids=["three curves", "tables"])
def test_gray_that_a_profile_may_tint_becomes_rgb(mode: str, made: bytes) -> None:
    for data in (png(iccp(made), mode=mode), photo("TIFF", mode, icc_profile=made)):
        source, header = decode(data, LIMITS), inspect(data, LIMITS)
        assert (source.gray, header.gray, source.icc_profile) == (False, False, made)
        assert source.has_alpha == (mode == "LA")


def test_deep_gray_that_a_profile_may_tint_keeps_its_samples() -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for alpha in (False, True):
        pixels = np.stack([levels, np.maximum(levels[::-1], 1)], axis=2) if alpha else levels[:, :, None]
        header = struct.pack(">IIBBBBB", 16, 16, 16, 4 if alpha else 0, 0, 0, 0)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        parts = chunk(b"IHDR", header), iccp(tinting()), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
        source = decode(b"\x89PNG\r\n\x1a\n" + b"".join(parts), LIMITS)
        assert (source.gray, source.depth) == (False, 16)
        np.testing.assert_array_equal(source.rows(0, 16), np.repeat(levels[:, :, None], 3, axis=2))
        if alpha:
            np.testing.assert_array_equal(source.alpha_rows(0, 16)[:, :, 0], pixels[:, :, 1])


def test_gray_under_an_srgb_profile_needs_none() -> None:
    srgb = ImageCms.ImageCmsProfile(SRGB).tobytes()
    for data in (png(iccp(srgb), mode="L"), photo("JPEG", "L", icc_profile=srgb), photo("TIFF", "L", icc_profile=srgb)):
        source = decode(data, LIMITS)
        assert (source.gray, source.icc_profile) == (True, None)


def test_a_profile_with_bytes_behind_it_is_cut_to_its_length() -> None:
    made = curve_profile(P3, 1.8)
    assert decode(photo("JPEG", icc_profile=made + bytes(3)), LIMITS).icc_profile == made
    assert decode(png(iccp(made + b"\0")), LIMITS).icc_profile == made
    assert decode(photo("JPEG", icc_profile=made[:-1]), LIMITS).icc_profile is None


# -- HDR -----------------------------------------------------------------------------------------------------------


def hdr_profile(transfer: int) -> bytes:
    """An ICC profile with the ``cicp`` tag of version 4.4, which overrules its curves (in Chromium, too)."""
    tags = {b"desc": text("test"), b"cprt": text("CC0"), b"wtpt": xyz(D50)}
    for index, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = xyz(tuple(row[index] for row in P3))
        tags[name + b"TRC"] = curve(*SRGB_CURVE)
    tags[b"cicp"] = b"cicp\0\0\0\0" + bytes((9, transfer, 0, 1))
    assert fixed(1.0) == struct.pack(">i", 65536)
    return profile(b"RGB ", tags)


WAYS: dict[str, Callable[[int], bytes]] = {
    "png cICP": lambda transfer: png(cicp(9, transfer, 0, 1)),
    "png cICP before a profile": lambda transfer: png(cicp(9, transfer, 0, 1), iccp(curve_profile(P3, 1.8))),
    "png gray cICP": lambda transfer: png(cicp(9, transfer, 0, 1), mode="L"),
    "png iCCP": lambda transfer: png(iccp(hdr_profile(transfer))),
    "png gray iCCP": lambda transfer: png(iccp(hdr_profile(transfer)), mode="L"),
    "avif nclx": lambda transfer: avif(9, transfer),
    "avif sequence header": lambda transfer: avif(9, transfer, in_box=False),
    "avif ICC": lambda transfer: photo("AVIF", icc_profile=hdr_profile(transfer)),
    "jpeg ICC": lambda transfer: photo("JPEG", icc_profile=hdr_profile(transfer)),
    "webp ICC": lambda transfer: photo("WEBP", icc_profile=hdr_profile(transfer)),
    "tiff ICC": lambda transfer: photo("TIFF", icc_profile=hdr_profile(transfer)),
    "bmp ICC": lambda transfer: bmp(hdr_profile(transfer)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_alike_however_it_is_told(way: str, transfer: int, name: str) -> None:
    for read in (inspect, decode):
        with pytest.raises(UnsupportedFormatError, match=rf"HDR image \({name}\)"):
            read(WAYS[way](transfer), LIMITS)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_in_standard_light_is_taken(way: str) -> None:
    decode(WAYS[way](13), LIMITS)
