"""What is minimised. Every loss maps SR and HR, float ``[N, 3, H, W]`` in [0, 1], to a scalar."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def charbonnier(sr: Tensor, hr: Tensor, eps: float = 1e-3) -> Tensor:
    """A smooth L1 (Lai et al. 2017, arXiv:1704.03915)."""
    return torch.sqrt((sr - hr) ** 2 + eps**2).mean()


PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "charbonnier": charbonnier,
}
