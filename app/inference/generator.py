"""Images from noise: the latent vectors of a seed, and generated images laid out as one grid."""

import numpy as np
from numpy.typing import NDArray

from app.images.pixels import Pixels

GAP = 2  # pixels between and around the images of a grid


def latent_vectors(seed: int, count: int, latent: int) -> NDArray[np.float32]:
    """Float32 ``[count, latent]``, standard normal: NumPy's PCG64 seeded with ``seed``, row after row.

    The first vectors of a seed do not depend on ``count``, so a larger count adds images to the same ones.
    """
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((count, latent), np.float32)


def grid(pictures: Pixels, columns: int) -> Pixels:
    """uint8 ``[N, h, w, c]`` to one image ``[H, W, c]``: row by row on black; an incomplete row is filled with
    black."""
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), np.uint8)
    for index, picture in enumerate(pictures):
        y, x = GAP + index // columns * (height + GAP), GAP + index % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = picture
    return sheet
