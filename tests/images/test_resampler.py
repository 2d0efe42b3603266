"""The resampler against Pillow, which has the whole picture: sizes, splits, depths, what it holds and when it gives."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.images.resampler import Resampler

KERNELS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
SIZES = [  # (height, width) from and to
    ((40, 60), (30, 45)),  # x4 to x3
    ((80, 100), (47, 59)),  # x4 to about x2.37
    ((64, 64), (16, 16)),
    ((33, 50), (33, 50)),
    ((17, 23), (68, 92)),
    ((9, 14), (72, 112)),
    ((300, 7), (200, 5)),
    ((7, 300), (5, 200)),
    ((31, 40), (50, 13)),  # one direction grows, the other shrinks
    ((40, 31), (13, 50)),
    ((20, 30), (20, 45)),
    ((30, 20), (45, 20)),
    ((1, 1), (1, 1)),
    ((1, 1), (5, 3)),
    ((1, 50), (4, 20)),
    ((50, 1), (20, 4)),
    ((13, 11), (1, 1)),
]


def noise(size: tuple[int, int], channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Half of the samples black or white: kernels with negative lobes overshoot there."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (*size, channels))
    extremes = rng.integers(0, 2, levels.shape) * 255
    return np.where(rng.random(levels.shape) < 0.5, levels, extremes).astype(np.uint8)


def resample(pixels: NDArray, target: tuple[int, int], kernel: str, bands: Iterator[int]) -> NDArray:
    resampler = Resampler(pixels.shape[:2], target, pixels.shape[2], kernel)
    given, top = [], 0
    while top < len(pixels):
        height = next(bands)
        given.append(resampler.feed(pixels[top : top + height]))
        top += height
    return np.concatenate(given)


def in_one_piece(pixels: NDArray, target: tuple[int, int], kernel: str = "lanczos") -> NDArray:
    return resample(pixels, target, kernel, iter([len(pixels)]))


def random_bands(seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.choice([1, 2, 3, 5, 8, 40, 150]))


def pillow(pixels: NDArray, target: tuple[int, int], kernel: str) -> NDArray:
    """Along the rows, then down the columns, one channel after the other: Pillow multiplies by an alpha channel."""
    height, width = target
    planes = []
    for channel in range(pixels.shape[2]):
        image = Image.fromarray(np.ascontiguousarray(pixels[:, :, channel]))
        across = image.resize((width, image.height), KERNELS[kernel])
        planes.append(np.asarray(across.resize((width, height), KERNELS[kernel])))
    return np.stack(planes, axis=2)


def assert_within_one_level(result: NDArray, expected: NDArray, what: object) -> None:
    assert result.shape == expected.shape, what
    assert result.dtype == expected.dtype, what
    difference = np.abs(result.astype(np.int64) - expected)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    assert difference.max() <= 1, (
        f"{what}: {difference.max()} levels at {worst}, {(difference > 1).mean():.2%} above one"
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equals_pillow_in_any_split(source: tuple[int, int], target: tuple[int, int], kernel: str) -> None:
    for channels in (1, 2, 3, 4):
        pixels = noise(source, channels, seed=channels)
        expected = pillow(pixels, target, kernel)
        for bands in (iter([source[0]]), iter([1] * source[0]), random_bands(channels)):
            assert_within_one_level(resample(pixels, target, kernel, bands), expected, (channels, bands))


def test_equals_pillow_at_random_sizes() -> None:
    rng = np.random.default_rng(1)
    for seed in range(200):
        source, target = rng.integers(1, 90, 2), rng.integers(1, 90, 2)
        if seed % 2:  # as the service asks: one factor for both, 1/4 to 8
            target = np.maximum(1, np.rint(source * 2 ** rng.uniform(-2, 3))).astype(int)
        pixels = noise((int(source[0]), int(source[1])), 1 + seed % 4, seed)
        kernel = list(KERNELS)[seed // 4 % 2]
        size = (int(target[0]), int(target[1]))
        result = resample(pixels, size, kernel, random_bands(seed))
        assert_within_one_level(result, pillow(pixels, size, kernel), (source, size, kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", [(30, 45), (160, 240), (23, 35)])
def test_equals_one_call_of_pillow_where_it_goes_across_first(target: tuple[int, int], kernel: str) -> None:
    pixels = noise((40, 60), 3)
    expected = np.asarray(Image.fromarray(pixels).resize(target[::-1], KERNELS[kernel]))
    assert_within_one_level(resample(pixels, target, kernel, random_bands(0)), expected, target)


def test_wide_rows_and_long_bands_are_computed_in_parts() -> None:
    """Larger than every block, chunk and part inside."""
    pixels = noise((300, 3000), 3)
    target = (100, 1234)
    assert_within_one_level(in_one_piece(pixels, target), pillow(pixels, target, "lanczos"), target)


@pytest.mark.parametrize(("source", "target"), [((40, 60), (30, 45)), ((37, 41), (20, 89)), ((12, 9), (96, 72))])
def test_sixteen_bits_equal_the_exact_result(source: tuple[int, int], target: tuple[int, int]) -> None:
    """Pillow's float mode in both passes, clipped after each, is the exact result; rounding is at most half a level."""
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 2, (*source, 1)).astype(np.uint16) * 65535
    pixels[::3] = rng.integers(0, 65536, pixels[::3].shape)
    image = Image.fromarray(pixels[:, :, 0].astype(np.float32))
    across = np.asarray(image.resize((target[1], source[0]), Image.Resampling.LANCZOS)).clip(0, 65535)
    exact = np.asarray(Image.fromarray(across).resize(target[::-1], Image.Resampling.LANCZOS)).clip(0, 65535)
    result = resample(pixels, target, "lanczos", random_bands(2))
    assert result.dtype == np.uint16
    assert np.abs(result[:, :, 0] - exact.astype(np.float64)).max() < 0.6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_constant_picture_stays_constant(kernel: str, dtype: type) -> None:
    for level in (0, 1, 77, 254, 255, np.iinfo(dtype).max):
        for source, target in SIZES:
            result = in_one_piece(np.full((*source, 2), level, dtype), target, kernel)
            assert (result == level).all(), (source, target, level)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_same_size_is_the_same_picture(dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (150, 70, 3), dtype, endpoint=True)
    assert np.array_equal(resample(pixels, (150, 70), "lanczos", random_bands(0)), pixels)


