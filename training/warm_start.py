"""What a run starts from: the weights of another run, or of the network that was exported from it."""

import copy
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from training.architectures import Generator, build
from training.architectures.collapsible import CollapsibleConv, collapse
from training.architectures.srresnet import Srresnet
from training.checkpoint import Folders
from training.recipe import load_recipe

EXPORTED = "network."  # how the exporter begins the names of a network's weights whose phases it was shown
FOLDED = ".weight_bias"  # and ends that of a bias it made of a normalisation
NORM = ".norm."


def start_from(network: Generator, title: str, folders: Folders, lr: Tensor) -> None:
    """Copies every weight of ``title`` whose name and shape are the same (a trunk of another scale).

    Where one network's convolutions are collapsible and the other's are plain, they are collapsed or widened first; a
    smaller kernel goes into the middle of a larger one. ``lr``: examples, float ``[N, 3, H, W]`` in [0, 1], by which a
    network with normalisations is made to compute what one without does.
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
    if "mean" in other and "mean" not in own:
        other = uncentred(other)
    if not network.takes_strength:
        other = at_full_strength(other, own)
    other = {name: fitted(weight, own[name].shape) if name in own else weight for name, weight in other.items()}
    if not take_over(network, other, lr):
        raise ValueError(f"no weight of {title} fits: is it the same kind of network?")


def take_over(network: Generator, other: Mapping[str, Tensor], lr: Tensor) -> set[str]:
    """Copies the weights that fit, and lets normalisations stand in for the lack of them; the names of those copied."""
    own = network.state_dict()
    fitting = {name: weight for name, weight in other.items() if name in own and own[name].shape == weight.shape}
    network.load_state_dict({**own, **fitting})
    if fitting and isinstance(network, Srresnet) and not any(NORM in name for name in other):
        network.stand_in(other, lr)
    return set(fitting)


@torch.no_grad()
def blended(start: Generator, trained: Generator, share: float) -> Generator:
    """A network whose weights lie ``share`` of the way from ``start``'s to ``trained``'s.

    ESRGAN's network interpolation (arXiv:1809.00219, section 3.4).
    """
    others = trained.state_dict()
    weights = {
        name: torch.lerp(weight, others[name], share) if weight.is_floating_point() else others[name]
        for name, weight in start.state_dict().items()
    }
    between = copy.deepcopy(trained)
    between.load_state_dict(weights)
    return between


def load_exported(network: Generator, path: Path) -> None:
    """Gives a collapsed network every weight of the file that was exported from one like it; ``ValueError`` if it has
    not all of them."""
    lr = torch.rand(1, 3, 16, 16)  # whatever it is: the normalisations, judged, add the file's biases and no more
    found = take_over(network, exported_weights(path), lr)
    wanted = {name for name, weight in network.state_dict().items() if NORM not in name and weight.numel()}
    if missing := wanted - found:
        raise ValueError(f"{path.name} lacks {', '.join(sorted(missing))}")


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
    """The weights in an ONNX file of ``export``, by their names in the network, and other constants.

    Collapsible convolutions are collapsed, and normalisations have become kernels and biases.
    """
    graph, found = onnx.load(path).graph, {}
    slopes = {node.input[1] for node in graph.node if node.op_type == "PRelu"}  # [1, C, 1, 1]
    for tensor in graph.initializer:
        name = tensor.name.removeprefix(EXPORTED)
        name = f"{name.removesuffix(FOLDED)}.bias" if name.endswith(FOLDED) else name
        weight = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        found[name] = weight.flatten() if tensor.name in slopes else weight
    return found


def widened(network: nn.Module, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Plain weights with every kernel that ``network`` has a collapsible convolution for in that one's form."""
    weights = dict(plain)
    for name, layer in network.named_modules():
        kernel = weights.get(f"{name}.weight")
        if isinstance(layer, CollapsibleConv) and kernel is not None and kernel.shape == layer.kernel().shape:
            expand, squeeze = layer.factors(weights.pop(f"{name}.weight"))
            weights |= {f"{name}.expand": expand, f"{name}.squeeze": squeeze}
    return weights


def uncentred(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EDSR's weights with the mean colour, which it subtracts first, in the bias of the first convolution."""
    others = {name: weight for name, weight in weights.items() if name != "mean"}
    subtracted = (weights["head.weight"] * weights["mean"]).sum((1, 2, 3))
    return {**others, "head.bias": weights["head.bias"] - subtracted}


def at_full_strength(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network that takes a strength as a plane beside LR's colours, where ``own`` has colours alone:
    what they make of a plane of ones goes into the biases."""
    others = dict(weights)
    for name, kernel in weights.items():
        if kernel.dim() == 4 and kernel.shape[1] == 4 and name in own and own[name].shape[1] == 3:
            others[name] = kernel[:, :3].contiguous()
            bias = name.removesuffix("weight") + "bias"
            others[bias] = weights[bias] + kernel[:, 3].sum((1, 2))
    return others


def fitted(kernel: Tensor, shape: torch.Size) -> Tensor:
    """A kernel with the inputs and in the size of ``shape``, as far as zeros make it so; else as it is."""
    if kernel.dim() == len(shape) == 4 and kernel.shape[1] == 3 and shape[1] == 4:  # a strength beside the colours
        kernel = F.pad(kernel, (0, 0, 0, 0, 0, 1))
    return centred(kernel, shape)


def centred(kernel: Tensor, shape: torch.Size) -> Tensor:
    """``[outputs, inputs, k, k]`` in the middle of zeros where ``shape`` is a larger odd kernel's; else as it is."""
    if kernel.dim() != 4 or kernel.shape[:2] != shape[:2] or (shape[-1] - kernel.shape[-1]) % 2:
        return kernel
    return F.pad(kernel, [max(0, shape[-1] - kernel.shape[-1]) // 2] * 4)


def is_collapsible(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith(".expand") for name in state)
