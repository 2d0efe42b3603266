"""How good an enlarged picture is, measured as the papers measure it."""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Pixels = NDArray[np.uint8]
WINDOW = 11  # pixels


def luma(image: Pixels) -> NDArray[np.float64]:
    """MATLAB's ``rgb2ycbcr`` luma, 16 to 235 (ITU-R BT.601), unrounded: ``[H, W, 3]`` to ``[H, W]``."""
    return image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def crop_border(image: NDArray[np.generic], border: int) -> NDArray[np.generic]:
    return image[border:-border, border:-border] if border else image


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255; infinite for equal pictures."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def ssim(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Mean SSIM of two planes, 0 to 255 (Wang et al. 2004): 11 x 11 Gaussian window, sigma 1.5, valid pixels."""
    if min(a.shape) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} x {WINDOW} pixels, not {a.shape[0]} x {a.shape[1]}")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return float(structural_similarity(a.astype(np.float64), b.astype(np.float64), **options))


def compare(sr: Pixels, hr: Pixels, scale: int) -> dict[str, float]:
    """The figures of one picture pair, uint8 ``[H, W, 3]``, ``scale`` pixels left out at each border."""
    sr, hr = crop_border(sr, scale), crop_border(hr, scale)
    sr_y, hr_y = luma(sr), luma(hr)
    return {"psnr_y": psnr(sr_y, hr_y), "ssim_y": ssim(sr_y, hr_y), "psnr_rgb": psnr(sr, hr)}
