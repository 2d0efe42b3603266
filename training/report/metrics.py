"""How good an enlarged picture is, measured as the papers measure it."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def luma(image: Pixels) -> NDArray[np.float64]:
    """MATLAB's ``rgb2ycbcr`` luma, 16 to 235 (ITU-R BT.601), unrounded: ``[H, W, 3]`` to ``[H, W]``."""
    return image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def crop_border(image: NDArray[np.generic], border: int) -> NDArray[np.generic]:
    return image[border:-border, border:-border] if border else image


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255; infinite for equal pictures."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def gaussian_window(size: int = 11, sigma: float = 1.5) -> NDArray[np.float64]:
    x = np.arange(size) - size // 2
    window = np.exp(-(x**2) / (2 * sigma**2))
    return window / window.sum()


def _filter(plane: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Separable correlation, valid part only."""
    size = len(window)
    rows = sum(w * plane[i : plane.shape[0] - size + 1 + i] for i, w in enumerate(window))
    return sum(w * rows[:, i : plane.shape[1] - size + 1 + i] for i, w in enumerate(window))


def ssim(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Mean SSIM of two planes, 0 to 255 (Wang et al. 2004): 11 x 11 Gaussian window, sigma 1.5, valid pixels."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    window = gaussian_window()
    if min(x.shape) < len(window):
        raise ValueError(f"SSIM needs {len(window)} x {len(window)} pixels, not {x.shape[0]} x {x.shape[1]}")
    mean_x, mean_y = _filter(x, window), _filter(y, window)
    var_x = _filter(x * x, window) - mean_x**2
    var_y = _filter(y * y, window) - mean_y**2
    covariance = _filter(x * y, window) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    quality = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(quality / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))))


def compare(sr: Pixels, hr: Pixels, scale: int) -> dict[str, float]:
    """The figures of one picture pair, uint8 ``[H, W, 3]``, ``scale`` pixels left out at each border."""
    sr, hr = crop_border(sr, scale), crop_border(hr, scale)
    sr_y, hr_y = luma(sr), luma(hr)
    return {"psnr_y": psnr(sr_y, hr_y), "ssim_y": ssim(sr_y, hr_y), "psnr_rgb": psnr(sr, hr)}
