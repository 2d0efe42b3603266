"""SRResNet, the generator of SRGAN (Ledig et al. 2017, arXiv:1609.04802)."""

from functools import partial

from torch import Tensor, nn

from training.architectures.base import Generator
from training.architectures.tails import enlarged, enlarging_tail, start_silent


class ResidualBlock(nn.Module):
    """``x + bn(conv(prelu(bn(conv(x)))))``; PReLU has one slope a channel, shared over H and W, 0.25 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),  # the normalisation has the bias
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Srresnet(Generator):
    """16 blocks of 64 channels between two 9x9 convolutions, one long skip.

    ``input_residual`` adds the bilinear enlargement to the output, which the paper does not; it saves a CPU an hour.
    """

    def __init__(
        self,
        scale: int,
        channels: int = 64,
        blocks: int = 16,
        tail: str = "subpixel",
        input_residual: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.input_residual = scale, input_residual
        self.head = nn.Sequential(nn.Conv2d(3, channels, 9, padding=4), nn.PReLU(channels))
        self.trunk = nn.Sequential(
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.tail = enlarging_tail(tail, channels, scale, partial(nn.PReLU, channels))
        self.last = nn.Conv2d(channels, 3, 9, padding=4)
        if input_residual:
            start_silent(self.last)

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr)  # N C H W
        sr = self.last(self.tail(shallow + self.trunk(shallow)))  # N 3 Hs Ws
        return sr + enlarged(lr, self.scale) if self.input_residual else sr
