"""Tone curves of profiles: read as ICC has them, there and back without loss, and no trust in what is damaged."""

import random
import struct

import numpy as np
import pytest

from app.images.icc import tag_table
from app.images.tone import PEAK, evaluated, far_curve
from tests.support.profiles import (
    ADOBE,
    P3,
    PROPHOTO,
    SRGB_CURVE,
    Matrix,
    curve,
    gray_profile,
    profile,
    rgb_profile,
    srgb_decoded,
    table_profile,
)

X = np.linspace(0, 1, 1001)
CURVES = {
    "power": ((1.8,), X**1.8),
    "type 0": ((0, 2.2), X**2.2),
    "type 1": ((1, 2.0, 1.25, -0.25), np.where(X >= 0.2, np.maximum(1.25 * X - 0.25, 0) ** 2, 0)),
    "type 2": ((2, 2.0, 0.75, 0.0, 0.25), (0.75 * X) ** 2 + 0.25),
    "type 3": (SRGB_CURVE, srgb_decoded(X)),
    "type 4": ((4, 2.0, 0.5, 0.5, 0.2, 0.5, 0.0, 0.1), np.where(X >= 0.5, (0.5 * X + 0.5) ** 2, 0.2 * X + 0.1)),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_read_as_icc_has_it(name: str) -> None:
    shape, expected = CURVES[name]
    np.testing.assert_allclose(evaluated(curve(*shape), X), np.clip(expected, 0, 1), atol=2e-3)


def test_a_table_is_read_between_its_points() -> None:
    points = struct.pack(">4s4xI3H", b"curv", 3, 0, 16384, 65535)
    np.testing.assert_allclose(evaluated(points, np.array([0, 0.25, 0.5, 1])), [0, 0.125, 0.25, 1], atol=1e-4)
    np.testing.assert_array_equal(evaluated(struct.pack(">4s4xI", b"curv", 0), X), X)


@pytest.mark.parametrize(
    ("data", "far"),
    [
        (rgb_profile(P3, *SRGB_CURVE), False),
        (rgb_profile(ADOBE, 2.2), False),
        (gray_profile(2.2), False),
        (rgb_profile(PROPHOTO, 1.8), True),
        (rgb_profile(P3, 1.0), True),
        (gray_profile(1.0), True),
        (gray_profile(1.8), True),
    ],
    ids=["P3", "Adobe", "gray 2.2", "ProPhoto", "linear", "linear gray", "gray 1.8"],
)
def test_only_a_curve_far_from_srgb_is_changed(data: bytes, far: bool) -> None:
    assert (far_curve(data) is not None) == far


@pytest.mark.parametrize("power", [1.0, 1.8])
def test_there_and_back_no_level_of_8_bits_moves(power: float) -> None:
    found = far_curve(gray_profile(power))
    assert found is not None
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    there = found.towards(levels)
    expected = np.where(levels / 255 <= 0, 0, (levels / 255.0) ** power)
    np.testing.assert_allclose(srgb_decoded(there / PEAK), expected, atol=1e-3)  # ICC: 1.8 is 461 / 256
    np.testing.assert_array_equal(np.rint(found.back(there) / 257), levels)


@pytest.mark.parametrize("primaries", [P3, ADOBE, PROPHOTO], ids=["P3", "Adobe", "ProPhoto"])
@pytest.mark.parametrize("power", [1.0, 1.8, 3.0])
def test_a_profile_of_tables_has_the_curve_of_its_grays(primaries: Matrix, power: float) -> None:
    by_tables, by_formula = far_curve(table_profile(primaries, power)), far_curve(rgb_profile(primaries, power))
    assert by_tables is not None
    assert by_formula is not None
    apart = np.abs(by_tables.to_srgb[0].astype(int) - by_formula.to_srgb[0])
    assert apart.max() < 2 * 257  # levels of 8 bits
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(np.rint(by_tables.back(by_tables.towards(levels)) / 257), levels)


def test_a_profile_of_tables_near_srgb_or_that_cannot_be_undone_is_left_alone() -> None:
    assert far_curve(table_profile(P3, 2.2)) is None
    assert far_curve(table_profile(P3, 9.0)) is None  # a third of its grays are black
    assert far_curve(table_profile(P3, 1.0)[:900]) is None


def test_channels_may_have_curves_of_their_own() -> None:
    tags = {name + b"TRC": curve(power) for name, power in ((b"r", 1.0), (b"g", 1.8), (b"b", 2.2))}
    found = far_curve(profile(b"RGB ", tags))
    assert found is not None
    there = found.towards(np.full((1, 1, 3), 128, np.uint8))[0, 0] / PEAK
    np.testing.assert_allclose(srgb_decoded(there), [(128 / 255) ** power for power in (1.0, 1.8, 2.2)], atol=1e-3)


def test_a_damaged_profile_has_no_curve() -> None:
    good, source = rgb_profile(PROPHOTO, 1.8), random.Random(3)
    assert far_curve(None) is None
    assert far_curve(profile(b"RGB ", {})) is None
    assert b"A2B0" not in tag_table(good)
    for length in range(128, len(good), 23):
        far_curve(good[:length])
    for _ in range(60):
        broken = bytearray(good)
        for _ in range(source.randint(1, 5)):
            broken[source.randrange(128, len(broken))] = source.randrange(256)
        found = far_curve(bytes(broken))
        assert found is None or all(len(table) == PEAK + 1 for table in (*found.to_srgb, *found.from_srgb))
