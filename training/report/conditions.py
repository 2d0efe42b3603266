"""How pictures are spoiled to be judged: fixed ways, the same for everybody, seeded by the picture itself.

Training spoils at random (``degradations``); these are the conditions under which figures are compared.
"""

import io
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from training.data.degradations import area, bicubic
from training.report.metrics import Pixels

WEB_QUALITY = 70
POOR_QUALITY = 45
POOR_BLUR = 0.5  # standard deviation, LR pixels: before the reduction it is ``scale`` times that
POOR_NOISE = 5.0  # standard deviation, levels of 255, each colour its own
SEED = 24


def clean(hr: Pixels, scale: int) -> Pixels:
    """MATLAB's bicubic reduction, kept without loss: what the published tables are measured on."""
    return bicubic(hr, scale)


def web(hr: Pixels, scale: int) -> Pixels:
    """Reduced by averaging areas, as browsers and sites do it, and saved as a good JPEG."""
    return jpeg(area(hr, scale), WEB_QUALITY)


def poor(hr: Pixels, scale: int) -> Pixels:
    """Out of focus, noisy, and compressed strongly: a small picture from a phone that was passed on."""
    sigma = POOR_BLUR * scale
    blurred: NDArray[np.float32] = gaussian_filter(hr.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    height, width, _ = hr.shape
    reduced = blurred.reshape(height // scale, scale, width // scale, scale, 3).mean(axis=(1, 3))
    rng = np.random.default_rng((SEED, zlib.crc32(hr.tobytes())))
    noisy = reduced + POOR_NOISE * rng.standard_normal(reduced.shape, np.float32)
    return jpeg(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), POOR_QUALITY)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Through a JPEG with chroma at half the resolution, by libjpeg-turbo."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(buffer) as picture:
        return np.asarray(picture.convert("RGB"))


CONDITIONS: dict[str, Callable[[Pixels, int], Pixels]] = {"clean": clean, "web": web, "poor": poor}
"""HR uint8 ``[H, W, 3]``, sides multiples of the scale, to LR ``[H / scale, W / scale, 3]``."""
