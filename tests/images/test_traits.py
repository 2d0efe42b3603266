"""What an image looks like, in numbers: of any kind and size, from a bounded number of pixels."""

import io
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from app.images.codec_quality import LOSSLESS, quality_of
from app.images.decoder import decode_container
from app.images.formats import DecodeLimits, read_container
from app.images.traits import LEAST_SIDE, SIDE, WINDOWS, Traits, sampled, spread, traits_of
from app.upscale.memory import WORKING_STRIPS
from app.upscale.pipeline import STRIP_BYTES
from harness.files import saved
from harness.pictures import encode
from tests.support.auto import blurred, drawing, noisy, page, photograph, png, spoiled

LIMITS = DecodeLimits()


def traits(data: bytes) -> Traits | None:
    container = read_container(data, LIMITS)
    return traits_of(container, decode_container(container))


def known(data: bytes) -> Traits:
    found = traits(data)
    assert found is not None
    return found


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality: int, progressive: bool) -> None:
    data = saved(photograph(), "JPEG", quality=quality, progressive=progressive)
    assert quality_of(read_container(data, LIMITS)) == pytest.approx(quality, abs=5 if quality == 10 else 1)


def test_the_quality_of_a_webp_is_read_from_its_quantiser() -> None:
    files = [saved(photograph(), "WEBP", quality=quality) for quality in (10, 30, 50, 75, 85, 95)]
    found = [quality_of(read_container(data, LIMITS)) for data in files]
    assert all(low < high for low, high in pairwise(found)), found
    assert found[2] < 50
    assert found[-1] > 90
    assert quality_of(read_container(saved(photograph(), "WEBP", lossless=True), LIMITS)) == LOSSLESS


@pytest.mark.parametrize("cut", range(0, 64, 4))
def test_a_webp_whose_frame_is_damaged_has_some_quality(cut: int) -> None:
    data = bytearray(saved(photograph(), "WEBP", quality=60))
    start = data.index(b"VP8 ") + 18
    data[start + cut : start + 64] = b"\xff" * (64 - cut)
    assert 1 <= quality_of(read_container(bytes(data), LIMITS)) <= LOSSLESS


def test_faults_show_in_their_traits() -> None:
    clean = known(png(photograph()))
    assert known(noisy()).noise > 3 * clean.noise
    assert known(blurred()).acute < 0.6 * clean.acute
    assert known(png(Image.open(io.BytesIO(spoiled(40))).convert("RGB"))).blocks > 1.5 > clean.blocks


def test_drawings_repeat_their_levels() -> None:
    clean = known(png(photograph()))
    for image in (drawing(), page()):
        found = known(png(image))
        assert found.equal > 0.7 > clean.equal
        assert found.colours > 0.8 > clean.colours


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, LEAST_SIDE - 1)])
def test_what_is_too_small_has_no_traits(size: tuple[int, int]) -> None:
    assert traits(png(photograph().resize(size))) is None


SIZES = [(16, 16), (17, 16), (16, 900), (900, 16), (63, 65), (64, 64), (500, 300), (30_000, 20)]


@pytest.mark.parametrize("size", SIZES)
def test_windows_lie_within_the_image_on_whole_blocks(size: tuple[int, int]) -> None:
    container = read_container(png(photograph().resize(size)), LIMITS)
    windows = sampled(decode_container(container))
    assert windows.shape[1:] == (min(SIDE, size[1]), min(SIDE, size[0]), 3)
    assert 1 <= len(windows) <= WINDOWS
    assert traits_of(container, decode_container(container)) is not None


@pytest.mark.parametrize(("room", "count"), [(0, 1), (100, 1), (100, 2), (1000, 5)])
def test_windows_are_spread_from_end_to_end(room: int, count: int) -> None:
    found = spread(room, count)
    assert len(found) == count
    assert all(each % 8 == 0 and 0 <= each <= room for each in found)
    assert found == sorted(found)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_image_of_one_colour_has_traits(level: int) -> None:
    found = known(encode(np.full((100, 100, 3), level, np.uint8)))
    assert (found.equal, found.even, found.noise, found.steps) == (1, 1, 0, 0)


def test_other_kinds_of_pixels_have_the_same_traits() -> None:
    """16 bits, gray, with alpha and with a palette."""
    gray = np.asarray(photograph().convert("L"))
    eight = known(encode(gray))
    assert known(encode(np.stack([gray] * 3, axis=2))) == eight
    assert known(encode(gray.astype(np.uint16) * 257)) == eight
    assert known(encode(np.stack([gray] * 3 + [np.full_like(gray, 255)], axis=2))) == eight
    assert known(png(drawing().quantize(32))).equal > 0.7


def test_the_traits_are_the_same_every_time() -> None:
    assert len({known(spoiled()) for _ in range(3)}) == 1


def test_looking_takes_less_memory_than_what_follows_it() -> None:
    for size in ((1600, 1200), (30_000, 64)):
        pixels = np.random.default_rng(0).integers(0, 65_536, (size[1], size[0]), np.uint16)
        container = read_container(encode(pixels), LIMITS)
        source = decode_container(container)
        tracemalloc.start()
        traits_of(container, source)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < WORKING_STRIPS * STRIP_BYTES
