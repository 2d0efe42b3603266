"""The self-test: each network must enlarge a known tile into something recognisable as that tile.

The hash proves the file and the face its form; this proves that the provider computes it: a driver, a kernel or a
precision gone wrong gives black, noise, NaN or another tile. No expectation is stored beside the file. Whatever a
network adds to a picture, averaged over each LR pixel's own HR pixels it must give that pixel back.
"""

import numpy as np

from app.errors import ProofError
from app.images.pixels import Pixels

MOST_DIFFERENCE = 6.0  # of 255, mean; shipped networks: under 2


def proving_tile(side: int) -> Pixels:
    """One gradient per channel, in three directions, with a dark and a light square: uint8 ``[side, side, 3]``."""
    slope = np.linspace(20, 220, side)
    down, across = np.meshgrid(slope, slope, indexing="ij")
    tile = np.stack([down, across, 240 - (down + across) / 2], axis=2).astype(np.uint8)
    quarter = side // 4
    tile[quarter : 2 * quarter, quarter : 2 * quarter] = (15, 30, 60)
    tile[2 * quarter : 3 * quarter, quarter : 2 * quarter] = (250, 235, 200)
    return tile


def check_proof(title: str, tile: Pixels, upscaled: Pixels) -> None:
    """``tile`` ``[h, w, 3]`` and what the network made of it; ``ProofError`` if they have too little in common."""
    height, width, _ = tile.shape
    scale = upscaled.shape[0] // height
    if upscaled.shape != (height * scale, width * scale, 3):
        raise ProofError(f"{title}: a tile of {tile.shape} came out as {upscaled.shape}.")
    means = upscaled.reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
    difference = float(np.abs(means - tile).mean())
    if not difference <= MOST_DIFFERENCE:
        raise ProofError(
            f"{title}: its output is not the image that it was given: {difference:.1f} of 255 away from it."
        )
