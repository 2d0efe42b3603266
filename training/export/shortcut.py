"""A network's shortcut from the LR picture to every phase of its result, without a copy of the picture for each phase.

An exporter spells ``lr.repeat(1, s * s, 1, 1)`` as Tile, whose result ONNX Runtime makes first and holds until it is
added in the end: of `fast` x4, 192 of 800 bytes a LR pixel. By broadcasting, the picture is added in place.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from training.export.calibration import find_layers, find_residual
from training.export.quantise import needed


def with_broadcast_shortcut(core: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, bit for bit; ``core`` itself where it has no such shortcut.

    ``core`` takes float ``[N, 3, H, W]`` and gives phases ``[N, s * s * 3, H, W]``, the colour innermost.
    """
    layers = find_layers(core)
    addition = find_residual(core, layers)
    if addition is None:
        return core
    shared = onnx.ModelProto()
    shared.CopyFrom(core)
    graph, lr, result = shared.graph, core.graph.input[0].name, addition.output[0]
    tail = next(layer for layer in layers if layer.output in addition.input)
    shapes = {"shortcut_phases": [0, len(tail.weight) // 3, 3, -1], "shortcut_lr": [0, 1, 3, -1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items())
    nodes = [node for node in graph.node if result not in node.output]
    nodes += [
        helper.make_node("Shape", [tail.output], ["shortcut_shape"], name="shortcut_shape"),
        helper.make_node("Reshape", [tail.output, "shortcut_phases"], ["shortcut_residual"], name="shortcut_residual"),
        helper.make_node("Reshape", [lr, "shortcut_lr"], ["shortcut_picture"], name="shortcut_picture"),
        helper.make_node("Add", ["shortcut_residual", "shortcut_picture"], ["shortcut_sum"], name="shortcut_sum"),
        helper.make_node("Reshape", ["shortcut_sum", "shortcut_shape"], [result], name="shortcut"),
    ]
    nodes = needed(nodes, graph.output[0].name)
    read = {name for node in nodes for name in node.input}
    constants = [constant for constant in graph.initializer if constant.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    return shared
