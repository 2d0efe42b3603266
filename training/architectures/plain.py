"""The efficient classes, made for CPUs: 3x3 convolutions and ReLU, nothing that does not vectorise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import SubPixelGenerator, nearest_phases
from training.architectures.collapsible import CollapsibleConv


class Plain(SubPixelGenerator):
    """``depth`` 3x3 convolutions in a row, ReLU between, and a residual over the nearest-neighbour enlargement.

    The residual is what lets it learn within minutes: the network starts as nearest neighbour and only adds detail
    (the "anchor" of ABPN, Du et al. 2021, arXiv:2105.09750, which also keeps int8 activations small).
    """

    def __init__(self, scale: int, channels: int = 32, depth: int = 8) -> None:
        super().__init__()
        self.scale = scale
        self.head = CollapsibleConv(3, channels)
        self.trunk = nn.ModuleList(CollapsibleConv(channels, channels) for _ in range(depth - 2))
        self.tail = nn.Conv2d(channels, 3 * scale * scale, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(self.tail.bias)

    def phases(self, lr: Tensor) -> Tensor:
        features = F.relu(self.head(lr))
        for layer in self.trunk:
            features = F.relu(layer(features))
        return self.tail(features) + nearest_phases(lr, self.scale)


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(x)))``, without normalisation (EDSR's block, arXiv:1707.02921)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = CollapsibleConv(channels, channels, expansion=2)
        self.second = CollapsibleConv(channels, channels, expansion=2, identity=False)
        with torch.no_grad():
            self.second.squeeze.mul_(0.1)  # blocks start near the identity (arXiv:1707.02921, residual scaling)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class PlainResidual(SubPixelGenerator):
    """A deeper plain network: EDSR's blocks at a CPU's width, one long skip, the same enlarged residual."""

    def __init__(self, scale: int, channels: int = 56, blocks: int = 6) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.trunk = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.tail = nn.Conv2d(channels, 3 * scale * scale, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(self.tail.bias)

    def phases(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr)
        features = shallow
        for block in self.trunk:
            features = block(features)
        return self.tail(features + shallow) + nearest_phases(lr, self.scale)
