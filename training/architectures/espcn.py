"""ESPCN (Shi et al. 2016, arXiv:1609.05158): convolutions on the luma plane at LR size, then sub-pixel phases."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import SubPixelGenerator, rgb_to_ycbcr_matrix
from training.architectures.collapsible import CollapsibleConv
from training.architectures.interpolation import Interpolation

VARIANTS = {
    # name: (width and kernel of each hidden layer, activation)
    "paper": (((64, 5), (32, 3)), torch.tanh),
    "wide": (((512, 5), (256, 3), (64, 3)), F.relu),
}


class LumaGenerator(SubPixelGenerator):
    """A network for the luma plane; chroma is enlarged by bicubic and both are recombined to RGB.

    Subclasses give ``luma_phases``: ``[N, 1, H, W]`` to ``[N, s * s, H, W]``.
    """

    to_ycc: Tensor
    to_rgb: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.chroma = Interpolation(scale, "bicubic", channels=2)
        forward = rgb_to_ycbcr_matrix()
        self.register_buffer("to_ycc", forward[:, :, None, None].clone(), persistent=False)
        self.register_buffer("to_rgb", recombination(torch.linalg.inv(forward), scale), persistent=False)

    def luma_phases(self, luma: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define luma_phases()")

    def phases(self, lr: Tensor) -> Tensor:
        ycc = F.conv2d(lr, self.to_ycc)
        luma, chroma = ycc[:, :1], ycc[:, 1:]
        parts = torch.cat([self.luma_phases(luma), self.chroma.phases(chroma)], dim=1)
        return F.conv2d(parts, self.to_rgb)


def recombination(to_rgb: Tensor, scale: int) -> Tensor:
    """The 1x1 convolution from [luma phases | chroma phases] to RGB phases: ``[3 s s, 3 s s, 1, 1]``."""
    count = scale * scale
    weight = torch.zeros(count, 3, 3 * count)
    for phase in range(count):
        weight[phase, :, phase] = to_rgb[:, 0]
        weight[phase, :, count + 2 * phase] = to_rgb[:, 1]
        weight[phase, :, count + 2 * phase + 1] = to_rgb[:, 2]
    return weight.flatten(0, 1)[:, :, None, None].clone()


class Espcn(LumaGenerator):
    """The paper's network (``variant="paper"``, tanh) or the source's wide one (ReLU, orthogonal init).

    With ``residual`` it only adds detail to the luma that bicubic gives, sees luma centred on 0, and trains its 3x3
    layers wide (``CollapsibleConv``). The paper has none of this but ImageNet to learn from; the layers served are its.
    """

    def __init__(self, scale: int, variant: str = "paper", residual: bool = False) -> None:
        super().__init__(scale)
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
        layers, self.activation = VARIANTS[variant]
        widths = [1, *(width for width, _ in layers)]
        self.hidden = nn.ModuleList(
            convolution(widths[i], width, kernel, residual) for i, (width, kernel) in enumerate(layers)
        )
        self.tail = convolution(widths[-1], scale * scale, 3, residual)
        self.enlarged = Interpolation(scale, "bicubic", channels=1) if residual else None
        if variant == "wide" and not residual:
            for layer in [*self.hidden, self.tail]:
                nn.init.orthogonal_(layer.weight, gain=2**0.5 if layer is not self.tail else 1.0)

    def luma_phases(self, luma: Tensor) -> Tensor:
        features = luma if self.enlarged is None else 2 * luma - 1
        for layer in self.hidden:
            features = self.activation(layer(features))
        detail = self.tail(features)
        return detail if self.enlarged is None else 0.1 * detail + self.enlarged.phases(luma)


def convolution(inputs: int, outputs: int, kernel: int, collapsible: bool) -> nn.Module:
    if collapsible and kernel == 3:
        return CollapsibleConv(inputs, outputs)
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    if collapsible:  # beside such layers; PyTorch's default would leave tanh in its linear part
        nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain("tanh"))
        nn.init.zeros_(layer.bias)
    return layer
