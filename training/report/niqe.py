"""NIQE: how far a picture's statistics are from those of undistorted photographs, without an original to compare with.

Mittal, Soundararajan and Bovik 2013, "Making a completely blind image quality analyzer", in the form of their MATLAB
release: luma of 0 to 255, rounded; blocks of 96 x 96 without overlap, at the picture's size and at half of it. About 3
is natural, more is worse; it says nothing of content, and it likes a regular grid, so it is never to choose alone.
"""

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.special import gamma

from training.data.degradations import reduction_matrix
from training.report.metrics import Pixels, luma

Plane = NDArray[np.float64]

BLOCK = 96  # pixels along the side
_TAPS = np.exp(-(np.arange(-3.0, 4.0) ** 2) / (2 * (7 / 6) ** 2))  # a Gaussian of 7 samples
WINDOW = _TAPS / _TAPS.sum()
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
FEATURES = 36
SOURCES = "give niqe_pris_params.npz of basicsr 1.4.2 (in its source archive, PyPI)"


@dataclass(frozen=True)
class Niqe:
    """``mean`` ``[36]`` and ``covariance`` ``[36, 36]`` of undistorted photographs' features."""

    mean: Plane
    covariance: Plane

    def __call__(self, image: Pixels) -> float:
        """The distance of uint8 ``[H, W, 3]``; ``ValueError`` for a picture smaller than a block."""
        blocks = features(image)
        blocks = blocks[~np.isnan(blocks).any(axis=1)]
        if len(blocks) < 2:
            return float("nan")  # too flat to say anything
        between = self.mean - blocks.mean(axis=0)
        spread = (self.covariance + np.cov(blocks, rowvar=False)) / 2
        return float(np.sqrt(between @ np.linalg.pinv(spread) @ between))


def load_niqe(path: Path) -> Niqe:
    try:
        with open(path, "rb") as data, np.load(data) as file:
            mean, covariance = file["mu_pris_param"].flatten(), file["cov_pris_param"]
    except (OSError, EOFError, LookupError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold NIQE's parameters: {SOURCES}") from error
    if (mean.shape, covariance.shape) != ((FEATURES,), (FEATURES, FEATURES)):
        raise ValueError(f"{path}: parameters of {mean.shape} and {covariance.shape}, not of {FEATURES} features")
    return Niqe(mean.astype(np.float64), covariance.astype(np.float64))


def features(image: Pixels) -> Plane:
    """``[blocks, 36]``: 18 of each block at the picture's size, then 18 of the same at half of it."""
    plane = np.rint(luma(image))
    rows, columns = (side // BLOCK for side in plane.shape)
    if not rows * columns:
        raise ValueError(f"NIQE needs {BLOCK} x {BLOCK} pixels, not {plane.shape[0]} x {plane.shape[1]}")
    plane = plane[: rows * BLOCK, : columns * BLOCK]
    halved = reduction_matrix(plane.shape[0], 2) @ plane @ reduction_matrix(plane.shape[1], 2).T
    scales = []
    for picture, side in ((plane, BLOCK), (halved, BLOCK // 2)):
        normalised = contrast_normalised(picture)
        blocks = normalised.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
        scales.append([block_features(block) for block in blocks])
    return np.concatenate([np.array(scale) for scale in scales], axis=1)


def contrast_normalised(plane: Plane) -> Plane:
    """Each pixel less its surroundings' mean, over their deviation and 1 (MSCN, Eq. 1)."""

    def blurred(x: Plane) -> Plane:
        down: Plane = correlate1d(x, WINDOW, axis=0, mode="nearest")
        across: Plane = correlate1d(down, WINDOW, axis=1, mode="nearest")
        return across

    mean = blurred(plane)
    return (plane - mean) / (np.sqrt(np.abs(blurred(plane * plane) - mean * mean)) + 1)


def block_features(block: Plane) -> list[float]:
    """Shape and width of the block's values, then shape, mean and both widths of their products with neighbours."""
    shape, left, right = fit_generalised_gaussian(block)
    found = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = fit_generalised_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        found += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return found


@cache
def shapes() -> tuple[Plane, Plane]:
    """The shapes that are looked through and, for each, the squared mean magnitude over the mean square."""
    shape = np.arange(0.2, 10.0005, 0.001)
    return shape, gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape))


def fit_generalised_gaussian(values: Plane) -> tuple[float, float, float]:
    """Shape and widths at either side of an asymmetric generalised Gaussian, by moments (Lasmar et al. 2009).

    Not numbers where all values are of one sign or there are none but 0.
    """
    left_square, right_square = (square_mean(values[side]) for side in (values < 0, values > 0))
    magnitude, square = np.abs(values).mean(), (values**2).mean()
    if not (left_square > 0 and right_square > 0):
        return (float("nan"),) * 3
    skew = np.sqrt(left_square / right_square)
    ratio = magnitude**2 / square * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape, ratios = shapes()
    best = shape[np.argmin((ratios - ratio) ** 2)]
    width = np.sqrt(gamma(1 / best) / gamma(3 / best))
    return float(best), float(np.sqrt(left_square) * width), float(np.sqrt(right_square) * width)


def square_mean(values: Plane) -> float:
    return float((values**2).mean()) if values.size else 0.0
