"""HR to LR: how the pairs that networks learn from are made."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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
