"""The int8 file of a network: static quantisation for ONNX Runtime's CPU kernels, calibrated on photographs.

The scheme is Jacob et al. 2018 (arXiv:1712.05877): activations uint8 with one scale and zero point a tensor, weights
int8, symmetric, one scale an output channel, biases int32 in the accumulator's own step. It is written as
``DequantizeLinear -> Conv -> QuantizeLinear``, standard ONNX that any runtime computes. ONNX Runtime fuses each such
chain into one ``QLinearConv`` in NHWC and a skip connection into one ``QLinearAdd``, so that nothing between the
picture and the face is float (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

Three rewrites of the float graph go with it, none of which changes what it computes:

* A ReLU disappears into the convolution before it: codes from 0 on cannot hold a negative value.
* The picture gets a fourth, empty channel. The kernels read channels in fours; with three they fall back to im2col, and
  the first layer takes twice as long.
* The input residual, ``tail(features) + nearest(lr)``, becomes channels of the tail's input with one weight each. A sum
  of two uint8 tensors would have to hold the residual, -255 to 255 levels, in 256 codes: half the depth, or hard edges
  clipped (text came out 68 levels wrong). Inside the convolution it is added to the 32-bit accumulator, and what is
  rounded to levels is the result.

The picture itself is held in codes of 1/255, so one of 16 bits a sample loses its lower 8: those are for the fp32 file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.checkpoint import Folders
from training.data.pairs import Pixels
from training.export.calibration import (
    HELD_OUT,
    Floats,
    Layer,
    Ranges,
    calibrate,
    find_layers,
    find_residual,
    lr_pictures,
    planes,
    probe,
)
from training.recipe import Recipe
from training.report.metrics import psnr

CHANNELS = 4  # of the picture inside the graph: the kernels read input channels in fours
PEAK = 127  # of an int8 weight; -128 stays unused, so that scales are symmetric
FLOOR = 45.0  # dB between int8 and fp32 on the pictures held out, 1.4 levels: below it something is wrong


@dataclass(frozen=True)
class Codes:
    """What a uint8 tensor means: ``value = (code - zero) * step``."""

    step: np.float32
    zero: np.uint8

    @property
    def low(self) -> float:
        """The value of code 0."""
        return -float(self.step) * int(self.zero)

    @property
    def span(self) -> float:
        """From the value of code 0 to that of code 255."""
        return float(self.step) * 255


LEVELS = Codes(np.float32(1 / 255), np.uint8(0))  # codes are the levels of an 8-bit picture


def codes_for(low: float, high: float) -> Codes:
    """Codes from ``low`` to ``high``, widened so that 0, the padding of a convolution, has one exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = np.float32((high - low) / 255 or 1.0)
    return Codes(step, np.uint8(np.clip(np.rint(-low / step), 0, 255)))


def quantised(core: onnx.ModelProto, recipe: Recipe, folders: Folders) -> onnx.ModelProto:
    """The int8 core that a recipe's ``[int8]`` table asks for, held against the float one on pictures of their own."""
    assert recipe.int8
    pictures = lr_pictures(recipe, folders)
    int8 = quantise(core, pictures[HELD_OUT:], recipe.int8.float_layers)
    agreement = fidelity(core, int8, pictures[:HELD_OUT])
    print(f"{recipe.title}: int8 against fp32 {agreement:.1f} dB on {HELD_OUT} pictures")
    if agreement < FLOOR:
        raise ValueError(f"{recipe.title}: int8 is only {agreement:.1f} dB from fp32, the least allowed is {FLOOR:g}")
    return int8


def fidelity(core: onnx.ModelProto, int8: onnx.ModelProto, pictures: Iterable[Pixels]) -> float:
    """PSNR in dB of what the int8 core gives against what the float one gives, both clipped to pictures."""
    levels = [
        [np.clip(values_of(planes(picture))[0], 0, 1).ravel() * 255 for picture in pictures]
        for values_of in (probe(core, [core.graph.output[0].name]), probe(int8, [int8.graph.output[0].name]))
    ]
    return psnr(np.concatenate(levels[0]), np.concatenate(levels[1]))


def quantise(core: onnx.ModelProto, pictures: Sequence[Pixels], float_layers: Sequence[str] = ()) -> onnx.ModelProto:
    """The int8 version of ``core``, with the same input and output, ready for ``attach_face``.

    ``core`` takes float ``[N, 3, H, W]`` in [0, 1] and gives float phases at LR size; ``pictures`` are LR, uint8
    ``[h, w, 3]``. ``float_layers`` names convolutions, by their weights ("tail", "trunk.2"), to leave in float32.
    """
    layers = find_layers(core)
    if unknown := set(float_layers) - {layer.name for layer in layers}:
        known = ", ".join(layer.name for layer in layers)
        raise ValueError(f"no layers {', '.join(sorted(unknown))} to leave in float; there are: {known}")
    chosen = [layer for layer in layers if layer.name not in float_layers]
    if not chosen:
        raise ValueError("there is no convolution to quantise")
    return Quantiser(core, chosen, find_residual(core, chosen), calibrate(core, chosen, pictures)).model()


