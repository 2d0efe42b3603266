"""What a run starts from: the weights of another run, or of the network that was exported from it."""

from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.architectures import Generator, build
from training.architectures.collapsible import CollapsibleConv, collapse
from training.checkpoint import Folders
from training.recipe import load_recipe

EXPORTED = "network."  # how the exporter begins the name of each weight


def start_from(network: Generator, title: str, folders: Folders) -> None:
    """Copies every weight of ``title`` whose name and shape are the same (a trunk of another scale).

    Where one network's convolutions are collapsible and the other's are plain, they are collapsed or widened first.
    ``ValueError`` if there is neither a run nor an exported network of that name.
    """
    own, other = network.state_dict(), weights_of(title, folders)
    if is_collapsible(other) and not is_collapsible(own):
        source = load_recipe(title)
        wide = build(source.scale, **source.network)
        wide.load_state_dict(other)
        other = collapse(wide).state_dict()
    elif is_collapsible(own) and not is_collapsible(other):
        other = widened(network, other)
    fitting = {k: v for k, v in other.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise ValueError(f"no weight of {title} fits: is it the same kind of network?")
    network.load_state_dict({**own, **fitting})


def weights_of(title: str, folders: Folders) -> dict[str, Tensor]:
    """The averaged weights of a run; where that is not kept, those of the model that was exported from it."""
    run, exported = folders.run(title) / "checkpoint.pt", folders.models / f"{title}.onnx"
    if run.exists():
        averaged: dict[str, Tensor] = torch.load(run, map_location="cpu", weights_only=True)["averaged"]
        return averaged
    if exported.exists():
        return exported_weights(exported)
    raise ValueError(f"neither {run} nor {exported} is there: train {title} first")


def exported_weights(path: Path) -> dict[str, Tensor]:
    """The weights in an ONNX file of ``export``, by their names in the network; collapsible ones are collapsed."""
    tensors = onnx.load(path).graph.initializer
    return {
        tensor.name.removeprefix(EXPORTED): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in tensors
        if tensor.name.startswith(EXPORTED)
    }


def widened(network: nn.Module, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Plain weights with every kernel that ``network`` has a collapsible convolution for in that one's form."""
    weights = dict(plain)
    for name, layer in network.named_modules():
        kernel = weights.get(f"{name}.weight")
        if isinstance(layer, CollapsibleConv) and kernel is not None and kernel.shape == layer.kernel().shape:
            expand, squeeze = layer.factors(weights.pop(f"{name}.weight"))
            weights |= {f"{name}.expand": expand, f"{name}.squeeze": squeeze}
    return weights


def is_collapsible(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith(".expand") for name in state)
