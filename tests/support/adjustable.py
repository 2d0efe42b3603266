"""A network with a strength: pixels repeated, and a checkerboard added that shows how strong it was, window by window.

Two of the four HR pixels of each LR pixel become lighter and two darker, by ``strength * STEP`` levels of 255, so a
result tells the strength that computed it, and its mean is the input whatever that was.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.fakes import nearest
from tests.support.nearest import entry, write_models
from training.export.face import attach_face

SCALE = 2
STEP = 40  # levels of 255
PATTERN = np.array([[1, -1], [-1, 1]])
NAME = "adjustable"


def adjustable_graph(gain: float = 1.0, quantised: bool = False) -> onnx.ModelProto:
    """The network behind the face, with the input ``strength``.

    ``gain``: of everything; 0 gives black, as an overflow in float16 does. ``quantised``: its input in steps of 1/255,
    as int8 holds it.
    """
    channels = 3 * SCALE**2  # phases (i, j, colour)
    weights = gain * np.tile(np.eye(3), (SCALE**2, 1)).reshape(channels, 3, 1, 1)
    constants = {
        "weights": weights.astype(np.float32),
        "steps": (gain * STEP / 255 * PATTERN.repeat(3)).reshape(1, channels, 1, 1).astype(np.float32),
        "each": np.array([-1, 1, 1, 1], np.int64),
        "level": np.float32(1 / 255),
        "zero": np.uint8(0),
        "strength": np.zeros(1, np.float32),
    }
    held = [
        helper.make_node("QuantizeLinear", ["lr", "level", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "level", "zero"], ["held"]),
    ]
    nodes = [
        *(held if quantised else []),
        helper.make_node("Conv", ["held" if quantised else "lr", "weights"], ["repeated"]),
        helper.make_node("Reshape", ["strength", "each"], ["strengths"]),
        helper.make_node("Mul", ["strengths", "steps"], ["added"]),
        helper.make_node("Add", ["repeated", "added"], ["hr"]),
    ]
    lr = helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["N", 3, "H", "W"])
    hr = helper.make_tensor_value_info("hr", TensorProto.FLOAT, ["N", channels, "H", "W"])
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, NAME, [lr], [hr], initial)
    core = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = attach_face(core, SCALE, phases=True)
    take_as_input(model.graph, "strength")
    for key, value in {"name": NAME, "scale": str(SCALE), "context": "1"}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return model


def take_as_input(graph: onnx.GraphProto, name: str) -> None:
    """Makes an input, float32 ``[N]``, of a constant."""
    kept = [each for each in graph.initializer if each.name != name]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]))


def write_adjustable(folder: Path, *shipped: str, strength: bool = True, **files: onnx.ModelProto) -> Path:
    """A model folder: this network as the default, ``nearest`` without a strength, and the shipped ones of these
    titles.

    ``strength``: what the manifest says. ``files``: other precisions of it, by their names.
    """
    write_models(folder, *shipped)
    manifest = json.loads((folder / "manifest.json").read_text())
    facts = {"name": NAME, "scale": SCALE, "architecture": "interpolation", "context": 1, "summary": "A checkerboard."}
    own = entry(folder, f"{NAME}-x{SCALE}", adjustable_graph(), **facts, strength=strength)
    for precision, model in files.items():
        own["files"][precision] = entry(folder, f"{NAME}-x{SCALE}-{precision}", model)["files"]["fp32"]
    manifest["models"].insert(0, own)
    manifest["default"] = NAME
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def adjusted(lr: np.ndarray, strength: float) -> np.ndarray:
    """What the network makes of LR pixels ``[h, w, 3]``, uint8: int64 ``[2 h, 2 w, 3]``, within half a level."""
    pattern = np.tile(PATTERN, lr.shape[:2])[..., np.newaxis]
    return np.clip(nearest(lr, SCALE).astype(int) + np.rint(strength * STEP * pattern).astype(int), 0, 255)


def strength_in(lr: np.ndarray, hr: np.ndarray) -> float:
    """The strength that a result was computed with, of an input without levels near black or white."""
    pattern = np.tile(PATTERN, lr.shape[:2])[..., np.newaxis]
    return float(np.mean((hr.astype(float) - nearest(lr, SCALE)) * pattern) / STEP)
