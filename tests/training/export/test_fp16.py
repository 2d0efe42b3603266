"""Float16: the file that is made, what rounding costs, and what happens where it overflows."""

import dataclasses
import hashlib
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from onnx import TensorProto, helper, numpy_helper

from app.errors import ModelFileError
from app.inference.engine import Engine, choose_precision
from app.inference.face import OUTPUTS, check_face
from app.inference.providers import GpuOptions, create_session
from app.inference.runtimes.base import Source
from app.inference.runtimes.onnx_runtime import OnnxRuntime
from app.inference.zoo import ModelFile, ModelSpec, Zoo
from app.threads import usable_cores
from harness.fakes import make_spec, nearest
from training.architectures import build
from training.export.face import attach_face
from training.export.fp16 import attach_gpu_outputs, halved, rounded_on_cpu
from training.export.graph import to_onnx
from training.export.manifest import describe
from training.export.publish import check_loss
from training.recipe import Fp16Recipe, Recipe

SCALE = 2
RECIPE = Recipe(name="half", scale=SCALE, network={"architecture": "plain"}, summary="", fp16=Fp16Recipe())
SPEC = make_spec("half", SCALE, context=0)
LARGE = 300.0  # twice in turn: 90,000 for white, where float16 ends at 65,504


@pytest.fixture(scope="module")
def core() -> onnx.ModelProto:
    torch.manual_seed(0)
    network = build(SCALE, "plain", channels=8, depth=3).requires_grad_(False)
    torch.nn.init.normal_(network.tail.weight, std=0.05)
    return to_onnx(network)


