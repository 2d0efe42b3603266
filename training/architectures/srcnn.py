"""SRCNN (Dong et al. 2014, arXiv:1501.00092): bicubic enlargement first, then three convolutions on the luma plane."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import Generator, rgb_to_ycbcr_matrix
from training.architectures.interpolation import Interpolation
from training.architectures.tails import start_silent


class Srcnn(Generator):
    """The paper's 9-1-5 network (``middle=1``) or its larger 9-5-5 (``middle=5``), 64 and 32 filters.

    Chroma stays bicubic. In YCbCr every colour is ``luma + (something of chroma alone)``, so recombining is adding the
    same change of luma to R, G and B of the bicubic picture; nothing has to be converted back.

    ``residual``: the network's output is added to the bicubic luma instead of replacing it (as in VDSR, Kim et al.
    2016, arXiv:1511.04587). The paper has none; with it, training takes minutes where it took days.
    """

    bicubic: Tensor
    luma: Tensor

    def __init__(self, scale: int, middle: int = 1, residual: bool = False) -> None:
        super().__init__()
        if middle not in (1, 3, 5):
            raise ValueError(f"middle must be 1, 3 or 5, the kernels of the paper, not {middle}")
        self.scale, self.residual = scale, residual
        phases = Interpolation(scale, "bicubic").weight.unflatten(0, (scale**2, 3))
        planes = phases.transpose(0, 1).flatten(0, 1)  # [(c i j), 3, k, k]: the channel order of pixel_shuffle
        self.register_buffer("bicubic", planes, persistent=False)
        self.register_buffer("luma", rgb_to_ycbcr_matrix()[:1, :, None, None].clone(), persistent=False)
        self.extraction = nn.Conv2d(1, 64, 9, padding=4)
        self.mapping = nn.Conv2d(64, 32, middle, padding=middle // 2)
        self.reconstruction = nn.Conv2d(32, 1, 5, padding=2)
        if residual:
            start_silent(self.reconstruction)

    def forward(self, lr: Tensor) -> Tensor:
        picture = self.enlarged(lr.float())  # N 3 Hs Ws
        luma = F.conv2d(picture, self.luma)  # N 1 Hs Ws
        features = F.relu(self.mapping(F.relu(self.extraction(luma))))
        change = self.reconstruction(features)
        return picture + (change if self.residual else change - luma)

    def enlarged(self, lr: Tensor) -> Tensor:
        """The bicubic picture, in float32 even where training is in bfloat16, whose mantissa has 8 bits."""
        r = self.bicubic.shape[-1] // 2
        padded = F.pad(lr, (r, r, r, r), mode="replicate")
        if not torch.is_autocast_enabled(lr.device.type):
            return F.pixel_shuffle(F.conv2d(padded, self.bicubic), self.scale)
        with torch.autocast(lr.device.type, enabled=False):
            return F.pixel_shuffle(F.conv2d(padded, self.bicubic), self.scale)
