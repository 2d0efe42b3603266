"""The figures in every table, against scikit-image and against values known from MATLAB."""

import numpy as np
import pytest
import skimage.color
import skimage.data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.report.metrics import compare, crop_border, luma, psnr, ssim

# MATLAB: rgb2ycbcr of the colour as double, times 255; the first row and column of its matrix
KNOWN_LUMA = {
    (0, 0, 0): 16.0,
    (255, 255, 255): 235.0,
    (255, 0, 0): 81.481,
    (0, 255, 0): 144.553,
    (0, 0, 255): 40.966,
    (128, 128, 128): 16 + 219 * 128 / 255,
    (200, 100, 50): 16 + (65.481 * 200 + 128.553 * 100 + 24.966 * 50) / 255,
}


def noisy_pair(height: int, width: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """A part of a photograph and the same with noise: uint8 ``[height, width, 3]``."""
    clean = skimage.data.astronaut()[60 : 60 + height, 150 : 150 + width]
    noise = np.random.default_rng(height).normal(0, strength, clean.shape)
    return clean, np.clip(clean + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("rgb", "expected"), KNOWN_LUMA.items())
def test_luma_of_known_colours(rgb: tuple[int, int, int], expected: float) -> None:
    assert luma(np.array([[rgb]], np.uint8)) == pytest.approx(expected, abs=1e-9)


def test_luma_is_that_of_scikit_image(photo: np.ndarray) -> None:
    assert luma(photo) == pytest.approx(skimage.color.rgb2ycbcr(photo)[..., 0], abs=1e-9)


@pytest.mark.parametrize("strength", [1, 5, 60])
def test_psnr_is_that_of_scikit_image(strength: float) -> None:
    clean, noisy = noisy_pair(40, 50, strength)
    assert psnr(clean, noisy) == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=255), abs=1e-9)
    expected = peak_signal_noise_ratio(luma(clean), luma(noisy), data_range=255)
    assert psnr(luma(clean), luma(noisy)) == pytest.approx(expected, abs=1e-9)


def test_psnr_at_its_ends() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, white) == 0.0  # also: uint8 differences do not wrap around
    assert psnr(white, black) == 0.0


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (64, 37), (120, 130)])
@pytest.mark.parametrize("strength", [2, 25])
def test_ssim_is_that_of_scikit_image(size: tuple[int, int], strength: float) -> None:
    clean, noisy = (luma(picture) for picture in noisy_pair(*size, strength))
    _, quality = structural_similarity(
        clean, noisy, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )
    valid = quality[5:-5, 5:-5]  # the windows that lie wholly in the picture; at the others scikit-image mirrors
    assert ssim(clean, noisy) == pytest.approx(valid.mean(), abs=1e-9)


def test_ssim_of_equal_planes_is_one() -> None:
    plane = luma(noisy_pair(20, 30, 1)[0])
    assert ssim(plane, plane) == pytest.approx(1.0, abs=1e-12)


def test_ssim_says_when_a_picture_is_too_small() -> None:
    with pytest.raises(ValueError, match=r"11 x 11 pixels, not 10 x 30"):
        ssim(np.zeros((10, 30)), np.zeros((10, 30)))


@pytest.mark.parametrize("border", [0, 1, 4])
def test_crop_border(border: int) -> None:
    image = np.arange(10 * 12 * 3).reshape(10, 12, 3)
    cropped = crop_border(image, border)
    assert cropped.shape == (10 - 2 * border, 12 - 2 * border, 3)
    assert cropped[0, 0, 0] == image[border, border, 0]
    assert cropped[-1, -1, -1] == image[9 - border, 11 - border, 2]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_compare_leaves_out_exactly_the_border(scale: int) -> None:
    hr, sr = noisy_pair(48, 60, 8)
    figures = compare(sr, hr, scale)
    inner = slice(scale, -scale)
    expected = {
        "psnr_y": psnr(luma(sr)[inner, inner], luma(hr)[inner, inner]),
        "ssim_y": ssim(luma(sr)[inner, inner], luma(hr)[inner, inner]),
        "psnr_rgb": psnr(sr[inner, inner], hr[inner, inner]),
    }
    assert figures == pytest.approx(expected, abs=1e-9)

    framed = np.full_like(sr, 255)
    framed[inner, inner] = sr[inner, inner]
    assert compare(framed, hr, scale) == figures  # whatever the border holds
    framed[scale, scale] = 255 - hr[scale, scale]
    assert compare(framed, hr, scale)["psnr_y"] < figures["psnr_y"]  # its innermost neighbour counts
