"""The one ONNX face every model is served behind, put around a float network of NCHW planes."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21  # the first whose QuantizeLinear gives uint16
IR_VERSION = 10

STRENGTH = "strength"
"""The second input of a network that has one: float ``[N]`` in [0, 1]."""

# QuantizeLinear rounds half to even, adds the zero point and saturates: rounding and clipping in one vectorised pass.
OUTPUTS = {"upscaled": (TensorProto.UINT8, np.uint8, 255), "upscaled16": (TensorProto.UINT16, np.uint16, 65_535)}


def attach_face(core: onnx.ModelProto, scale: int, phases: bool) -> onnx.ModelProto:
    """Wraps ``core`` as the design's contract 1 has it.

    ``core`` takes one float ``[N, 3, H, W]`` in [0, 1] and gives either phases ``[N, s * s * 3, H, W]`` in the
    order of ``SubPixelGenerator`` (``phases``), or planes ``[N, 3, H * s, W * s]``; its opset is ``OPSET`` or a newer
    one. The result takes ``image`` float ``[N, H, W, 3]``, and ``strength`` ``[N]`` where ``core`` does; it gives
    ``upscaled`` uint8 and ``upscaled16`` uint16, both ``[N, H * s, W * s, 3]``.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(core.graph)
    for part in (graph, *graph.node, *graph.value_info):
        del part.metadata_props[:]  # the exporter's stack traces: paths of this machine, in the file and in its hash
    lr, hr = graph.input[0].name, graph.output[0].name
    others = [each.name for each in graph.input[1:]]
    graph.node.insert(0, helper.make_node("Transpose", ["image"], [lr], perm=[0, 3, 1, 2], name="face_nchw"))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", "H", "W", 3]))
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in others)
    if phases:
        _add_shapes(graph, scale)
    for name, (onnx_type, dtype, peak) in OUTPUTS.items():
        graph.initializer.append(numpy_helper.from_array(np.float32(1 / peak), f"{name}_step"))
        graph.initializer.append(numpy_helper.from_array(dtype(0), f"{name}_zero"))
        quantised = [hr, f"{name}_step", f"{name}_zero"]
        graph.node.append(helper.make_node("QuantizeLinear", quantised, [f"{name}_nchw"], name=f"face_{name}"))
        graph.node.extend(_phases_to_pixels(name) if phases else _planes_to_pixels(name))
        shape = ["N", "H_out", "W_out", 3]
        graph.output.append(helper.make_tensor_value_info(name, onnx_type, shape))
    opset = [
        helper.make_opsetid("", max(OPSET, standard_opset(core))),
        *(o for o in core.opset_import if o.domain not in ("", "ai.onnx")),
    ]
    version = max(IR_VERSION, helper.find_min_ir_version_for(opset, ignore_unknown=True))
    model = helper.make_model(graph, opset_imports=opset, ir_version=version, producer_name="enlarger")
    onnx.checker.check_model(model, full_check=True)
    return model


def standard_opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _planes_to_pixels(name: str) -> list[onnx.NodeProto]:
    return [helper.make_node("Transpose", [f"{name}_nchw"], [name], perm=[0, 2, 3, 1], name=f"face_{name}_nhwc")]


def _phases_to_pixels(name: str) -> list[onnx.NodeProto]:
    """Integers move, not floats, and in runs of ``3 * s`` of them: [N, y, x, i, (j c)] to [N, y, i, x, (j c)]."""
    return [
        helper.make_node("Transpose", [f"{name}_nchw"], [f"{name}_nhwc"], perm=[0, 2, 3, 1], name=f"face_{name}_nhwc"),
        helper.make_node("Reshape", [f"{name}_nhwc", "face_grid"], [f"{name}_grid"], name=f"face_{name}_grid"),
        helper.make_node(
            "Transpose", [f"{name}_grid"], [f"{name}_rows"], perm=[0, 1, 3, 2, 4], name=f"face_{name}_rows"
        ),
        helper.make_node("Reshape", [f"{name}_rows", "face_size"], [name], name=f"face_{name}_size"),
    ]


def _add_shapes(graph: onnx.GraphProto, scale: int) -> None:
    """``face_grid`` = [N, H, W, s, 3 s] and ``face_size`` = [N, H s, W s, 3], from the shape of ``image``."""
    constants = {
        "face_grid_tail": [scale, 3 * scale],
        "face_size_factors": [1, scale, scale],
        "face_size_tail": [3],
        "face_begin": [0],
        "face_end": [3],
    }
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    graph.node.extend(
        [
            helper.make_node("Shape", ["image"], ["face_shape"], name="face_shape"),
            helper.make_node("Slice", ["face_shape", "face_begin", "face_end"], ["face_nhw"], name="face_nhw"),
            helper.make_node("Concat", ["face_nhw", "face_grid_tail"], ["face_grid"], axis=0, name="face_grid"),
            helper.make_node("Mul", ["face_nhw", "face_size_factors"], ["face_nhw_hr"], name="face_nhw_hr"),
            helper.make_node("Concat", ["face_nhw_hr", "face_size_tail"], ["face_size"], axis=0, name="face_size"),
        ]
    )
