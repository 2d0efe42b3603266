"""Conversions of finished rows: three channels to one, one depth to the other, transparent to opaque."""

import numpy as np
from numpy.typing import NDArray

from app.images.pixels import Pixels


def lay_on(rows: Pixels, alpha: Pixels, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Composites straight-alpha 8-bit ``rows`` over a plain colour, rounded."""
    opaque = alpha.astype(np.uint16)
    mixed = rows * opaque + np.array(background, np.uint16) * (255 - opaque)
    return ((mixed + 127) // 255).astype(np.uint8)


def luma(rows: Pixels) -> Pixels:
    """BT.601 luma of ``[n, W, 3]`` as ``[n, W, 1]``, in 256ths; equal channels stay as they are."""
    wide = np.uint16 if rows.dtype == np.uint8 else np.uint32  # the sum is at most 256 times the peak
    total = np.einsum("hwc,c->hw", rows, np.array([77, 150, 29], wide))[:, :, np.newaxis]
    gray: Pixels = ((total + 128) >> 8).astype(rows.dtype)
    return gray


def at_depth(rows: Pixels, depth: int) -> Pixels:
    """Scales samples from the full range of one depth to that of 8 or 16 bits, rounded."""
    if rows.dtype == np.uint16 and depth == 8:
        return ((rows.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return widened(rows, depth)


def widened(rows: Pixels, depth: int) -> Pixels:
    """8 bits as 16 if that depth is requested: the network then has 16 bits to give."""
    return rows.astype(np.uint16) * np.uint16(257) if rows.dtype == np.uint8 and depth == 16 else rows
