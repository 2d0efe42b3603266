"""The self-test: each network must enlarge a known tile into something recognisable as that tile.

The hash verifies the file, the face its inputs and outputs; this verifies that the provider computes it: a faulty
driver, kernel or precision gives black, noise, NaN or another tile. No expected output is stored. Whatever detail a
network adds, the mean over the HR pixels of each LR pixel must be that LR pixel.
"""

import numpy as np

from app.errors import SelfTestError
from app.images.pixels import Pixels

MOST_DIFFERENCE = 6.0  # mean, of 255; shipped networks stay under 2


def known_tile(side: int) -> Pixels:
    """One gradient per channel, in three directions, with a dark and a light square: uint8 ``[side, side, 3]``."""
    slope = np.linspace(20, 220, side)
    down, across = np.meshgrid(slope, slope, indexing="ij")
    tile = np.stack([down, across, 240 - (down + across) / 2], axis=2).astype(np.uint8)
    quarter = side // 4
    tile[quarter : 2 * quarter, quarter : 2 * quarter] = (15, 30, 60)
    tile[2 * quarter : 3 * quarter, quarter : 2 * quarter] = (250, 235, 200)
    return tile


def check_known_tile(title: str, tile: Pixels, upscaled: Pixels) -> None:
    """Compares ``tile`` ``[h, w, 3]`` with the network's output; raises ``SelfTestError`` if they differ too much."""
    height, width, _ = tile.shape
    scale = upscaled.shape[0] // height
    if upscaled.shape != (height * scale, width * scale, 3):
        raise SelfTestError(f"{title}: a tile of {tile.shape} came out as {upscaled.shape}.")
    means = upscaled.reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
    difference = float(np.abs(means - tile).mean())
    if not difference <= MOST_DIFFERENCE:
        raise SelfTestError(f"{title}: its output is not the image that it was given: off by {difference:.1f} of 255.")
