"""Traces of float16 overflow are seen, and a picture's own black and white are not taken for them."""

import numpy as np
import pytest
import skimage.data

from app.inference.guard import is_poisoned
from harness.fakes import nearest, noise

SCALE = 4
DTYPES = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])


def deepened(pixels: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    return pixels.astype(dtype) * (np.iinfo(dtype).max // 255)


@DTYPES
@pytest.mark.parametrize("value", [0, 1], ids=["black", "saturated"])
@pytest.mark.parametrize("place", [(0, 0), (20, 33), (-12, -12)], ids=str)
def test_a_spot_of_three_pixels_is_seen_anywhere(dtype: type, value: int, place: tuple[int, int]) -> None:
    lr = deepened(skimage.data.chelsea()[:64, :80], dtype)
    hr = nearest(lr, SCALE)
    assert not is_poisoned(lr, hr, SCALE)
    top, left = place
    hr[top * SCALE :, left * SCALE :][: 3 * SCALE, : 3 * SCALE] = value * np.iinfo(dtype).max
    assert is_poisoned(lr, hr, SCALE)


def test_a_whole_window_of_nothing_is_seen() -> None:
    lr = noise(16, 16, 3)
    assert is_poisoned(lr, np.zeros((64, 64, 3), np.uint8), SCALE)
    assert is_poisoned(lr[:1], np.zeros((4, 64, 3), np.uint8), SCALE)


@pytest.mark.parametrize("picture", ["page", "text", "checkerboard", "horse", "coins"])
def test_pictures_of_black_and_white_are_sound(picture: str) -> None:
    hr = np.asarray(getattr(skimage.data, picture)())
    hr = (hr * 255).astype(np.uint8) if hr.dtype == bool else hr
    hr = np.where(hr[: hr.shape[0] // SCALE * SCALE, : hr.shape[1] // SCALE * SCALE, None] > 127, 255, 0)
    hr = hr.astype(np.uint8).repeat(3, axis=2)
    height, width = hr.shape[0] // SCALE, hr.shape[1] // SCALE
    lr = hr.reshape(height, SCALE, width, SCALE, 3).mean(axis=(1, 3)).astype(np.uint8)
    assert not is_poisoned(lr, hr, SCALE)
