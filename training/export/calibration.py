"""What the quantiser has to know of a float network: its layers, its residual, and how far its tensors range.

The ranges are those seen on LR pictures drawn from the recipe's own photographs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.inference.providers import create_session
from app.threads import usable_cores
from training.checkpoint import Folders
from training.data.degradations import DEGRADATIONS
from training.data.pairs import Pixels, list_pictures, read_picture
from training.export.macs import inputs
from training.recipe import Recipe

Floats = NDArray[np.float32]
Ranges = Mapping[str, tuple[float, float]]

# Text and line art excite a network 1.5 times as much as photographs do, dither up to four times. What lies beyond the
# range saturates, which shows as softer detail; the wider steps cost photographs 0.003 dB (`fast` x4, B100).
HEADROOM = 1.5
PICTURE_SIDE = 160  # LR pixels of a calibration picture, cut from the middle: all activations are held at once
HELD_OUT = 8  # pictures the int8 network is judged on and was not calibrated on


@dataclass(frozen=True)
class Layer:
    """A convolution to quantise: ``weight`` ``[outputs, inputs, k, k]``, ``bias`` ``[outputs]``. ``output``: the tensor
    after its ReLU, where it has one."""

    name: str
    conv: onnx.NodeProto
    relu: onnx.NodeProto | None
    weight: Floats
    bias: Floats

    @property
    def input(self) -> str:
        return str(self.conv.input[0])

    @property
    def output(self) -> str:
        return str((self.relu or self.conv).output[0])


def lr_pictures(recipe: Recipe, folders: Folders) -> list[Pixels]:
    """LR pictures drawn from the recipe's folder: ``HELD_OUT`` for the check, then those to calibrate on."""
    assert recipe.int8
    folder = folders.data / recipe.data.pictures
    paths = list_pictures(folder)
    degrade, scale = DEGRADATIONS[recipe.data.degradation], recipe.scale
    pictures: list[Pixels] = []
    for index in np.random.default_rng(recipe.seed).permutation(len(paths)):
        hr = middle(read_picture(paths[index], multiple=scale), PICTURE_SIDE * scale)
        if hr.size:
            pictures.append(degrade(hr, scale))
        if len(pictures) == HELD_OUT + recipe.int8.pictures:
            return pictures
    raise ValueError(
        f"[int8] takes {recipe.int8.pictures} pictures to calibrate on and {HELD_OUT} to check; "
        f"{folder} has {len(pictures)}"
    )


def middle(picture: Pixels, side: int) -> Pixels:
    """The middle of uint8 ``[H, W, 3]``, at most ``side`` square."""
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def find_layers(core: onnx.ModelProto) -> list[Layer]:
    """Every convolution with constant weights, in order."""
    constants = {i.name: i for i in core.graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in core.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    layers = []
    for node in core.graph.node:
        if node.op_type != "Conv" or any(name not in constants for name in node.input[1:]):
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(len(weight))
        after = users.get(node.output[0], [])
        relu = after[0] if len(after) == 1 and after[0].op_type == "Relu" else None
        name = node.input[1].removeprefix("network.").removesuffix(".weight")
        layers.append(Layer(name, node, relu, weight, bias.astype(np.float32)))
    return layers


def find_residual(core: onnx.ModelProto, layers: Sequence[Layer]) -> onnx.NodeProto | None:
    """The last addition, if it adds the LR picture, repeated, to what one of ``layers`` gives.

    Told by what it computes, not by how an exporter spells a repetition.
    """
    last = next(node for node in core.graph.node if core.graph.output[0].name in node.output)
    tails = [layer for layer in layers if layer.output in last.input and layer.relu is None]
    if last.op_type != "Add" or len(tails) != 1:
        return None
    other = next(name for name in last.input if name != tails[0].output)
    noise = np.random.default_rng(0).random((1, 3, 5, 7), np.float32)
    repeated = np.tile(noise, (1, len(tails[0].weight) // 3, 1, 1))
    return last if np.array_equal(probe(core, [other])(noise)[0], repeated) else None


def calibrate(core: onnx.ModelProto, layers: Sequence[Layer], pictures: Iterable[Pixels]) -> Ranges:
    """The range over all pictures, times ``HEADROOM``, of what layers read and give and of every sum.

    Not a percentile: what a network clips are its responses to the hardest edges, and there the damage is seen.
    """
    names = [name for layer in layers for name in (layer.input, layer.output)]
    names += [node.output[0] for node in core.graph.node if node.op_type == "Add"]
    names = list(dict.fromkeys(names))
    values_of = probe(core, names)
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for picture in pictures:
        for name, values in zip(names, values_of(planes(picture)), strict=True):
            low, high = ranges[name]
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return {name: (low * HEADROOM, high * HEADROOM) for name, (low, high) in ranges.items()}


def planes(picture: Pixels) -> Floats:
    """uint8 ``[h, w, 3]`` to float ``[1, 3, h, w]`` in [0, 1]."""
    return np.ascontiguousarray((picture.astype(np.float32) / 255).transpose(2, 0, 1)[None])


def probe(core: onnx.ModelProto, tensors: Sequence[str]) -> Callable[[Floats], list[Floats]]:
    """A function from float ``[1, 3, h, w]`` to the values of the named tensors inside the network."""
    opened = onnx.ModelProto()
    opened.CopyFrom(core)
    del opened.graph.output[:]
    lr = core.graph.input[0].name
    inner = [name for name in tensors if name != lr]
    opened.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    session = create_session(opened.SerializeToString(), "calibration", "cpu", usable_cores())

    def values(image: Floats) -> list[Floats]:
        found = dict(zip(inner, session.run(inner, inputs(core, image)), strict=True)) if inner else {}
        return [found.get(name, image) for name in tensors]

    return values
