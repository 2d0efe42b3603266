"""From LR features to HR features, the last part of every network that also works at the HR size."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

TAILS = ("subpixel", "nearest")


def factors(scale: int) -> list[int]:
    """The steps in which a tail enlarges: 4 in two steps of 2, 3 in one; only products of 2 and 3 are known."""
    steps = []
    for factor in (2, 3):
        while scale % factor == 0 and scale:
            steps.append(factor)
            scale //= factor
    if scale != 1:
        raise ValueError(f"scale must be a product of 2s and 3s; {scale} is left over")
    return steps


def enlarging_tail(
    kind: str, channels: int, scale: int, activation: Callable[[], nn.Module] = nn.Identity
) -> nn.Sequential:
    """``[N, channels, H, W]`` to ``[N, channels, H * scale, W * scale]``, a convolution and an activation each step.

    ``kind``: "subpixel" convolves to ``factor ** 2`` times the channels, then shuffles them (arXiv:1609.05158, in the
    channel order of ``nn.PixelShuffle``); "nearest" repeats every pixel, then convolves, which cannot draw
    checkerboards (Odena et al. 2016, doi:10.23915/distill.00003) but costs ``factor ** 2`` times the additions.
    """
    if kind not in TAILS:
        raise ValueError(f"unknown tail {kind!r}; known: {', '.join(TAILS)}")
    layers: list[nn.Module] = []
    for factor in factors(scale):
        if kind == "subpixel":
            layers += [nn.Conv2d(channels, channels * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        else:
            layers += [nn.Upsample(scale_factor=factor, mode="nearest"), nn.Conv2d(channels, channels, 3, padding=1)]
        layers.append(activation())
    return nn.Sequential(*layers)


def enlarged(lr: Tensor, scale: int) -> Tensor:
    """The input residual: ``[N, 3, H, W]`` to ``[N, 3, H * scale, W * scale]``, bilinear, edges replicated."""
    return F.interpolate(lr, scale_factor=scale, mode="bilinear", align_corners=False)


def start_silent(last: nn.Conv2d) -> None:
    """Lets a network with an input residual start as the enlarged input, to which it learns to add detail."""
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
