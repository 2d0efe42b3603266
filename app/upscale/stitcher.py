"""HR windows to finished rows: pastes the cores of one band and fades the overlaps; holds one band, never the image."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from app.images.pixels import Pixels
from app.upscale.tiler import Plan, Span


class Stitcher:
    """Takes the HR windows of a plan, band by band from the top, and returns finished rows.

    One object serves one image. HR windows are uint8 or uint16 ``[h * scale, w * scale, C]``, rows ``[n, W * scale,
    C]`` of the same depth.
    """

    def __init__(self, plan: Plan, scale: int) -> None:
        self._plan, self._scale = plan, scale
        self._held: Pixels | None = None  # rows of the last band into which the next one fades

    def band(self, row: Span, windows: Iterable[Pixels]) -> Pixels:
        """The rows that become final with this band's windows, given left to right."""
        pixels = self._paste(row, windows)
        fade = self._plan.blend * self._scale
        if self._held is not None:
            pixels[:fade] = cross_fade(self._held, pixels[:fade], axis=0)
        if row.core_stop == self._plan.height:
            self._held = None
            return pixels
        self._held = pixels[len(pixels) - fade :].copy()
        return pixels[: len(pixels) - fade]

    def _paste(self, row: Span, windows: Iterable[Pixels]) -> Pixels:
        s, plan = self._scale, self._plan
        fade = plan.blend * s
        top, bottom = (row.core_start - row.start) * s, (row.core_stop - row.start) * s
        band: Pixels | None = None
        for column, window in zip(plan.columns, windows, strict=True):
            core = window[top:bottom, (column.core_start - column.start) * s : (column.core_stop - column.start) * s]
            if band is None:
                band = np.empty((bottom - top, plan.width * s, core.shape[2]), core.dtype)
            left, right = column.core_start * s, column.core_stop * s
            if column.core_start:
                band[:, left : left + fade] = cross_fade(band[:, left : left + fade], core[:, :fade], axis=1)
                band[:, left + fade : right] = core[:, fade:]
            else:
                band[:, left:right] = core
        assert band is not None  # a plan has at least one column
        return band


def cross_fade(before: Pixels, after: Pixels, axis: int) -> Pixels:
    """Fades linearly along ``axis`` from one image to another of the same shape; equal pixels are unchanged."""
    length = before.shape[axis]
    shape = [1] * before.ndim
    shape[axis] = length
    weight = ((np.arange(length) + 0.5) / length * 256).astype(np.uint32).reshape(shape)  # 256ths of `after`
    mixed: NDArray[np.uint32] = before * (256 - weight) + after * weight + 128  # at most 256 * 65,535 + 128
    faded: Pixels = (mixed >> 8).astype(before.dtype)
    return faded
