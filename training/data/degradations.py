"""HR to LR: how the pairs that networks learn from are made."""

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter

Image = NDArray[np.uint8]
"""uint8 ``[H, W, C]``, sRGB."""


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -0.5, as MATLAB's ``imresize`` uses it."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def reduction_matrix(length: int, scale: int) -> NDArray[np.float32]:
    """MATLAB's antialiased bicubic reduction of one axis as a matrix: ``[length // scale, length]``.

    The kernel is stretched by ``scale``, its weights sum to 1, and indices beyond the edges mirror (edge repeated).
    """
    out = length // scale
    centres = (np.arange(out) + 0.5) * scale - 0.5
    reach = 2 * scale
    taps = np.floor(centres[:, None]).astype(int) + np.arange(-reach, reach + 2)
    weights = cubic((centres[:, None] - taps) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    period = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    matrix = np.zeros((out, length))
    np.add.at(matrix, (np.arange(out)[:, None], period[taps % (2 * length)]), weights)
    return matrix.astype(np.float32)


def bicubic(image: Image, scale: int) -> Image:
    """MATLAB's ``imresize(image, 1 / scale, 'bicubic')``; sides must be multiples of ``scale``."""
    rows = reduction_matrix(image.shape[0], scale)
    columns = reduction_matrix(image.shape[1], scale)
    reduced = np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float32), columns, optimize=True)
    return np.clip(np.floor(reduced + 0.5), 0, 255).astype(np.uint8)


def area(image: Image, scale: int) -> Image:
    """The mean of each ``scale`` x ``scale`` square (the ESPCN source's reduction)."""
    h, w, c = image.shape
    means = image.reshape(h // scale, scale, w // scale, scale, c).mean(axis=(1, 3))
    return np.floor(means + 0.5).astype(np.uint8)


DEGRADATIONS: dict[str, Callable[[Image, int], Image]] = {"bicubic": bicubic, "area": area}


# -- what phones and the web do to pictures ----------------------------------------------------------------------

KERNELS = (Pillow.Resampling.BOX, Pillow.Resampling.BILINEAR, Pillow.Resampling.BICUBIC)
JPEG_QUALITY = (30, 95)
LARGEST_BLUR = 0.5  # standard deviation over `scale`, so that the first blur is at most half an LR pixel's
LARGEST_NOISE = 6.0  # standard deviation in levels of 255


def photo(image: Image, scale: int, rng: np.random.Generator) -> Image:
    """HR to LR as the real world might have done it, otherwise on every call: twice blur, resize, noise and JPEG.

    Real-ESRGAN's second-order model (Wang et al. 2021, arXiv:2107.10833) in milder ranges and without its sinc filter.
    Every resize maps the whole picture to the whole picture, so LR and HR stay aligned; sides must be multiples of
    ``scale``, and LR is exactly ``scale`` times smaller.
    """
    height, width = (side // scale for side in image.shape[:2])
    picture = blurred(Pillow.fromarray(image), LARGEST_BLUR * scale, rng)
    between = rng.uniform(1, 0.7 * scale)  # the size that the camera or the first web site kept, in LR sizes
    picture = resized(picture, round(width * between), round(height * between), rng)
    picture = compressed(noisy(picture, rng), rng)
    picture = blurred(picture, LARGEST_BLUR * between, rng)
    if rng.random() < 0.75:  # most pictures were compressed last
        return np.asarray(compressed(noisy(resized(picture, width, height, rng), rng), rng))
    return np.asarray(resized(compressed(noisy(picture, rng), rng), width, height, rng))


def blurred(picture: Pillow.Image, largest: float, rng: np.random.Generator) -> Pillow.Image:
    """A Gaussian of its own width along each axis, in every other picture."""
    if rng.random() < 0.5:
        return picture
    x, y = rng.uniform(0, largest, 2)
    return picture.filter(ImageFilter.GaussianBlur((x, y)))


def resized(picture: Pillow.Image, width: int, height: int, rng: np.random.Generator) -> Pillow.Image:
    return picture.resize((width, height), KERNELS[rng.integers(len(KERNELS))])


def noisy(picture: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """In every other picture: Gaussian noise, of each colour or of all alike, or a sensor's, which grows with light.

    The latter is Poisson noise in the normal approximation: its variance is proportional to the level.
    """
    if rng.random() < 0.5:
        return picture
    pixels = np.asarray(picture, np.float32)
    channels = 1 if rng.random() < 0.4 else 3
    noise = rng.standard_normal((*pixels.shape[:2], channels), np.float32) * np.float32(rng.uniform(0, LARGEST_NOISE))
    if rng.random() < 0.5:
        noise = noise * np.sqrt(pixels / 128)
    return Pillow.fromarray(np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8))


def compressed(picture: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Through a JPEG, with chroma at half the resolution or at the full one; one in eight pictures stays as it is."""
    if rng.random() < 1 / 8:
        return picture
    low, high = JPEG_QUALITY
    buffer = io.BytesIO()
    subsampling = "4:2:0" if rng.random() < 0.75 else "4:4:4"
    picture.save(buffer, "JPEG", quality=int(rng.integers(low, high + 1)), subsampling=subsampling)
    return Pillow.open(buffer).convert("RGB")


RANDOM_DEGRADATIONS: dict[str, Callable[[Image, int, np.random.Generator], Image]] = {"photo": photo}
"""Those which draw random numbers: made anew for every crop, and once for every picture to validate on."""
