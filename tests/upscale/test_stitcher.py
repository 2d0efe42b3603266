"""Tiles that agree must come out as if there had been no tiles; tiles that do not must fade, and nothing be kept."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.upscale.stitcher import Stitcher, cross_fade
from app.upscale.tiler import Plan, Span, plan_tiles
from harness.fakes import Pixels, nearest, noise


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    context, blend = draw(st.integers(0, 8)), draw(st.integers(0, 7))
    smallest = 2 * context + blend + 1
    tile = smallest + draw(st.integers(0, 60)), smallest + draw(st.integers(0, 60))
    return plan_tiles(draw(st.integers(1, 160)), draw(st.integers(1, 160)), tile, context, blend)


def cut(picture: Pixels, plan: Plan, row: Span, scale: int) -> Iterator[Pixels]:
    """HR windows of one band as a network without any context would give them, with other pixels beyond the picture."""
    m = plan.mirrored
    beyond = (max(0, -row.start), max(0, row.stop - plan.height)), (m, m), (0, 0)
    shown = np.pad(picture[max(0, row.start) : row.stop], beyond, constant_values=7)
    return (nearest(shown[:, c.start + m : c.stop + m], scale) for c in plan.columns)


def stitch(picture: Pixels, plan: Plan, scale: int) -> list[Pixels]:
    stitcher = Stitcher(plan, scale)
    return [stitcher.band(row, cut(picture, plan, row, scale)) for row in plan.rows]


@given(plans(), st.integers(1, 4), st.sampled_from([1, 3, 4]))
@settings(max_examples=400)
def test_tiles_that_agree_come_out_exactly(plan: Plan, scale: int, channels: int) -> None:
    picture = noise(plan.height, plan.width, channels)
    bands = stitch(picture, plan, scale)
    assert all(band.dtype == np.uint8 for band in bands)
    np.testing.assert_array_equal(np.concatenate(bands), nearest(picture, scale))


@given(plans(), st.integers(1, 4))
@settings(max_examples=100)
def test_every_band_gives_rows_and_all_of_them_together_the_height(plan: Plan, scale: int) -> None:
    bands = stitch(noise(plan.height, plan.width, 3), plan, scale)
    assert all(len(band) > 0 for band in bands)
    assert sum(len(band) for band in bands) == plan.height * scale
    assert {band.shape[1] for band in bands} == {plan.width * scale}


@given(st.integers(0, 255), st.integers(0, 255), st.integers(1, 8), st.integers(1, 4), st.booleans())
@settings(max_examples=200)
def test_tiles_that_disagree_fade_monotonely(first: int, second: int, blend: int, scale: int, upright: bool) -> None:
    plan = plan_tiles(40, 10, (32, 32), 0, blend) if upright else plan_tiles(10, 40, (32, 32), 0, blend)
    values = iter([first, second])
    side = np.full((32 * scale, 32 * scale, 3), 1, np.uint8)
    stitcher = Stitcher(plan, scale)
    picture = np.concatenate([stitcher.band(row, (side * next(values) for _ in plan.columns)) for row in plan.rows])
    line = (picture[:, 0, 0] if upright else picture[0, :, 0]).astype(int)
    steps = np.diff(line) * (1 if second >= first else -1)
    assert (steps >= 0).all()
    assert (line[0], line[-1]) == (first, second)
    assert steps.max() <= -(-abs(second - first) // (blend * scale)) + 1, "the fade has a step in it"


@given(st.integers(0, 255), st.integers(1, 40))
def test_a_fade_between_equal_pixels_changes_nothing(value: int, length: int) -> None:
    pixels = np.full((length, 2, 3), value, np.uint8)
    np.testing.assert_array_equal(cross_fade(pixels, pixels, axis=0), pixels)


@pytest.mark.parametrize("width", [20, 100], ids=["one column", "several columns"])
@pytest.mark.parametrize("change", [-1, 1], ids=["missing", "left over"])
def test_a_wrong_number_of_windows_is_an_error(width: int, change: int) -> None:
    plan = plan_tiles(20, width, (32, 32), 2, 2)
    row, column = plan.rows[0], plan.columns[0]
    window = np.zeros((2 * (row.stop - row.start), 2 * (column.stop - column.start), 3), np.uint8)
    with pytest.raises(ValueError, match=r"zip\(\)"):
        Stitcher(plan, 2).band(plan.rows[0], [window] * (len(plan.columns) + change))


@pytest.mark.parametrize("width", [20, 100], ids=["one column", "several columns"])
def test_the_windows_it_is_given_stay_as_they_are(width: int) -> None:
    plan = plan_tiles(100, width, (32, 32), 2, 2)
    stitcher = Stitcher(plan, 2)
    for index, row in enumerate(plan.rows):
        size = (row.stop - row.start) * 2, (plan.columns[0].stop - plan.columns[0].start) * 2, 3
        windows = [np.full(size, index * 50, np.uint8) for _ in plan.columns]
        stitcher.band(row, windows)
        assert all((window == index * 50).all() for window in windows)


def peak_bytes(height: int) -> int:
    """The most memory while a picture 300 wide goes through in bands that are thrown away."""
    picture, plan = noise(height, 300, 3), plan_tiles(height, 300, (64, 64), 4, 2)
    stitcher = Stitcher(plan, 4)
    tracemalloc.start()
    try:
        for row in plan.rows:
            stitcher.band(row, cut(picture, plan, row, 4))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_band_however_tall_the_picture() -> None:
    band = 64 * 4 * 300 * 4 * 3  # rows * width * channels of the HR band
    short, tall = peak_bytes(600), peak_bytes(3000)
    assert tall < 1.1 * short
    assert tall < 3 * band
