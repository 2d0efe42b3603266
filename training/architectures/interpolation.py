"""The classical baselines as networks, so that every table and every request can have them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.base import SubPixelGenerator


def nearest_kernel(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def linear_kernel(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def cubic_kernel(x: float) -> float:
    """Keys' cubic convolution with a = -0.5, the one of MATLAB's ``imresize`` and of Pillow (Keys 1981)."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x < 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


KERNELS = {"nearest": (nearest_kernel, 0), "bilinear": (linear_kernel, 1), "bicubic": (cubic_kernel, 2)}


def phase_filters(kernel: str, scale: int) -> Tensor:
    """The FIR filter of each HR phase: ``[scale, 2 * radius + 1]``, rows sum to 1.

    HR pixel ``i`` of ``scale`` lies ``(i + 0.5) / scale - 0.5`` LR pixels right of its LR pixel's centre.
    """
    function, radius = KERNELS[kernel]
    taps = range(-radius, radius + 1)
    filters = torch.tensor([[function((i + 0.5) / scale - 0.5 - t) for t in taps] for i in range(scale)])
    return filters / filters.sum(dim=1, keepdim=True)


class Interpolation(SubPixelGenerator):
    """Enlargement by a separable kernel, written as one convolution a phase; edges are replicated."""

    weight: Tensor

    def __init__(self, scale: int, kernel: str, channels: int = 3) -> None:
        super().__init__()
        if kernel not in KERNELS:
            raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(KERNELS)}")
        self.scale, self.channels = scale, channels
        line = phase_filters(kernel, scale)
        self.radius = line.shape[1] // 2
        plane = torch.einsum("iy,jx->ijyx", line, line)  # [s, s, k, k]
        weight = torch.zeros(scale, scale, channels, channels, *plane.shape[2:])
        for c in range(channels):
            weight[:, :, c, c] = plane
        self.register_buffer("weight", weight.flatten(0, 2))  # [(i j c), channels, k, k]
        self.unused = nn.Parameter(torch.zeros(0))  # so that optimisers and device moves find a parameter

    def phases(self, lr: Tensor) -> Tensor:
        r = self.radius
        padded = F.pad(lr, (r, r, r, r), mode="replicate") if r else lr
        return F.conv2d(padded, self.weight.to(lr.dtype))
