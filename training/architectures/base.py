"""What every generator is: LR in, HR out, and how sub-pixel phases are ordered."""

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """A super-resolution network at one integer scale.

    ``forward`` maps RGB float ``[N, 3, H, W]`` in [0, 1] to ``[N, 3, H * scale, W * scale]``, not clipped. Windows of
    an image begin at multiples of ``alignment`` LR pixels. Where ``takes_strength`` is true, ``forward`` takes a second
    tensor, ``[N]`` in [0, 1]: 0 enlarges faithfully, 1, the default, cleans and sharpens.
    """

    scale: int
    alignment: int = 1
    takes_strength: bool = False


class SubPixelGenerator(Generator):
    """A generator whose last layer still works at the LR size and yields sub-pixel phases (arXiv:1609.05158).

    ``phases`` maps ``[N, 3, H, W]`` to ``[N, s * s * 3, H, W]``, where channel ``(i * s + j) * 3 + c`` is colour ``c``
    of the HR pixel ``(y * s + i, x * s + j)``. This order, unlike ``nn.PixelShuffle``'s, lets the exported graph
    quantise to uint8 at the LR size and then move runs of ``s * 3`` contiguous bytes.
    """

    def phases(self, lr: Tensor, *strength: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define phases()")

    def forward(self, lr: Tensor, *strength: Tensor) -> Tensor:
        return shuffle(self.phases(lr, *strength), self.scale)


def shuffle(phases: Tensor, scale: int) -> Tensor:
    """``[N, s * s * 3, H, W]`` in the order above to ``[N, 3, H * s, W * s]``, channels last in memory."""
    n, _, h, w = phases.shape
    grid = phases.permute(0, 2, 3, 1).reshape(n, h, w, scale, scale * 3)  # N y x i (j c)
    rows = grid.transpose(2, 3)  # N y i x (j c): runs of scale * 3 values move together
    return rows.reshape(n, h * scale, w * scale, 3).permute(0, 3, 1, 2)


def nearest_phases(lr: Tensor, scale: int) -> Tensor:
    """The phases of nearest-neighbour enlargement: the LR picture, once for each HR pixel it covers."""
    return lr.repeat(1, scale * scale, 1, 1)


def rgb_to_ycbcr_matrix() -> Tensor:
    """BT.601 full range (JFIF 1.02): ``ycc = matrix @ rgb``, chroma centred on 0, all for RGB in [0, 1]."""
    return torch.tensor(
        [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]],
        dtype=torch.float32,
    )
