"""Random weights of the real shapes, written as their makers write them."""

import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def random_weights(layers: nn.Sequential) -> nn.Sequential:
    draw = torch.Generator().manual_seed(0)
    for layer in convolutions(layers):
        spread = (2 / layer.weight[0].numel()) ** 0.5
        nn.init.normal_(layer.weight, std=spread, generator=draw)
        nn.init.normal_(layer.bias, std=0.1, generator=draw)
    return layers


def convolutions(layers: nn.Sequential) -> list[nn.Conv2d]:
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)]


def hwio(kernel: Tensor) -> np.ndarray:
    return np.ascontiguousarray(kernel.detach().permute(2, 3, 1, 0).numpy())


def write_lpips(path: Path, key: str, backbone: nn.Sequential, widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    tree: dict[str, object] = {
        key: {
            f"Conv_{i}": {"kernel": hwio(layer.weight), "bias": layer.bias.detach().numpy()}
            for i, layer in enumerate(convolutions(backbone))
        }
    }
    for i, width in enumerate(widths):
        tree[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": rng.random((1, 1, width, 1), np.float32)}}
    path.write_bytes(pickle.dumps(tree, protocol=3))
