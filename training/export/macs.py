"""What a network costs, by the shapes that a real run of it shows."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.inference.providers import create_session
from app.threads import usable_cores
from training.export.face import STRENGTH

COUNTED_SIDE = 32  # LR pixels
OPERATORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def multiply_accumulates(core: onnx.ModelProto) -> int:
    """Of convolutions and matrix products, per LR pixel; ``core`` takes float ``[N, 3, H, W]``, and a strength or
    not."""
    return macs_of_a_run(core, np.zeros((1, 3, COUNTED_SIDE, COUNTED_SIDE), np.float32)) // COUNTED_SIDE**2


def macs_of_a_run(model: onnx.ModelProto, given: NDArray[Any]) -> int:
    """Multiply-accumulates of convolutions and matrix products when the model's first input is ``given``."""
    counted = [node for node in model.graph.node if node.op_type in OPERATORS]
    if not counted:
        return 0
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    for index, node in enumerate(counted):
        for part, tensor in (("in", node.input[0]), ("weight", node.input[1]), ("out", node.output[0])):
            name = f"shape_{part}_{index}"
            opened.graph.node.append(helper.make_node("Shape", [tensor], [name], name=name))
            opened.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, None))
    session = create_session(opened.SerializeToString(), "count", "cpu", usable_cores())
    shapes = [[int(n) for n in shape] for shape in session.run(None, inputs(model, given))]
    triples = zip(counted, shapes[::3], shapes[1::3], shapes[2::3], strict=True)
    return sum(products(*each) for each in triples)


def inputs(model: onnx.ModelProto, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What to run a model on: the image as its first input, full strength where it has one."""
    first, *others = (each.name for each in model.graph.input)
    return {first: image} | {name: np.ones(len(image), np.float32) for name in others if name == STRENGTH}


def products(node: onnx.NodeProto, source: list[int], weight: list[int], result: list[int]) -> int:
    """Multiply-accumulates of one operator: of each value it gives, or, transposed, of each value it takes."""
    if node.op_type == "Conv":
        return int(np.prod(result)) * int(np.prod(weight[1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(source)) * int(np.prod(weight[1:]))
    flipped = any(a.name == "transA" and a.i for a in node.attribute)
    return int(np.prod(result)) * source[0 if flipped else -1]
