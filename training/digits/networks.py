"""Generators: float ``[N, latent]`` to ``[N, 1, 28, 28]`` in [-1, 1]. Discriminators: such pictures and the classes
that they should be of, int ``[N]``, to logits ``[N]``; most do not mind the classes.

Both are named in ``GANS``; the judge's classifier is here too.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.digits.data import SIDE

KERAS_MOMENTUM = 0.8  # what the source's BN keeps of its running mean; torch counts what it takes anew
LEAK = 0.2
CLASSES = 10


class DenseGenerator(nn.Sequential):
    """The source's: dense 256, 512, 1024, each with LeakyReLU and BN after it, dense 784, tanh."""

    def __init__(self, latent: int, channels: int) -> None:
        layers: list[nn.Module] = []
        inputs = latent
        for outputs in (channels, 2 * channels, 4 * channels):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(LEAK)]
            layers.append(nn.BatchNorm1d(outputs, eps=1e-3, momentum=1 - KERAS_MOMENTUM))
            inputs = outputs
        super().__init__(*layers, nn.Linear(inputs, SIDE * SIDE), nn.Tanh(), nn.Unflatten(1, (1, SIDE, SIDE)))


class Indifferent(nn.Sequential):
    """A discriminator that does not ask which class a picture should be of."""

    def forward(self, pictures: Tensor, classes: Tensor) -> Tensor:
        return super().forward(pictures)


class DenseDiscriminator(Indifferent):
    """The source's: dense 512 and 256 with LeakyReLU, dense 1 (its sigmoid is part of the loss)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            *(nn.Flatten(), nn.Linear(SIDE * SIDE, 2 * channels), nn.LeakyReLU(LEAK)),
            *(nn.Linear(2 * channels, channels), nn.LeakyReLU(LEAK)),
            *(nn.Linear(channels, 1), nn.Flatten(0)),
        )


class ConvGenerator(nn.Sequential):
    """DCGAN's (Radford et al. 2016, arXiv:1511.06434) at 28 px: dense to 7 x 7, up to 14 and, by sub-pixels, to 28."""

    def __init__(self, latent: int, channels: int) -> None:
        wide = 2 * channels
        super().__init__(
            *(nn.Linear(latent, wide * 49, bias=False), nn.Unflatten(1, (wide, 7, 7)), nn.BatchNorm2d(wide), nn.ReLU()),
            *(nn.ConvTranspose2d(wide, channels, 4, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.Conv2d(channels, 4, 3, padding=1), nn.PixelShuffle(2), nn.Tanh()),
        )
        self.apply(dcgan_start)


class ConvDiscriminator(Indifferent):
    """DCGAN's: strided convolutions, BN after the second, LeakyReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(*dcgan_features(channels), nn.Linear(2 * channels * 49, 1), nn.Flatten(0))
        self.apply(dcgan_start)


def dcgan_features(channels: int) -> list[nn.Module]:
    """``[N, 1, 28, 28]`` to ``[N, 2 * channels * 49]``."""
    wide = 2 * channels
    return [
        *(nn.Conv2d(1, channels, 4, 2, 1), nn.LeakyReLU(LEAK)),
        *(nn.Conv2d(channels, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(LEAK)),
        nn.Flatten(),
    ]


class ClassGenerator(nn.Module):
    """DCGAN's generator that knows which class it draws: the place of the largest of the first ten latent numbers.

    Noise is still all it takes, and the classes come out equally often.
    """

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        if latent < CLASSES:
            raise ValueError(f"latent = {latent}: the class is told by the first {CLASSES} numbers")
        self.draw = ConvGenerator(latent + CLASSES, channels)

    def forward(self, latents: Tensor) -> Tensor:
        first = latents[:, :CLASSES]
        chosen = (first == first.amax(1, keepdim=True)).to(latents.dtype)
        return self.draw(torch.cat([latents, chosen], 1))


def classes_of(latents: Tensor) -> Tensor:
    """The classes ``ClassGenerator`` draws for ``[N, latent]``: int ``[N]``."""
    return latents[:, :CLASSES].argmax(1)


class ClassDiscriminator(nn.Module):
    """DCGAN's, with a projection on the class (Miyato and Koyama 2018, arXiv:1802.05637): a picture of another digit
    than it should be is not a real one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*dcgan_features(channels))
        self.real = nn.Linear(2 * channels * 49, 1)
        self.of_class = nn.Embedding(CLASSES, 2 * channels * 49)
        self.apply(dcgan_start)
        nn.init.zeros_(self.of_class.weight)

    def forward(self, pictures: Tensor, classes: Tensor) -> Tensor:
        features = self.features(pictures)
        return self.real(features)[:, 0] + (features * self.of_class(classes)).sum(1)


def dcgan_start(layer: nn.Module) -> None:
    """DCGAN's initialisation: weights with a deviation of 0.02, BN's gains about 1."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(layer.weight, std=0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


@dataclass(frozen=True)
class Gan:
    """The two networks that play together; ``channels`` scales both, 256 and 64 being the usual widths."""

    generator: type[DenseGenerator] | type[ConvGenerator] | type[ClassGenerator]
    discriminator: type[DenseDiscriminator] | type[ConvDiscriminator] | type[ClassDiscriminator]


GANS = {
    "dense": Gan(DenseGenerator, DenseDiscriminator),
    "conv": Gan(ConvGenerator, ConvDiscriminator),
    "classes": Gan(ClassGenerator, ClassDiscriminator),
}
CONVOLUTIONAL = ("conv", "classes")


class Classifier(nn.Module):
    """The judge: three convolutions and a dense layer, whose 128 activations are the space of the Frechet distance."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)]
        )
        self.dense, self.head = nn.Linear(64 * 9, 128), nn.Linear(128, 10)

    def features(self, pictures: Tensor) -> Tensor:
        """``[N, 1, 28, 28]`` in [-1, 1] to ``[N, 128]``."""
        x = pictures
        for convolution in self.convolutions:
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return F.relu(self.dense(x.flatten(1)))

    def forward(self, pictures: Tensor) -> Tensor:
        """``[N, 1, 28, 28]`` in [-1, 1] to logits ``[N, 10]``."""
        return self.head(F.dropout(self.features(pictures), 0.4, self.training))


def to_tensor(pictures: Tensor | NDArray[np.uint8]) -> Tensor:
    """uint8 ``[N, 28, 28]`` to float ``[N, 1, 28, 28]`` in [-1, 1]."""
    return torch.as_tensor(pictures)[:, None].float() / 127.5 - 1


def to_pixels(pictures: Tensor) -> Tensor:
    """float ``[N, 1, 28, 28]`` in [-1, 1] to uint8 ``[N, 28, 28]``."""
    return ((pictures[:, 0].float() + 1) * 127.5).round().clamp(0, 255).byte()
