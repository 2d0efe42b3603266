"""EDSR (Lim et al. 2017, arXiv:1707.02921): SRResNet without normalisation, and with ReLU only inside its blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import Generator
from training.architectures.tails import enlarged, enlarging_tail, start_silent

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB in [0, 1] over the 800 training pictures


class ResidualBlock(nn.Module):
    """``x + scaling * conv(relu(conv(x)))``."""

    def __init__(self, channels: int, scaling: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.second(F.relu(self.first(x))), alpha=self.scaling)


class Edsr(Generator):
    """The baseline, 16 blocks of 64 channels; the large one is ``channels=256, blocks=32, residual_scaling=0.1``.

    ``input_residual`` adds the bilinear enlargement to the output, which the paper does not; it saves a CPU an hour.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int,
        channels: int = 64,
        blocks: int = 16,
        residual_scaling: float = 1.0,
        tail: str = "subpixel",
        input_residual: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.input_residual = scale, input_residual
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN)[:, None, None])
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.trunk = nn.Sequential(
            *(ResidualBlock(channels, residual_scaling) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.tail = enlarging_tail(tail, channels, scale)
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        if input_residual:
            start_silent(self.last)

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr - self.mean)  # N C H W
        sr = self.last(self.tail(shallow + self.trunk(shallow)))  # N 3 Hs Ws
        return sr + (enlarged(lr, self.scale) if self.input_residual else self.mean)
