"""Starts of the service that must not succeed."""

import hashlib
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from harness import MODELS
from harness.server import start_server

MANIFEST = "manifest.json"


FILE = "bicubic-x2.onnx"


def refused_start(**environment: str) -> tuple[int, str]:
    """The exit status and all output of a start that must not succeed; meanwhile the port is tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with tempfile.TemporaryFile("w+") as log:
        process = start_server(log, ("-m", "app.cli", "serve"), **{"port": str(port), **environment})
        try:
            end = time.monotonic() + 60
            while process.poll() is None:
                assert time.monotonic() < end, "it neither starts nor ends"
                assert not answers(port), "the port was opened"
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        return process.returncode, log.read()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def flip_a_byte(models: Path) -> None:
    data = bytearray((models / FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (models / FILE).write_bytes(data)


def replace(models: Path, data: bytes) -> None:
    """Another file under the name, which the manifest knows by its right hash."""
    (models / FILE).write_bytes(data)
    manifest = json.loads((models / MANIFEST).read_text())
    (entry,) = (model for model in manifest["models"] if model["files"]["fp32"]["path"] == FILE)
    entry["files"]["fp32"] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (models / MANIFEST).write_text(json.dumps(manifest))


def foreign_model() -> bytes:
    """A valid network of another face: float NCHW in and out, as other projects export them."""
    shape = ["N", 3, "H", "W"]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    target = helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "foreign", [source], [target])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def misnamed_model() -> bytes:
    """The right network, but its own metadata say another scale."""
    model = onnx.load(MODELS / FILE)
    for entry in model.metadata_props:
        if entry.key == "scale":
            entry.value = "3"
    return model.SerializeToString()


SPOILED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a flipped byte": (flip_a_byte, (FILE, "sha256")),
    "a file cut short": (lambda models: (models / FILE).write_bytes(b""), (FILE, "sha256")),
    "no file": (lambda models: (models / FILE).unlink(), (FILE, "No such file")),
    "another interface": (lambda models: replace(models, foreign_model()), ("bicubic-x2", "inputs are", "outputs are")),
    "another scale": (lambda models: replace(models, misnamed_model()), ("bicubic-x2", "metadata says scale '3'")),
    "no network": (lambda models: replace(models, b"no network"), (FILE, "cannot load")),
    "no manifest": (lambda models: (models / MANIFEST).unlink(), (MANIFEST, "no such file")),
    "no folder": (shutil.rmtree, (MANIFEST, "no such file")),
}


# A provider gone wrong: what every network computes is black.
BROKEN = """
import sys
import numpy as np
from app.cli import main
from app.inference.engine import Engine

infer = Engine._infer
Engine._infer = lambda *arguments: np.zeros_like(infer(*arguments))
sys.exit(main(["serve", "--port", "0"]))
"""
