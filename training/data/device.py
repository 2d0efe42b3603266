"""Batches cut on a GPU from pictures that lie in its memory, so that it never waits for them.

A processor's thread cuts some 140 batches of 32 crops a second; a GPU computes more steps than that of the smaller
networks. Here the processor only draws where the crops lie: the pixels of a batch are two reads of the GPU's memory.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.pairs import Cut, PairSet, draw_cut, draws
from training.recipe import DataRecipe

Table = NDArray[np.int64]
"""A cut a row: where its LR picture begins, that one's width, top, left, flips down and across, transpose, order."""

ROOM = 0.5  # of the GPU's free memory that the pictures may take: networks need some too


class DevicePairs:
    """The pictures of a set on a device."""

    def __init__(self, pairs: PairSet, device: torch.device) -> None:
        self._scale = pairs.scale
        self._lr, self._hr = (torch.from_numpy(np.array(flat)).to(device) for flat in (pairs.lr, pairs.hr))

    def cut(self, table: Table, side: int) -> tuple[Tensor, Tensor]:
        """LR uint8 ``[N, side, side, 3]`` and HR ``[N, side * scale, side * scale, 3]``, as ``data.cut_out``."""
        columns = torch.from_numpy(table).to(self._lr.device, non_blocking=True)
        return gathered(self._lr, columns, side, 1), gathered(self._hr, columns, side, self._scale)


def gathered(flat: Tensor, table: Tensor, side: int, scale: int) -> Tensor:
    """The crops of a table, at ``scale`` times the LR pixels in it, from all pictures one behind the other."""
    start, width, top, left, flip_y, flip_x, transpose = table[:, :7, None, None].unbind(1)  # [N, 1, 1] each
    along = torch.arange(side * scale, device=flat.device)
    down, across = along[None, :, None], along[None, None, :]
    rows = torch.where(transpose > 0, across, down)  # of the crop before it was turned
    columns = torch.where(transpose > 0, down, across)
    rows = torch.where(flip_y > 0, side * scale - 1 - rows, rows) + top * scale
    columns = torch.where(flip_x > 0, side * scale - 1 - columns, columns) + left * scale
    samples = start * scale**2 + 3 * (rows * width * scale + columns)
    return flat[samples[..., None] + table[:, None, None, 7:]]


def tables(
    pairs: PairSet, data: DataRecipe, seed: int, first_step: int, last_step: int, rank: int = 0
) -> Iterator[Table]:
    """Of each step the crops that ``data.batches`` would cut, for degradations that are not random."""
    for chosen, rng in draws(pairs, data, seed, first_step, last_step, rank):
        cuts = [draw_cut(pairs, picture, data.crop, data, rng) for picture in chosen]
        yield np.array([row_of(pairs, cut) for cut in cuts], np.int64)


def row_of(pairs: PairSet, cut: Cut) -> tuple[int, ...]:
    start, width = int(pairs.starts[cut.picture]), pairs.sizes[cut.picture][1]
    return (start, width, cut.top, cut.left, *cut.flips, cut.transpose, *cut.order)


def fits(pairs: PairSet, device: torch.device) -> bool:
    """Whether a GPU has room for all pictures; a processor cuts them from where they lie."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return pairs.lr.nbytes + pairs.hr.nbytes < ROOM * free