class Quantiser:
    """Writes the int8 graph node by node. ``codes`` and ``values``: of each tensor quantised so far, what its codes
    mean and the name under which float consumers find it."""

    def __init__(
        self, core: onnx.ModelProto, layers: Sequence[Layer], residual: onnx.NodeProto | None, ranges: Ranges
    ) -> None:
        self.core, self.residual, self.ranges = core, residual, ranges
        self.layers = {layer.conv.output[0]: layer for layer in layers}
        self.folded = {layer.relu.output[0] for layer in layers if layer.relu}
        self.lr, self.output = core.graph.input[0].name, core.graph.output[0].name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {i.name: i for i in core.graph.initializer}
        self.codes: dict[str, Codes] = {}
        self.values: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        self.encode(self.lr)
        for node in self.core.graph.node:
            if node.output[0] in self.layers:
                self.convolve(self.layers[node.output[0]])
            elif node.output[0] not in self.folded and node != self.residual:
                self.copy(node)
        graph = onnx.GraphProto(name="int8", input=self.core.graph.input)
        shape = self.core.graph.output[0].type.tensor_type.shape
        output = helper.make_tensor_value_info(self.values.get(self.output, self.output), TensorProto.FLOAT, None)
        output.type.tensor_type.shape.CopyFrom(shape)
        graph.output.append(output)
        graph.node.extend(needed(self.nodes, output.name))
        used = {name for node in graph.node for name in node.input}
        graph.initializer.extend(constant for name, constant in self.constants.items() if name in used)
        model = helper.make_model(graph, opset_imports=self.core.opset_import, ir_version=self.core.ir_version)
        onnx.checker.check_model(model, full_check=True)
        return model

    def copy(self, node: onnx.NodeProto) -> None:
        """A node as it is; a sum of quantised tensors is quantised too, so that the chain of codes goes on."""
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.input[:] = [self.values.get(name, name) for name in node.input]
        if node.op_type == "Conv" and node.input[0] in self.codes:
            copied.input[0] = self.guarded(node.input[0])
        self.nodes.append(copied)
        if node.op_type == "Add" and all(name in self.codes for name in node.input):
            self.encode(node.output[0])

    def guarded(self, tensor: str) -> str:
        """``max(values, their least)``, which changes nothing, between a tensor's codes and a float convolution.

        ONNX Runtime takes a float kernel between two quantised tensors for one somebody forgot to quantise, and
        quantises it with one scale for all channels (its ``WeightBiasQuantization``).
        """
        least = self.constant(f"{tensor}_least", np.float32(self.codes[tensor].low))
        self.nodes.append(helper.make_node("Max", [self.values[tensor], least], [f"{tensor}_guarded"]))
        return f"{tensor}_guarded"

    def convolve(self, layer: Layer) -> None:
        """One layer; the picture is read with a fourth channel, and the tail reads it beside its features."""
        self.encode(layer.input)
        if self.residual is not None and layer.output in self.residual.input:
            self.convolve_with_residual(layer, self.residual.output[0])
            return
        source, weight = layer.input, layer.weight
        if source == self.lr:
            source = self.picture("lr_wide", LEVELS)
            weight = np.pad(weight, ((0, 0), (0, CHANNELS - weight.shape[1]), (0, 0), (0, 0)))
        self.emit(layer, source, quantise_weight(weight), layer.bias, layer.output)
        self.encode(layer.output)

    def convolve_with_residual(self, layer: Layer, output: str) -> None:
        """The tail over [features | picture]: the picture's weight is 1 at the centre of its own colour's kernels.

        Both halves of the input share one scale, so the picture is held in the features' codes, its levels 0 to 255 as
        codes 0 to 255; ``span`` and ``low`` are that change of unit, and the tail's weights and bias undo it.
        """
        features = self.codes[layer.input]
        picture = self.picture("lr_beside", features)
        both = f"{layer.input}_and_picture"
        codes = [f"{layer.input}_codes", f"{picture}_codes"]
        self.nodes.append(helper.make_node("Concat", codes, [f"{both}_codes"], name=both, axis=1))
        self.decode(both, features)
        outputs, _, height, width = layer.weight.shape
        anchor = np.zeros((outputs, CHANNELS, height, width), np.float32)
        gain = 1 / features.span
        anchor[np.arange(outputs), np.arange(outputs) % 3, height // 2, width // 2] = gain
        weight = np.concatenate([layer.weight, anchor], axis=1)
        bias = layer.bias - np.float32(features.low * gain)
        self.emit(layer, both, quantise_weight(weight, exact=gain), bias, output)
        self.encode(output)

    def picture(self, name: str, codes: Codes) -> str:
        """The LR picture as four channels, the last one empty, its levels as codes of that meaning."""
        weight = np.eye(CHANNELS, 3, dtype=np.float32)[:, :, None, None] * np.float32(codes.span)
        bias = np.full(CHANNELS, codes.low, np.float32)
        conv = helper.make_node("Conv", [self.lr], [name], name=name, kernel_shape=[1, 1])
        self.emit(Layer(name, conv, None, weight, bias), self.lr, quantise_weight(weight), bias, name)
        self.encode(name, codes)
        return name

    def emit(
        self, layer: Layer, source: str, weight: tuple[NDArray[np.int8], Floats], bias: Floats, output: str
    ) -> None:
        """``DequantizeLinear -> Conv`` of a quantised kernel; the bias counts in steps of the int32 accumulator."""
        codes, scale = weight
        step = self.codes[source].step * scale
        bias_codes = np.rint(bias.astype(np.float64) / step).astype(np.int32)
        inputs = [self.values[source]]
        for part, integers, steps in (("weight", codes, scale), ("bias", bias_codes, step)):
            name = f"{layer.name}_{part}"
            zero = np.zeros(len(steps), integers.dtype)
            constants = [
                self.constant(f"{name}_{kind}", array)
                for kind, array in (("codes", integers), ("scale", steps), ("zero", zero))
            ]
            self.nodes.append(helper.make_node("DequantizeLinear", constants, [f"{name}_values"], name=name, axis=0))
            inputs.append(f"{name}_values")
        conv = onnx.NodeProto()
        conv.CopyFrom(layer.conv)
        conv.input[:] = inputs
        conv.output[:] = [output]
        self.nodes.append(conv)

    def encode(self, tensor: str, codes: Codes | None = None) -> None:
        """Quantises a float tensor, unless it already is: by its calibrated range, or as levels if it is a picture."""
        if tensor in self.codes:
            return
        if codes is None:
            codes = LEVELS if tensor in (self.lr, self.output) else codes_for(*self.ranges[tensor])
        inputs = [tensor, *self.meaning(tensor, codes)]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{tensor}_codes"], name=f"{tensor}_codes"))
        self.decode(tensor, codes)

    def decode(self, tensor: str, codes: Codes) -> None:
        inputs = [f"{tensor}_codes", *self.meaning(tensor, codes)]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{tensor}_values"], name=f"{tensor}_values"))
        self.codes[tensor] = codes
        self.values[tensor] = f"{tensor}_values"

    def meaning(self, tensor: str, codes: Codes) -> list[str]:
        return [self.constant(f"{tensor}_step", codes.step), self.constant(f"{tensor}_zero", codes.zero)]

    def constant(self, name: str, array: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name


def needed(nodes: Sequence[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """The nodes that ``output`` depends on, in order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def quantise_weight(weight: Floats, exact: float | None = None) -> tuple[NDArray[np.int8], Floats]:
    """int8 codes and one scale an output channel, for a kernel ``[outputs, inputs, k, k]``.

    The scales are the smallest with which two weights of one sign in a pair of input channels sum to 127 at most: CPUs
    without VNNI add such pairs of products in 16 bits (``vpmaddubsw``), and 255 * 128 is the most that fits. So the
    file gives the same pixels on every CPU.

    ``exact``: a weight that must come out as it is; its scales are widened until it is a whole number of steps.
    """
    outputs, inputs = weight.shape[:2]
    even = np.pad(weight, ((0, 0), (0, inputs % 2), (0, 0), (0, 0)))
    pairs = even.reshape(outputs, -1, 2, *weight.shape[2:])
    sums = np.maximum(np.maximum(pairs, 0).sum(axis=2), np.maximum(-pairs, 0).sum(axis=2))
    scale = sums.max(axis=(1, 2, 3)).astype(np.float64) / PEAK
    scale[scale == 0] = 1.0
    if exact is not None:
        scale = exact / np.floor(exact / scale + 1e-6)
    codes = np.clip(np.rint(weight / scale[:, None, None, None]), -PEAK, PEAK).astype(np.int8)
    return codes, scale.astype(np.float32)