def test_channels_do_not_mix() -> None:
    pixels = noise((40, 60), 4)
    together = in_one_piece(pixels, (30, 45))
    for channel in range(4):
        alone = in_one_piece(pixels[:, :, channel : channel + 1], (30, 45))
        assert_within_one_level(together[:, :, channel : channel + 1], alone, channel)


@pytest.mark.parametrize("target", [(31, 31), (9, 9), (113, 113), (40, 40)])
def test_a_row_comes_as_soon_as_it_is_final_and_no_sooner(target: tuple[int, int]) -> None:
    """Two pictures that part at row k: what has come after k rows is equal, and the row after it is not."""
    above, below = np.full((40, 40, 1), 0, np.uint8), np.full((40, 40, 1), 255, np.uint8)
    reach = 3 * max(1.0, 40 / target[0])
    for k in range(1, 40):
        count = len(Resampler((40, 40), target, 1).feed(above[:k]))
        parted = np.concatenate([above[:k], below[k:]])
        assert (in_one_piece(parted, target)[:count] == 0).all()
        assert (count + 0.5) * 40 / target[0] + reach >= k + 0.5, f"row {count} draws on none but the first {k} rows"


@pytest.mark.parametrize(("scale", "channels"), [(0.75, 3), (0.25, 1), (1.0, 3), (4.0, 1)])
def test_what_is_held_does_not_grow_with_the_height(scale: float, channels: int) -> None:
    def peak(height: int) -> int:
        resampler = Resampler((height, 200), (round(height * scale), round(200 * scale)), channels)
        band = noise((64, 200), channels)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(0, height, len(band)):
            resampler.feed(band)
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        peak(256)
        low, high = peak(256), peak(64 * 100)
    finally:
        tracemalloc.stop()
    assert high < low * 1.1, f"{low} bytes for 256 rows, {high} for 6400"


def test_nothing_is_held_after_the_last_row() -> None:
    pixels = noise((128, 2000), 3)
    tracemalloc.start()
    try:
        resampler = Resampler((128, 2000), (96, 1500), 3)
        before = tracemalloc.get_traced_memory()[0]
        resampler.feed(pixels)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < 1500 * 3, f"{held} bytes, more than a row"


def test_rows_that_are_not_the_pictures_are_refused() -> None:
    resampler = Resampler((10, 8), (5, 4), 3)
    for wrong in ((2, 9, 3), (2, 8, 4), (11, 8, 3)):
        with pytest.raises(ValueError, match="after 0 of 10 rows"):
            resampler.feed(np.zeros(wrong, np.uint8))
    resampler.feed(np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="after 6 of 10 rows"):
        resampler.feed(np.zeros((5, 8, 3), np.uint8))


@pytest.mark.parametrize("sizes", [((0, 4), (4, 4)), ((4, 4), (4, 0))])
def test_empty_sizes_are_refused(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="cannot resample"):
        Resampler(*sizes, 3)


def test_no_rows_give_no_rows() -> None:
    resampler = Resampler((10, 8), (5, 4), 3)
    assert resampler.feed(np.zeros((0, 8, 3), np.uint8)).shape == (0, 4, 3)
    assert resampler.feed(np.zeros((1, 8, 3), np.uint8)).shape == (0, 4, 3)


def test_rows_may_be_a_view_and_stay_as_they_are() -> None:
    pixels = noise((40, 120), 4)
    view, before = pixels[::-1, ::2, :3], pixels.copy()
    assert np.array_equal(in_one_piece(view, (30, 45)), in_one_piece(np.ascontiguousarray(view), (30, 45)))
    assert np.array_equal(pixels, before)
