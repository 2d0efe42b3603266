"""Images from noise: the latent vectors of a seed, and drawn images laid out as one grid."""

import numpy as np
from numpy.typing import NDArray

from app.images.pixels import Pixels

GAP = 2  # pixels between the images of a grid, and around them


def latent_vectors(seed: int, count: int, latent: int) -> NDArray[np.float32]:
    """Float32 ``[count, latent]``, standard normal: NumPy's PCG64 started with ``seed``, row after row.

    The first vectors of a seed are the same whatever ``count`` is, so more images are the same ones and others.
    """
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((count, latent), np.float32)


def grid(pictures: Pixels, columns: int) -> Pixels:
    """uint8 ``[N, h, w, c]`` to one image ``[H, W, c]``: row by row, black between; an unfinished row stays black."""
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), np.uint8)
    for index, picture in enumerate(pictures):
        y, x = GAP + index // columns * (height + GAP), GAP + index % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = picture
    return sheet
