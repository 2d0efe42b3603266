"""The fp16 file of a network, for GPUs: weights and activations in float16, the edges and chosen layers in float32.

The conversion is ONNX Runtime's own (``onnxruntime.transformers.float16``). The picture goes in and comes out in
float32, so the face around it stays as it is for every precision, but for one thing: CUDA has no kernel that quantises
to uint16, so that output is made of operators it has.
"""

from graphlib import TopologicalSorter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from training.recipe import Recipe

PEAK16 = 65_535


def halved(core: onnx.ModelProto, recipe: Recipe) -> onnx.ModelProto:
    """The float16 core: as ``core``, float32 at its input and output.

    Convolutions that the recipe's ``[fp16]`` table names in ``float_layers``, by their weights ("tail", "trunk.2"),
    stay in float32; ``ValueError`` names those there are not.
    """
    assert recipe.fp16
    wanted, nodes = set(recipe.fp16.float_layers), conv_names(core)
    if unknown := wanted - set(nodes):
        raise ValueError(f"no layers {', '.join(sorted(unknown))} to leave in float; there are: {', '.join(nodes)}")
    copy = onnx.ModelProto()
    copy.CopyFrom(core)  # the conversion works in place
    model = convert_float_to_float16(copy, keep_io_types=True, node_block_list=[nodes[name] for name in wanted])
    del model.graph.value_info[:]  # of the shapes and types before
    assert isinstance(model, onnx.ModelProto)
    sort_nodes(model.graph)
    return model


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Each node after those it reads from, as ONNX demands; the conversion appends its casts at the end."""
    nodes = list(graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output}
    needs = {i: {makers[name] for name in node.input if name in makers} for i, node in enumerate(nodes)}
    order = [nodes[index] for index in TopologicalSorter(needs).static_order()]
    del graph.node[:]
    graph.node.extend(order)


def conv_names(core: onnx.ModelProto) -> dict[str, str]:
    """The node of each convolution, by the name of its weights."""
    convolutions = [node for node in core.graph.node if node.op_type == "Conv"]
    return {node.input[1].removeprefix("network.").removesuffix(".weight"): node.name for node in convolutions}


def attach_gpu_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with the face, ``upscaled16`` being scaled, clipped, rounded and cast instead of quantised."""
    (quantise,) = [node for node in model.graph.node if node.name == "face_upscaled16"]
    peak, zero = "upscaled16_peak", "upscaled16_least"
    for name, value in ((peak, PEAK16), (zero, 0)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    steps = [
        helper.make_node("Mul", [quantise.input[0], peak], ["upscaled16_scaled"], name="face_upscaled16_scaled"),
        helper.make_node(
            "Clip", ["upscaled16_scaled", zero, peak], ["upscaled16_clipped"], name="face_upscaled16_clip"
        ),
        helper.make_node("Round", ["upscaled16_clipped"], ["upscaled16_rounded"], name="face_upscaled16_round"),
        helper.make_node(
            "Cast", ["upscaled16_rounded"], [quantise.output[0]], to=TensorProto.UINT16, name="face_upscaled16_cast"
        ),
    ]
    place = list(model.graph.node).index(quantise)
    del model.graph.node[place]
    for step in reversed(steps):
        model.graph.node.insert(place, step)
    unused = {"upscaled16_step", "upscaled16_zero"}
    kept = [constant for constant in model.graph.initializer if constant.name not in unused]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    return model


def rounded_on_cpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, computed on CPU as a GPU computes it: every float16 result really is rounded to float16.

    A CPU has no float16 kernels: ONNX Runtime computes them in float32 and leaves out the casts between two of them, so
    that only the weights would be rounded, and nothing overflow. It keeps them where something between does work in
    float16, if that is more than a single node: an ``Unsqueeze`` and its ``Squeeze``.
    """
    barred = onnx.ModelProto()
    barred.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(barred).graph
    half = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    barred.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first_axis"))
    nodes = []
    for node in barred.graph.node:
        nodes.append(node)
        if node.op_type not in ("Constant", "Cast") and node.output[0] in half:
            name = node.output[0]
            node.output[0] = exact = f"{name}_exact"
            steps = (("Unsqueeze", exact, f"{name}_lifted"), ("Squeeze", f"{name}_lifted", name))
            nodes.extend(helper.make_node(op, [source, "first_axis"], [result]) for op, source, result in steps)
    del barred.graph.node[:]
    barred.graph.node.extend(nodes)
    return barred
