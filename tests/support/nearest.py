"""A model folder with a network that repeats pixels, behind the same face as any: what goes in can be told from what
comes out, sample by sample. Beside it lie the shipped networks that a test names, and a generator if it wants one."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import MODELS
from training.export.face import attach_face

SCALE = 2


def nearest_graph(name: str = "nearest", scale: int = SCALE) -> onnx.ModelProto:
    """Float planes ``[N, 3, H, W]`` to ``[N, 3, s H, s W]``, every pixel ``s * s`` times."""
    resize = helper.make_node(
        "Resize",
        ["lr", "", "scales"],
        ["hr"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    planes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3, f"H_{n}", f"W_{n}"]) for n in ("lr", "hr")]
    scales = numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales")
    graph = helper.make_graph([resize], "nearest", planes[:1], planes[1:], [scales])
    core = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = attach_face(core, scale, phases=False)
    for key, value in {"name": name, "scale": str(scale), "context": "1"}.items():
        model.metadata_props.add(key=key, value=value)
    return model


def generator_graph(name: str, latent: int, side: int) -> onnx.ModelProto:
    """``latents`` ``[N, latent]`` to ``pictures``, uint8 ``[N, side, side, 1]``: a fixed random projection of them."""
    weights = np.random.default_rng(1).standard_normal((latent, side * side)).astype(np.float32)
    constants = {"weights": weights, "peak": np.float32(255), "shape": np.array([-1, side, side, 1], np.int64)}
    nodes = [
        helper.make_node("MatMul", ["latents", "weights"], ["sums"]),
        helper.make_node("Sigmoid", ["sums"], ["shares"]),
        helper.make_node("Mul", ["shares", "peak"], ["levels"]),
        helper.make_node("Cast", ["levels"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Reshape", ["bytes", "shape"], ["pictures"]),
    ]
    latents = helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", latent])
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", side, side, 1])
    initial = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "generator", [latents], [pictures], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    for key, value in {"name": name, "kind": "generator"}.items():
        model.metadata_props.add(key=key, value=value)
    return model


FACTS = {"parameters": 0, "macs": 1, "licence": "Apache-2.0", "recipe": "", "training": {}}


def entry(folder: Path, title: str, model: onnx.ModelProto, **facts: object) -> dict[str, object]:
    """Writes the file and gives what the manifest says of it."""
    data = model.SerializeToString()
    (folder / f"{title}.onnx").write_bytes(data)
    file = {"path": f"{title}.onnx", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "metrics": {}}
    return {**FACTS, **facts, "files": {"fp32": file}}


def write_models(folder: Path, *shipped: str, name: str = "nearest", scale: int = SCALE, generator: str = "") -> Path:
    """The network that repeats pixels as the default, and the shipped networks of these titles."""
    manifest = json.loads((MODELS / "manifest.json").read_text())
    entries = [each for each in manifest["models"] if f"{each['name']}-x{each['scale']}" in shipped]
    for each in entries:
        for file in each["files"].values():
            shutil.copy(MODELS / file["path"], folder)
    facts = {"name": name, "scale": scale, "architecture": "interpolation", "context": 1, "summary": "Pixels repeated."}
    entries.insert(0, entry(folder, f"{name}-x{scale}", nearest_graph(name, scale), **facts))
    told = {"version": manifest["version"], "default": name, "models": entries}
    if generator:
        facts = {"name": generator, "architecture": "projection", "latent": 5, "height": 8, "width": 8, "channels": 1}
        drawing = entry(folder, generator, generator_graph(generator, 5, 8), **facts, summary="Noise, projected.")
        told["generators"] = [drawing]
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder
