"""Who tells HR patches from enlarged ones: SRGAN's discriminator (Ledig et al. 2017, arXiv:1609.04802), two heads.

Every discriminator maps RGB float ``[N, 3, H, W]`` in [0, 1] to logits; a positive one says "real".
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of every LeakyReLU
REDUCTION = 16  # HR pixels along the side of one position of the features: four strides of 2
STRIDES = ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))  # widening and stride of each layer after the first


def feature_layers(channels: int, norm_after_activation: bool) -> nn.Sequential:
    """``[N, 3, H, W]`` to ``[N, 8 * channels, H / 16, W / 16]``: conv-LeakyReLU, then seven conv-BN-LeakyReLU."""
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.LeakyReLU(SLOPE)]
    inputs = channels
    for widening, stride in STRIDES:
        outputs = widening * channels
        norm, activation = nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE)
        layers.append(nn.Conv2d(inputs, outputs, 3, stride, padding=1))
        layers += [activation, norm] if norm_after_activation else [norm, activation]
        inputs = outputs
    return nn.Sequential(*layers)


class Discriminator(nn.Module):
    """``reduction``: HR pixels that the sides of a patch must be a multiple of."""

    reduction: int


class DenseDiscriminator(Discriminator):
    """The paper's: two dense layers give one logit a patch, ``[N, 1]``. All patches are ``patch`` x ``patch`` HR px.

    ``norm_after_activation`` puts batch normalisation behind the LeakyReLU, as one source has it.
    """

    reduction = REDUCTION

    def __init__(self, patch: int, channels: int = 64, dense: int = 1024, norm_after_activation: bool = False) -> None:
        super().__init__()
        if patch % REDUCTION or patch < REDUCTION:
            raise ValueError(f"patch must be a multiple of {REDUCTION} HR pixels, not {patch}")
        self.patch = patch
        self.features = feature_layers(channels, norm_after_activation)
        inputs = 8 * channels * (patch // REDUCTION) ** 2
        self.head = nn.Sequential(nn.Linear(inputs, dense), nn.LeakyReLU(SLOPE), nn.Linear(dense, 1))

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[2:] != (self.patch, self.patch):
            raise ValueError(f"made for patches of {self.patch} px, not {tuple(image.shape[2:])}")
        return self.head(torch.flatten(self.features(image * 2 - 1), 1))


class PatchDiscriminator(Discriminator):
    """1x1 convolutions in place of the dense layers: one logit a 16 x 16 px patch, ``[N, 1, H / 16, W / 16]``.

    It takes any size, has a fifth of the parameters (for 96 px), and judges texture where it is rather than the whole.
    """

    reduction = REDUCTION

    def __init__(self, channels: int = 64, dense: int = 1024, norm_after_activation: bool = False) -> None:
        super().__init__()
        self.features = feature_layers(channels, norm_after_activation)
        self.head = nn.Sequential(nn.Conv2d(8 * channels, dense, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(dense, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image * 2 - 1))


class SpectralDiscriminator(Discriminator):
    """Five convolutions, spectrally normalised (Miyato et al. 2018, arXiv:1802.05957), one logit a 4 x 4 px patch.

    Small, for a small generator (arXiv:2510.03870): it sees 29 x 29 px, so it judges edges and texture, not scenes.
    Without batch statistics, which a batch of 8 crops does not give.
    """

    reduction = 4

    def __init__(self, channels: int = 32, dense: int = 0, norm_after_activation: bool = False) -> None:
        super().__init__()
        if dense or norm_after_activation:
            raise ValueError("the spectral discriminator has neither dense layers nor batch normalisation")
        widths, kernels = (3, channels, 2 * channels, 4 * channels, 4 * channels, 1), (3, 4, 4, 3, 3)
        layers: list[nn.Module] = []
        for inputs, outputs, kernel in zip(widths, widths[1:], kernels, strict=False):
            convolution = nn.Conv2d(inputs, outputs, kernel, stride=2 if kernel == 4 else 1, padding=1)
            layers += [spectral_norm(convolution), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image * 2 - 1)


DISCRIMINATORS: dict[str, type[Discriminator]] = {
    "dense": DenseDiscriminator,
    "patch": PatchDiscriminator,
    "spectral": SpectralDiscriminator,
}