def overflowing() -> onnx.ModelProto:
    """Nearest neighbour by way of numbers too large for float16 wherever the picture is brighter than 0.73."""
    one = np.eye(3, dtype=np.float32)[:, :, None, None]
    weights = [LARGE * np.concatenate([one, one]), LARGE * np.eye(6, dtype=np.float32)[:, :, None, None]]
    weights.append(np.concatenate([2 * one, -one], axis=1).repeat(1, axis=0) / LARGE**2)  # infinity - infinity is NaN
    weights[2] = np.concatenate([weights[2]] * SCALE**2)
    names = ["lr", "a", "b", "phases"]
    nodes = [helper.make_node("Conv", [names[i], f"w{i}.weight"], [names[i + 1]], name=f"conv{i}") for i in range(3)]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, "H", "W"])
        for name, channels in (("lr", 3), ("phases", 3 * SCALE**2))
    ]
    constants = [numpy_helper.from_array(w.astype(np.float32), f"w{i}.weight") for i, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "overflowing", tensors[:1], tensors[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def faced(core: onnx.ModelProto, recipe: Recipe = RECIPE) -> dict[str, onnx.ModelProto]:
    fp16 = attach_gpu_outputs(attach_face(halved(core, recipe), SCALE, phases=True))
    return {"fp32": attach_face(core, SCALE, phases=True), "fp16": rounded_on_cpu(fp16)}


def zoo_of(folder: Path, core: onnx.ModelProto) -> Zoo:
    files = {}
    for precision, graph in faced(core).items():
        data = describe(graph, SPEC, precision, {})
        (folder / f"{precision}.onnx").write_bytes(data)
        files[precision] = ModelFile(f"{precision}.onnx", hashlib.sha256(data).hexdigest(), len(data))
    return Zoo(folder, SPEC.name, (dataclasses.replace(SPEC, files=files),))


def only(zoo: Zoo) -> ModelSpec:
    (spec,) = zoo.models
    return spec


# -- the file ----------------------------------------------------------------------------------------------------


def test_the_face_is_the_same_and_what_is_inside_is_float16(core: onnx.ModelProto) -> None:
    model = attach_gpu_outputs(attach_face(halved(core, RECIPE), SCALE, phases=True))
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    weights = [kinds[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert weights == [TensorProto.FLOAT16] * 3
    assert [i.type.tensor_type.elem_type for i in model.graph.input] == [TensorProto.FLOAT]
    source = Source(SPEC.title, "half.onnx", describe(model, SPEC, "fp16", {}), SPEC.scale, "fp16")
    face = OnnxRuntime("cpu", GpuOptions()).load(source, 1).face
    check_face(face, SPEC)
    assert {output.name: output.kind for output in face.outputs} == OUTPUTS
    assert not [n for n in model.graph.node if n.op_type == "QuantizeLinear" and "upscaled16" in n.name]


def test_the_core_is_not_changed_by_making_another_of_it(core: onnx.ModelProto) -> None:
    before = core.SerializeToString(deterministic=True)
    halved(core, RECIPE)
    assert core.SerializeToString(deterministic=True) == before


def test_layers_may_stay_in_float(core: onnx.ModelProto) -> None:
    model = halved(core, dataclasses.replace(RECIPE, fp16=Fp16Recipe(("tail",))))
    kinds = {i.name: i.data_type for i in model.graph.initializer if i.name.endswith("weight")}
    assert [name for name, kind in kinds.items() if kind == TensorProto.FLOAT] == ["network.tail.weight"]
    with pytest.raises(ValueError, match=r"no layers nose to leave in float; there are: .*tail"):
        halved(core, dataclasses.replace(RECIPE, fp16=Fp16Recipe(("nose",))))


@pytest.mark.parametrize("output", ["upscaled", "upscaled16"])
def test_rounding_to_float16_moves_little(core: onnx.ModelProto, output: str) -> None:
    image = skimage.data.chelsea()[None, 50:114, 100:180].astype(np.float32) / 255
    fp32, fp16 = (
        create_session(model.SerializeToString(), "half.onnx", "cpu", usable_cores()).run([output], {"image": image})[0]
        for model in faced(core).values()
    )
    peak = np.iinfo(fp16.dtype).max
    assert fp16.shape == fp32.shape
    difference = np.abs(fp16.astype(int) - fp32) / peak
    assert 0 < difference.max() <= 1.01 / 255


def test_a_file_that_loses_too_much_is_not_published() -> None:
    fp32 = {"Set5": {"psnr_y": 31.0}}
    check_loss(SPEC, fp32, {"Set5": {"psnr_y": 30.96}})
    for psnr in (30.9, float("nan")):
        with pytest.raises(ValueError, match="half-x2: fp16 loses"):
            check_loss(SPEC, fp32, {"Set5": {"psnr_y": psnr}})


# -- where it overflows ------------------------------------------------------------------------------------------


def test_what_overflows_in_float16_is_computed_again_in_float32(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zoo = zoo_of(tmp_path, overflowing())
    engine = Engine(zoo, "cpu", usable_cores(), "fp16")
    assert engine.network(only(zoo)).precision == "fp16"
    bright, dark = np.full((2, 24, 24, 3), 90, np.uint8)
    bright[8:12, 8:12] = 220
    source = Source("half-x2", "half.onnx", zoo.read(only(zoo), "fp16"), SCALE, "fp16")
    (result,) = OnnxRuntime("cpu", GpuOptions()).load(source, 1).run(bright[None])
    assert (result[16:24, 16:24] == 0).all(), "the network overflows as it should, and NaN comes out black"

    with caplog.at_level(logging.WARNING):
        results = engine.run(only(zoo), [bright, dark])
    for window, result in zip((bright, dark), results, strict=True):
        assert np.abs(result.astype(int) - nearest(window, SCALE)).max() <= 1
    assert engine.recomputed == {"half-x2": 1}
    assert "half-x2: float16 overflowed" in caplog.text


def test_what_does_not_overflow_is_not_computed_again(tmp_path: Path) -> None:
    zoo = zoo_of(tmp_path, overflowing())
    engine = Engine(zoo, "cpu", usable_cores(), "fp16")
    window = np.minimum(skimage.data.chelsea()[:64, :64], 170)
    (result,) = engine.run(only(zoo), [window])
    assert np.abs(result.astype(int) - nearest(window, SCALE)).max() <= 1
    assert not engine.recomputed
    assert {key.precision for key in engine._sessions} == {"fp16"}, "float32 is loaded when a picture needs it"


def test_the_float32_file_is_proven_at_the_start_although_it_is_loaded_later(tmp_path: Path) -> None:
    zoo = zoo_of(tmp_path, overflowing())
    (tmp_path / "fp32.onnx").write_bytes(b"another file")
    with pytest.raises(ModelFileError, match=r"fp32\.onnx: sha256 is"):
        Engine(zoo, "cpu", usable_cores(), "fp16")


def test_a_gpu_takes_float16_where_it_is_and_a_cpu_only_when_asked(tmp_path: Path) -> None:
    spec = only(zoo_of(tmp_path, overflowing()))
    without = dataclasses.replace(spec, files={"fp32": spec.files["fp32"]})
    cpu, cuda, tensorrt = (OnnxRuntime(name, GpuOptions()) for name in ("cpu", "cuda", "tensorrt"))
    assert choose_precision("auto", cuda, spec) == choose_precision("auto", tensorrt, spec) == "fp16"
    assert choose_precision("auto", cuda, without) == choose_precision("fp16", cuda, without) == "fp32"
    assert choose_precision("auto", cpu, spec) == "fp32"
    assert choose_precision("fp32", cuda, spec) == "fp32"
