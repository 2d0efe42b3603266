"""Networks that others trained: a community's weights (through ``spandrel``) or an ONNX file, read without trust.

What is read is a ``Foreign``: the network as it was made, to be held against, and its graph. No code of a
file is run: pickles are read by an unpickler that knows tensors alone, and no ONNX operator reaches beyond its graph.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, compose, inliner, numpy_helper, version_converter
from torch import Tensor

from app.inference.providers import create_session
from app.threads import usable_cores
from training.export.community import load_spandrel
from training.export.face import OPSET, standard_opset
from training.export.graph import to_onnx

PROBED_SIDE = 37  # LR pixels, odd: a picture that no requirement but 1 fits by chance
WIDEST_CELL = 32  # LR pixels, the largest multiple a side may have to be
LARGEST_MINIMUM = 64  # LR pixels
FLOATS = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64"}


@dataclass(frozen=True)
class Sizes:
    """What H and W a network takes, in LR pixels: multiples of ``multiple``, ``minimum`` at least."""

    multiple: int = 1
    minimum: int = 1

    def fitting(self, length: int) -> int:
        """The least side the network takes that is not under ``length``."""
        return -(-max(length, self.minimum) // self.multiple) * self.multiple


@dataclass(frozen=True)
class Foreign:
    """``network``: as its author made it, float ``[N, 3, H, W]`` to ``[N, 3, H * scale, W * scale]``, for ``sizes``.

    ``write_core`` makes ``core``, the same as ONNX, in ``OPSET`` or newer. ``note``: what its makers say against tiles,
    if anything.
    """

    network: Callable[[Tensor], Tensor]
    write_core: Callable[[], onnx.ModelProto]
    architecture: str
    parameters: int
    scale: int
    sizes: Sizes
    note: str = ""

    @cached_property
    def core(self) -> onnx.ModelProto:
        """Slow to make, of weights, and often not needed."""
        return self.write_core()


def read_foreign(path: Path) -> Foreign:
    """The network of a file, told by its suffix; ``ValueError`` says what is wrong with it."""
    readers = {".pth": read_weights, ".safetensors": read_weights, ".onnx": read_onnx}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path.name}: a {path.suffix or 'nameless'} file; known: {', '.join(readers)}")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    return readers[path.suffix.lower()](path)


# -- weights -----------------------------------------------------------------------------------------------------


def read_weights(path: Path) -> Foreign:
    """A state dict of one of the architectures that ``spandrel`` knows."""
    spandrel = load_spandrel()
    from safetensors import SafetensorError  # comes with it

    try:
        state = spandrel.ModelLoader("cpu").load_state_dict_from_file(path)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name}: not a file of plain weights: {first_line(error)}") from error
    except (
        RuntimeError,
        SafetensorError,
        OSError,
        EOFError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(f"{path.name}: not a file of weights, or a damaged one: {first_line(error)}") from error
    try:
        found = spandrel.ModelLoader("cpu").load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise ValueError(f"{path.name}: of no architecture that spandrel {spandrel.__version__} knows") from error
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{path.name}: its weights fit no network: {first_line(error)}") from error
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise ValueError(f"{path.name}: {found.architecture.name} needs a mask beside the picture")
    if (found.input_channels, found.output_channels) != (3, 3):
        raise ValueError(
            f"{path.name}: {found.architecture.name} of {found.input_channels} channels in and {found.output_channels} "
            "out; the service takes RGB to RGB"
        )
    required = found.size_requirements
    if required.square:
        raise ValueError(f"{path.name}: {found.architecture.name} takes square pictures only")
    network = found.model.float().eval().requires_grad_(False)
    name = " ".join([found.architecture.name, *found.tags])
    parameters = sum(p.numel() for p in network.parameters())
    scale, sizes = probe(network, Sizes(required.multiple_of, max(1, required.minimum)))
    note = "" if found.tiling is spandrel.ModelTiling.SUPPORTED else "spandrel advises against tiling this network"
    return Foreign(network, partial(trace, network, sizes), name, parameters, scale, sizes, note)


def trace(network: torch.nn.Module, sizes: Sizes) -> onnx.ModelProto:
    height = sizes.fitting(24)
    try:
        return to_onnx(network, (height, sizes.fitting(height + 1)))
    except (RuntimeError, ValueError, TypeError) as error:  # torch.onnx.OnnxExporterError is a RuntimeError
        raise ValueError(f"torch cannot write this network as ONNX with H and W open: {first_line(error)}") from error


# -- ONNX --------------------------------------------------------------------------------------------------------


def read_onnx(path: Path) -> Foreign:
    """A graph of one float ``[N, 3, H, W]`` in and one out; sides that were fixed are opened, if it allows that."""
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ValueError(f"{path.name}: not an ONNX file, or a damaged one: {first_line(error)}") from error
    told = [d.dim_value or d.dim_param or "?" for i in model.graph.input[:1] for d in i.type.tensor_type.shape.dim]
    if any(onnx.external_data_helper.uses_external_data(i) for i in model.graph.initializer):
        raise ValueError(f"{path.name}: keeps its weights in a second file; save it as one")
    check_interface(path.name, model)
    original = as_function(model, path.name)
    core = normalised(path.name, model)
    parameters = sum(numpy_helper.to_array(i).size for i in core.graph.initializer if i.data_type == TensorProto.FLOAT)
    try:
        scale, sizes = probe(original, Sizes())
    except ValueError as error:
        raise ValueError(f"{path.name}, whose input is {told}: {error}; export it with N, H and W dynamic") from error
    architecture = f"ONNX by {model.producer_name or 'an unknown exporter'}"
    return Foreign(original, lambda: core, architecture, parameters, scale, sizes)


def original_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    constants = {i.name for i in model.graph.initializer}  # which old files list among the inputs
    inputs = [i for i in model.graph.input if i.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ValueError(
            f"{len(inputs)} inputs and {len(model.graph.output)} outputs; one picture in and one out are needed"
        )
    return inputs[0]


def check_interface(name: str, model: onnx.ModelProto) -> None:
    """One float32 RGB picture of planes in, one out; opens the dimensions other than the channels."""
    try:
        ends = [original_input(model), model.graph.output[0]]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    halves = {FLOATS[i.data_type] for i in model.graph.initializer if i.data_type in FLOATS}
    for end in ends:
        told = end.type.tensor_type
        kind = FLOATS.get(told.elem_type, TensorProto.DataType.Name(told.elem_type))
        if told.elem_type != TensorProto.FLOAT:
            raise ValueError(f"{name}: {end.name} is {kind}; export the network in float32")
        dims = told.shape.dim
        if len(dims) != 4 or dims[1].dim_value not in (0, 3) or (dims[3].dim_value == 3 != dims[1].dim_value):
            shape = [d.dim_value or d.dim_param or "?" for d in dims]
            raise ValueError(f"{name}: {end.name} is {shape}; RGB planes [N, 3, H, W] are needed")
        for dim, letter in zip((dims[0], dims[2], dims[3]), "NHW", strict=True):
            dim.dim_param = letter if end is ends[0] else f"{letter}_out"
    if halves:
        raise ValueError(f"{name}: it holds {', '.join(sorted(halves))} weights; export the network in float32")
    del model.graph.value_info[:]  # of the sizes it had


def normalised(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as ``attach_face`` takes it: one input, no functions, no clash of names, ``OPSET`` at least."""
    core = onnx.ModelProto()
    core.CopyFrom(model)
    lr = original_input(core)
    del core.graph.input[:]
    core.graph.input.append(lr)
    if core.functions:
        core = inliner.inline_local_functions(core)
    if standard_opset(core) < OPSET:
        try:
            core = version_converter.convert_version(core, OPSET)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{name}: cannot be brought to opset {OPSET}: {first_line(error)}") from error
    return compose.add_prefix(core, "core/")


