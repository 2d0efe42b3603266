"""The efficient class: blocks of three convolutions that gate themselves (SPAN, Wan et al. 2024, arXiv:2311.12770)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import SubPixelGenerator, nearest_phases
from training.architectures.collapsible import CollapsibleConv


class GatedBlock(nn.Module):
    """Three 3x3 convolutions; the last one's output is added to the input and also gates the sum, without parameters.

    The paper gates with ``sigmoid(x) - 0.5``, which starts near zero and starves the blocks behind it; here the gate is
    ``2 * sigmoid(x)``, which starts near one, so that a fresh block is nearly the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = CollapsibleConv(channels, channels, expansion=2)
        self.second = CollapsibleConv(channels, channels, expansion=2)
        self.third = CollapsibleConv(channels, channels, expansion=2, identity=False)
        with torch.no_grad():
            self.third.squeeze.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        detail = self.third(F.relu(self.second(F.relu(self.first(x)))))
        return (x + detail) * (2 * torch.sigmoid(detail))


class Span(SubPixelGenerator):
    """Gated blocks in a row, the features of four depths joined by a 1x1 convolution, a residual over nearest."""

    def __init__(self, scale: int, channels: int = 48, blocks: int = 5) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.trunk = nn.ModuleList(GatedBlock(channels) for _ in range(blocks))
        self.join = nn.Conv2d(4 * channels, channels, 1)
        self.tail = nn.Conv2d(channels, 3 * scale * scale, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(self.tail.bias)

    def phases(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr)
        depths = [shallow]
        for block in self.trunk:
            depths.append(block(depths[-1]))
        joined = self.join(torch.cat([shallow, depths[1], depths[-2], depths[-1]], dim=1))
        return self.tail(joined) + nearest_phases(lr, self.scale)
