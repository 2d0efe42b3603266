"""A model folder with a network that repeats pixels, behind the same face as any: what goes in can be told from what
comes out, sample by sample. Beside it lie the shipped networks that a test names."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import MODELS
from training.face import attach_face

SCALE = 2


def nearest_graph() -> onnx.ModelProto:
    """Float planes ``[N, 3, H, W]`` to ``[N, 3, 2 H, 2 W]``, every pixel four times."""
    resize = helper.make_node(
        "Resize",
        ["lr", "", "scales"],
        ["hr"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    planes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3, f"H_{n}", f"W_{n}"]) for n in ("lr", "hr")]
    scales = numpy_helper.from_array(np.array([1, 1, SCALE, SCALE], np.float32), "scales")
    graph = helper.make_graph([resize], "nearest", planes[:1], planes[1:], [scales])
    core = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = attach_face(core, SCALE, phases=False)
    for key, value in {"name": "nearest", "scale": str(SCALE), "context": "1"}.items():
        model.metadata_props.add(key=key, value=value)
    return model


def write_models(folder: Path, *shipped: str) -> Path:
    """``nearest-x2`` as the default, and the shipped networks of these titles."""
    manifest = json.loads((MODELS / "manifest.json").read_text())
    entries = [entry for entry in manifest["models"] if f"{entry['name']}-x{entry['scale']}" in shipped]
    for entry in entries:
        for file in entry["files"].values():
            shutil.copy(MODELS / file["path"], folder)
    data = nearest_graph().SerializeToString()
    (folder / "nearest-x2.onnx").write_bytes(data)
    file = {"path": "nearest-x2.onnx", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "metrics": {}}
    facts = {"architecture": "interpolation", "context": 1, "parameters": 0, "macs": 1, "summary": "Pixels repeated."}
    facts |= {"licence": "Apache-2.0", "recipe": "", "training": {}, "files": {"fp32": file}}
    entries.insert(0, {"name": "nearest", "scale": SCALE, **facts})
    text = json.dumps({"version": manifest["version"], "default": "nearest", "models": entries})
    (folder / "manifest.json").write_text(text)
    return folder