def as_function(model: onnx.ModelProto, name: str) -> Callable[[Tensor], Tensor]:
    """A graph of one input and one output as a function of tensors; a run that fails raises ``ValueError``."""
    session = create_session(model.SerializeToString(), name, "cpu", usable_cores())
    lr = original_input(model).name

    def run(picture: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {lr: picture.numpy()})[0])
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise ValueError(f"ONNX Runtime: {first_line(error)}") from error

    return run


# -- sizes -------------------------------------------------------------------------------------------------------


def probe(network: Callable[[Tensor], Tensor], told: Sizes) -> tuple[int, Sizes]:
    """The scale of a network and the sizes it takes, found by trying: not under what is ``told`` of them."""
    multiple, scale, why = told.multiple, 0, ""
    while multiple <= max(WIDEST_CELL, told.multiple) and not scale:
        cells = -(-max(PROBED_SIDE, told.minimum) // multiple) | 1  # an odd number of them, and another one
        scale, why = scale_at(network, cells * multiple, (cells + 2) * multiple)
        multiple *= 2
    if not scale:
        raise ValueError(f"the network does not enlarge pictures of any size: {why}")
    multiple //= 2
    for minimum in range(Sizes(multiple, told.minimum).fitting(1), LARGEST_MINIMUM + 1, multiple):
        if scale_at(network, minimum, minimum)[0] == scale:
            return scale, Sizes(multiple, minimum)
    return scale, Sizes(multiple, Sizes(multiple).fitting(max(PROBED_SIDE, told.minimum)))


@torch.no_grad()
def scale_at(network: Callable[[Tensor], Tensor], height: int, width: int) -> tuple[int, str]:
    """By how much two pictures of that size come out larger; 0, and why, where it is no whole number or fails."""
    try:
        shape = tuple(network(torch.rand(2, 3, height, width)).shape)
    except (RuntimeError, ValueError, LookupError, TypeError, AssertionError) as error:
        return 0, first_line(error)
    scale = shape[-1] // width
    if scale and shape == (2, 3, height * scale, width * scale):
        return scale, ""
    return 0, f"2 pictures [3, {height}, {width}] come out as {list(shape)}"


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
