"""What looks cannot tell: whether an enlarged picture still shows what LR shows, and whether a grid lies over it."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from skimage.color import deltaE_ciede2000, rgb2lab

from training.data.degradations import area
from training.losses.pixel import GRID_PERIOD
from training.report.metrics import Pixels, luma, psnr


def fidelity(sr: Pixels, lr: Pixels, scale: int) -> dict[str, float]:
    """Of one picture, uint8 ``[H, W, 3]``, beside what it was made from.

    ``lr_psnr``: SR reduced by averaging areas, against LR, RGB, dB. ``lr_delta_e``: the same as mean CIEDE2000, which
    tells a colour cast. ``grid``: as ``grid_level`` has it.
    """
    reduced = area(sr, scale)
    colours = deltaE_ciede2000(rgb2lab(reduced), rgb2lab(lr))
    return {
        "lr_psnr": psnr(reduced, lr),
        "lr_delta_e": float(np.mean(colours)),
        "grid": grid_level(sr),
    }


def grid_level(pixels: Pixels, period: int = GRID_PERIOD) -> float:
    """How strong a pattern repeats itself every ``period`` pixels (or every half or quarter of them) over the whole
    picture: its deviation in levels of luma.

    What a picture shows lies at all phases alike and cancels out, a grid always at the same. Calm places count most:
    there it is seen.
    """
    plane = luma(pixels)
    fine = plane - uniform_filter(plane, period, mode="nearest")  # without smooth gradients, which look alike in cells
    weights = 1 / (1 + uniform_filter(fine**2, period, mode="nearest"))
    rows, columns = (length // period for length in fine.shape)
    if not rows or not columns:
        return 0.0

    def phases(values: NDArray[np.float64]) -> NDArray[np.float64]:
        cells = values[: rows * period, : columns * period].reshape(rows, period, columns, period)
        return cells.sum(axis=(0, 2))

    return float(np.std(phases(weights * fine) / phases(weights)))
