"""RRDB, the generator of ESRGAN (Wang et al. 2018, arXiv:1809.00219): residuals within residuals of dense blocks."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import Generator
from training.architectures.tails import enlarged, enlarging_tail, start_silent

RESIDUAL_SCALING = 0.2  # of every dense block and of every three of them
SLOPE = 0.2  # of every LeakyReLU


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees the input and all outputs before its own; the last one is added."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        inputs = [channels + i * growth for i in range(5)]
        outputs = [growth] * 4 + [channels]
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(inputs, outputs, strict=True))
        for layer in self.layers:  # the paper's "smaller initialisation": MSRA (arXiv:1502.01852) times 0.1
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data.mul_(0.1)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        known = [x]
        for layer in self.layers[:-1]:
            known.append(F.leaky_relu(layer(torch.cat(known, dim=1)), SLOPE))
        return torch.add(x, self.layers[-1](torch.cat(known, dim=1)), alpha=RESIDUAL_SCALING)


class Rrdb(nn.Module):
    """Three dense blocks and a residual around them."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.body(x), alpha=RESIDUAL_SCALING)


class RrdbNet(Generator):
    """23 RRDBs of 64 channels that grow by 32, one long skip, nearest upsampling with convolutions.

    ``input_residual`` adds the bilinear enlargement to the output, which the paper does not.
    """

    def __init__(
        self,
        scale: int,
        channels: int = 64,
        blocks: int = 23,
        growth: int = 32,
        tail: str = "nearest",
        input_residual: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.input_residual = scale, input_residual
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.trunk = nn.Sequential(
            *(Rrdb(channels, growth) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.tail = enlarging_tail(tail, channels, scale, partial(nn.LeakyReLU, SLOPE))
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        if input_residual:
            start_silent(self.last)

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr)  # N C H W
        features = self.tail(shallow + self.trunk(shallow))  # N C Hs Ws
        sr = self.last(F.leaky_relu(self.refine(features), SLOPE))
        return sr + enlarged(lr, self.scale) if self.input_residual else sr
