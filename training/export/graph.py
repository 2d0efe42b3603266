"""A torch network as an ONNX graph of float planes: the core, to which the face is put."""

import ast
import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.architectures import Generator, SubPixelGenerator
from training.export.face import OPSET, STRENGTH


def to_onnx(network: nn.Module, size: tuple[int, int] = (24, 20)) -> onnx.ModelProto:
    """The float core: ``[N, 3, H, W]`` to phases where the network has them, else to planes; N, H and W dynamic. A
    network that takes a strength has a second input, ``strength`` ``[N]``.

    ``size`` (height, width) is that of the picture it is traced with.
    """
    core = Phases(network) if isinstance(network, SubPixelGenerator) else network
    sample, dynamic = torch.rand(2, 3, *size), torch.export.Dim.DYNAMIC
    sizes = {0: dynamic, 2: dynamic, 3: dynamic}
    steered = isinstance(network, Generator) and network.takes_strength
    with quiet_exporter():
        program = torch.onnx.export(
            core.eval(),
            (sample, torch.rand(2)) if steered else (sample,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["lr", STRENGTH] if steered else None,
            dynamic_shapes=(sizes, ({0: dynamic},)) if steered else (sizes,),
            verbose=False,
        )
    assert program is not None
    core = program.model_proto
    name_slopes(core)
    return core


def name_slopes(core: onnx.ModelProto) -> None:
    """Gives the slopes of each PReLU, ``[1, C, 1, 1]``, the name of their layer.

    The exporter reshapes them, numbers them and keeps equal ones once; it tells the layer of each node.
    """
    constants = {constant.name: constant for constant in core.graph.initializer}
    for node in core.graph.node:
        if node.op_type == "PRelu":
            scopes = next(entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes")
            slopes = numpy_helper.to_array(constants[node.input[1]])
            node.input[1] = f"{ast.literal_eval(scopes)[-2]}.weight"
            core.graph.initializer.append(numpy_helper.from_array(slopes, node.input[1]))
    used = {name for node in core.graph.node for name in node.input}
    for name in constants.keys() - used:
        core.graph.initializer.remove(constants[name])


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hides what torch's exporter says to its own developers, none of which a user could act on."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)  # "torchvision is not installed", once an operator: nothing here needs it
    try:
        with warnings.catch_warnings():
            # The exporter of torch 2.13 copies a class that torch itself has deprecated.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        log.setLevel(level)


class Phases(nn.Module):
    """Exports ``phases`` in place of ``forward``."""

    def __init__(self, network: SubPixelGenerator) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor, *strength: Tensor) -> Tensor:
        return self.network.phases(lr, *strength)
