"""What is minimised. Every loss maps SR and HR, float ``[N, 3, H, W]`` in [0, 1], to a scalar."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def charbonnier(sr: Tensor, hr: Tensor, eps: float = 1e-3) -> Tensor:
    """A smooth L1 (Lai et al. 2017, arXiv:1704.03915)."""
    return torch.sqrt((sr - hr) ** 2 + eps**2).mean()


GRID_PERIOD = 8  # HR pixels: the periods 2, 4 and 8 of sub-pixel tails at x2 and x4 and of a trunk at half the LR size
GRID_CELLS = 4  # periods along the side of the square over which a phase is averaged


def grid(sr: Tensor, hr: Tensor, period: int = GRID_PERIOD) -> Tensor:
    """How much of the error repeats itself every ``period`` pixels: its mean a phase and square, in the mean square.

    What images show is as likely at one phase as at another, so the mean over a few periods is near 0 but for a grid
    that the network draws. Sides need not be multiples of the period.
    """
    error = sr - hr
    rows, columns = (side // period // GRID_CELLS for side in error.shape[2:])
    if not rows or not columns:
        return error.new_zeros(())
    side = period * GRID_CELLS
    cells = error[:, :, : rows * side, : columns * side].unflatten(2, (rows, GRID_CELLS, period))
    cells = cells.unflatten(5, (columns, GRID_CELLS, period))  # N C rows cells period columns cells period
    phases = cells.mean(dim=(3, 6))  # N C rows period columns period
    return (phases - phases.mean(dim=(3, 5), keepdim=True)).square().mean()


PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "charbonnier": charbonnier,
}
