"""Pictures from noise: the latent vectors of a seed, and drawn pictures laid out as one grid."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.inference.zoo import GeneratorSpec

Pixels = NDArray[np.uint8 | np.uint16]
GAP = 2  # pixels between the pictures of a grid, and around them


def latent_vectors(seed: int, count: int, latent: int) -> NDArray[np.float32]:
    """Float32 ``[count, latent]``, standard normal: NumPy's PCG64 started with ``seed``, row after row.

    The first vectors of a seed are the same whatever ``count`` is, so more pictures are the same ones and others.
    """
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((count, latent), np.float32)


def grid(pictures: Pixels, columns: int) -> Pixels:
    """uint8 ``[N, h, w, c]`` to one picture ``[H, W, c]``: row by row, black between; an unfinished row stays black."""
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), np.uint8)
    for index, picture in enumerate(pictures):
        y, x = GAP + index // columns * (height + GAP), GAP + index % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def describe_generator(spec: GeneratorSpec) -> dict[str, Any]:
    """What ``GET /models`` tells of it."""
    return {
        "name": spec.name,
        "kind": "generator",
        "summary": spec.summary,
        "licence": spec.licence,
        "architecture": spec.architecture,
        "latent": spec.latent,
        "size": [spec.height, spec.width, spec.channels],
        "parameters": spec.parameters,
        "macs_per_picture": spec.macs,
        "files": {
            precision: {"sha256": file.sha256, "bytes": file.bytes, "metrics": file.metrics}
            for precision, file in spec.files.items()
        },
    }
