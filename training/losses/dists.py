"""DISTS: how far apart two pictures are in structure and in texture (Ding et al. 2020, arXiv:2004.07728).

A texture drawn anew is forgiven where a pixel distance is not: of the features of a classifier only the means, the
variances and the covariance over the whole picture are compared. All pictures are RGB float ``[N, 3, H, W]`` in [0, 1].
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.losses.perceptual import IMAGENET, VGG16, VGG_CHANNELS, Features, fill, from_hwio, read_arrays, vgg_layers

CHANNELS = (3, *VGG_CHANNELS)  # of the picture itself and of each block's last ReLU
TAPS = (3, 8, 15, 22, 29)
C1 = C2 = 1e-6
SOURCES = "give weights.pt of dists-pytorch 0.1 (in its wheel, PyPI)"


class L2Pool(nn.Module):
    """Half the size by the root of the mean square under a Hann window, without the aliases of a maximum (Eq. 3)."""

    window: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([0.5, 1.0, 0.5])  # a Hann window of five, whose ends are 0
        window = torch.outer(taps, taps) / 4
        self.register_buffer("window", window.expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return (F.conv2d(x * x, self.window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


class Dists(nn.Module):
    """0 is equal, 1 is far. ``alpha`` and ``beta`` weigh means and structures, ``[sum(CHANNELS)]`` each."""

    alpha: Tensor
    beta: Tensor

    def __init__(self, layers: nn.Sequential, alpha: Tensor, beta: Tensor) -> None:
        """``layers``: VGG16 as ``vgg_layers`` makes it, whose pools are replaced."""
        super().__init__()
        pools = iter(VGG_CHANNELS)
        smooth = [L2Pool(next(pools)) if isinstance(layer, nn.MaxPool2d) else layer for layer in layers]
        self.features = Features(nn.Sequential(*smooth), TAPS, IMAGENET)
        whole = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / whole)
        self.register_buffer("beta", beta / whole)

    def describe(self, image: Tensor) -> list[Tensor]:
        """The picture and its features, one ``[N, C, h, w]`` a depth: what ``compare`` takes."""
        return [image, *self.features(image)]

    def compare(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Two pictures' features to ``[N]`` (Eq. 5 to 7)."""
        alike = torch.zeros(len(a[0]))
        depths = zip(self.alpha.split(CHANNELS), self.beta.split(CHANNELS), a, b, strict=True)
        for alpha, beta, x, y in depths:
            mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
            var_x, var_y = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
            covariance = ((x - mean_x[..., None, None]) * (y - mean_y[..., None, None])).mean((2, 3))
            means = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
            structures = (2 * covariance + C2) / (var_x + var_y + C2)
            alike = alike + (alpha * means + beta * structures).sum(1)
        return 1 - alike

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two times ``[N, 3, H, W]`` to ``[N]``."""
        return self.compare(self.describe(a), self.describe(b))


def load_dists(weights: Path, vgg16: Path) -> Dists:
    """From DISTS' own weights and LPIPS' file of VGG16 (``perceptual.LPIPS_SOURCES``)."""
    if not weights.is_file():
        raise ValueError(f"no DISTS weights at {weights}: {SOURCES}")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        alpha, beta = (state[name].detach().float().flatten() for name in ("alpha", "beta"))
    except (RuntimeError, LookupError, TypeError, AttributeError, EOFError, OSError) as error:
        raise ValueError(f"{weights} does not hold alpha and beta: {SOURCES}") from error
    if len(alpha) != sum(CHANNELS) != len(beta):
        raise ValueError(f"{weights}: {len(alpha)} and {len(beta)} weights instead of {sum(CHANNELS)}: {SOURCES}")
    backbone = read_arrays(vgg16).get("VGG16_0")
    if backbone is None:
        raise ValueError(f"{vgg16} holds no VGG16, over which DISTS looks")
    with torch.device("meta"):
        layers = vgg_layers(VGG16)
    convolutions = [backbone[f"Conv_{i}"] for i in range(len(backbone))]
    fill(layers, [from_hwio(conv["kernel"], conv["bias"]) for conv in convolutions], vgg16)
    return Dists(layers, alpha, beta)
