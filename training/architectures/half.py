"""Networks whose trunk works at half the LR size: for the time of a trunk at the LR size four times the parameters
and twice the reach, which cleaning and drawing anew need more than they need exact positions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import SubPixelGenerator, nearest_phases

HALF = 2  # LR pixels along the side of one position of the trunk
BLOCK_SCALE = 0.1  # of a block's last kernel at the start, so that blocks begin near the identity (arXiv:1707.02921)


class Block(nn.Module):
    """``x + conv(relu(conv(x)))``. Plain convolutions: at these widths collapsible ones take a third of a step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.second.weight.data.mul_(BLOCK_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class HalfSize(SubPixelGenerator):
    """EDSR's blocks at half the LR size, shuffled back; at the LR size they meet features of LR itself.

    ``channels`` and ``blocks`` are the trunk's, ``detail`` the channels at the LR size, where ``depth`` convolutions
    draw the phases. Sides that are odd are padded to even ones, and the result is cut. ``strength``: the network takes
    one, as a fourth plane beside LR's colours (FFDNet's way of telling how noisy LR is, arXiv:1710.04026).
    """

    alignment = HALF

    def __init__(
        self,
        scale: int,
        channels: int = 128,
        blocks: int = 10,
        detail: int = 64,
        depth: int = 2,
        strength: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.takes_strength = scale, strength
        planes = 4 if strength else 3
        self.head = nn.Conv2d(planes, channels, 3 * HALF, stride=HALF)
        self.trunk = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.back = nn.Conv2d(channels, detail * HALF**2, 3, padding=1)
        self.skip = nn.Conv2d(planes, detail, 3, padding=1)
        self.refine = nn.ModuleList(nn.Conv2d(detail, detail, 3, padding=1) for _ in range(depth - 1))
        self.tail = nn.Conv2d(detail, 3 * scale * scale, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(self.tail.bias)

    def phases(self, lr: Tensor, *strength: Tensor) -> Tensor:
        h, w = lr.shape[2:]
        planes = self._with_strength(lr, *strength)
        # 2 pixels on the left, 3 on the right: one position for every pair of pixels, and for a last one that is odd
        shallow = self.head(F.pad(planes, (HALF, HALF + 1, HALF, HALF + 1)))  # N C ceil(h / 2) ceil(w / 2)
        features = shallow
        for block in self.trunk:
            features = block(features)
        features = F.pixel_shuffle(self.back(features + shallow), HALF)[:, :, :h, :w]  # N D h w
        features = F.relu(features + self.skip(planes))
        for layer in self.refine:
            features = F.relu(layer(features))
        return self.tail(features) + nearest_phases(lr, self.scale)

    def _with_strength(self, lr: Tensor, strength: Tensor | None = None) -> Tensor:
        if not self.takes_strength:
            return lr
        n, _, h, w = lr.shape
        if strength is None:
            strength = lr.new_ones(n)
        return torch.cat([lr, strength[:, None, None, None].expand(n, 1, h, w)], dim=1)
