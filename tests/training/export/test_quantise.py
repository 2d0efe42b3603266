"""The int8 files: that they are int8, that ONNX Runtime runs them so, and that the picture comes out as from fp32."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import skimage.data
import torch
from onnx import TensorProto, numpy_helper
from PIL import Image
from torch import nn

from app.errors import ModelFileError
from app.inference.engine import Engine, choose_precision
from app.inference.providers import GpuOptions, create_session
from app.inference.runtimes.onnx_runtime import OnnxRuntime
from app.inference.zoo import ModelSpec, load_zoo
from app.settings import Settings
from app.threads import usable_cores
from training.architectures import Generator, build
from training.architectures.collapsible import collapse
from training.checkpoint import Folders
from training.data.degradations import bicubic
from training.export import quantise as quantisation
from training.export.calibration import HEADROOM, HELD_OUT, PICTURE_SIDE, find_layers, lr_pictures, planes, probe
from training.export.face import attach_face
from training.export.graph import to_onnx
from training.export.publish import export
from training.export.quantise import LEVELS, codes_for, quantise, quantise_weight, quantised
from training.export.verify import MAX_CONTEXT, least_context
from training.recipe import DataRecipe, Int8Recipe, Recipe, Stage, load_recipe
from training.report.evaluate import choose, evaluate_zoo
from training.report.metrics import psnr
from training.train import train

SCALE = 2
TINY = Recipe(
    name="tiny",
    scale=SCALE,
    network={"architecture": "plain", "channels": 16, "depth": 3},
    summary="A recipe for tests.",
    data=DataRecipe(pictures="pictures", validation="pictures", crop=12, batch=4),
    stages=(Stage(steps=30, rate=1e-3, warmup=5),),
    precision="fp32",
    int8=Int8Recipe(pictures=4),
)
NETWORKS = {
    "plain": {"architecture": "plain", "channels": 16, "depth": 4},
    "residual": {"architecture": "plain-residual", "channels": 16, "blocks": 2},
}


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Pair:
    """A network as it is and quantised, without and with the face."""

    core: onnx.ModelProto
    int8: onnx.ModelProto

    def session(self, precision: str) -> ort.InferenceSession:
        core = {"fp32": self.core, "int8": self.int8}[precision]
        return create_session(
            attach_face(core, SCALE, phases=True).SerializeToString(), precision, "cpu", usable_cores()
        )

    def run(self, precision: str, pixels: np.ndarray) -> np.ndarray:
        """uint8 ``[N, h, w, 3]`` to int ``[N, h * s, w * s, 3]``."""
        image = pixels.astype(np.float32) / 255
        return self.session(precision).run(["upscaled"], {"image": image})[0].astype(int)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """LR photographs to calibrate on, uint8 ``[40, 60, 3]``."""
    photo = skimage.data.chelsea()[:280, :420]
    return [bicubic(photo[y : y + 80, x : x + 120], 2) for y in range(0, 240, 80) for x in range(0, 360, 120)]


def strong(network: Generator) -> Generator:
    """Gives an untrained network, which would only repeat the picture, something to add to it."""
    assert isinstance(network.tail, nn.Conv2d)
    nn.init.normal_(network.tail.weight, std=0.03)
    return network


@pytest.fixture(scope="module")
def pairs(pictures: list[np.ndarray]) -> dict[str, Pair]:
    torch.manual_seed(0)
    result = {}
    for name, network in NETWORKS.items():
        core = to_onnx(collapse(strong(build(SCALE, **network)).eval()))
        result[name] = Pair(core, quantise(core, pictures))
    return result


@pytest.fixture(params=NETWORKS)
def pair(request: pytest.FixtureRequest, pairs: dict[str, Pair]) -> Pair:
    return pairs[request.param]


def held_out() -> np.ndarray:
    """uint8 ``[1, 60, 90, 3]``, of another photograph than those in ``pictures``."""
    return bicubic(skimage.data.coffee()[100:220, 200:380], 2)[None]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def optimised(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """What ONNX Runtime makes of a graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that what it saves fits this machine alone
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


# -- the picture -------------------------------------------------------------------------------------------------


def test_int8_gives_nearly_what_fp32_gives(pair: Pair) -> None:
    fp32, int8 = (pair.run(precision, held_out()) for precision in ("fp32", "int8"))
    nearest = held_out().repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    assert psnr(fp32, nearest) < 30  # there is something to get wrong
    assert psnr(fp32, int8) > 40
    assert np.abs(fp32 - int8).max() < 20


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (2, 7, 1), (3, 20, 33)])
def test_any_size_goes(pair: Pair, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(60, 190, (*shape, 3), np.uint8)
    fp32, int8 = (pair.run(precision, pixels) for precision in ("fp32", "int8"))
    assert int8.shape == (shape[0], shape[1] * SCALE, shape[2] * SCALE, 3)
    assert psnr(fp32, int8) > 38


def test_both_outputs_are_the_same_picture(pair: Pair) -> None:
    image = held_out().astype(np.float32) / 255
    upscaled, upscaled16 = pair.session("int8").run(["upscaled", "upscaled16"], {"image": image})
    assert upscaled16.dtype == np.uint16
    assert (upscaled16 == upscaled.astype(np.uint16) * 257).all()


def silent_pair(bias: float, pictures: list[np.ndarray], network: str) -> Pair:
    """A network whose tail adds ``bias`` to the picture and nothing else."""
    torch.manual_seed(0)
    generator = build(SCALE, **NETWORKS[network])
    assert isinstance(generator.tail, nn.Conv2d)
    nn.init.zeros_(generator.tail.weight)
    nn.init.constant_(generator.tail.bias, bias)
    core = to_onnx(collapse(generator.eval()))
    return Pair(core, quantise(core, pictures))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("bias", [0.0, 0.9, -0.9])
def test_the_enlarged_picture_is_exact_and_so_is_the_largest_residual(
    bias: float, network: str, pictures: list[np.ndarray]
) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3).copy()
    levels[..., 1] = levels[:, ::-1, :, 1]  # so that colours and rows cannot be mistaken for one another
    expected = np.clip(levels.repeat(SCALE, axis=1).repeat(SCALE, axis=2) / 255 + bias, 0, 1) * 255
    assert np.abs(silent_pair(bias, pictures, network).run("int8", levels) - expected).max() < 0.51


# -- the file ----------------------------------------------------------------------------------------------------


def test_weights_are_int8_and_biases_int32(pair: Pair) -> None:
    kinds = Counter()
    for constant in pair.int8.graph.initializer:
        kinds[constant.data_type] += int(np.prod(constant.dims))
    weights = sum(layer.weight.size for layer in find_layers(pair.core))
    assert weights <= kinds[TensorProto.INT8] < 1.5 * weights
    assert kinds[TensorProto.FLOAT] < 0.1 * weights  # scales
    assert kinds[TensorProto.INT32] > 0
    assert len(pair.int8.SerializeToString()) < len(pair.core.SerializeToString())


def test_each_output_channel_has_the_finest_scale_that_is_safe(pair: Pair) -> None:
    stored = constants(pair.int8)
    for layer in find_layers(pair.core):
        codes, scale = stored[f"{layer.name}_weight_codes"], stored[f"{layer.name}_weight_scale"]
        outputs, inputs = layer.weight.shape[:2]
        assert (codes.dtype, scale.shape) == (np.int8, (outputs,))
        decoded = codes.astype(np.float64) * scale[:, None, None, None]
        error = np.abs(decoded[:, :inputs] - layer.weight)
        assert (error <= 0.5001 * scale[:, None, None, None]).all(), layer.name
        used = codes.reshape(outputs, -1, 2, *codes.shape[2:]).astype(int)
        sums = np.maximum(np.maximum(used, 0).sum(axis=2), np.maximum(-used, 0).sum(axis=2)).max(axis=(1, 2, 3))
        assert sums.max() <= 128, layer.name  # 255 * 128 is the most that 16 bits hold
        if layer.name != "tail":  # its scales are widened to hold the enlarged picture exactly
            assert sums.min() >= 126, layer.name
        bias = stored[f"{layer.name}_bias_codes"] * stored[f"{layer.name}_bias_scale"]
        if layer.name != "tail":
            assert np.abs(bias - layer.bias).max() <= 0.5001 * stored[f"{layer.name}_bias_scale"].max()


def test_onnx_runtime_runs_it_in_integers_from_end_to_end(pair: Pair, tmp_path: Path) -> None:
    graph = optimised(attach_face(pair.int8, SCALE, phases=True), tmp_path / "optimised.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    convolutions, sums = len(find_layers(pair.core)), Counter(node.op_type for node in pair.core.graph.node)["Add"] - 1
    assert kinds["QLinearConv"] == convolutions + 2  # the picture with a fourth channel, for the head and the tail
    assert kinds["QLinearAdd"] == sums
    assert kinds.keys().isdisjoint({"Conv", "FusedConv", "Add", "Relu"})
    assert kinds["QuantizeLinear"] == 2  # the picture, and `upscaled16`
    assert kinds["DequantizeLinear"] <= 1  # for `upscaled16`
    last = [attribute.i for node in graph.node for attribute in node.attribute if attribute.name == "channels_last"]
    assert last == [1] * kinds["QLinearConv"]


def test_the_scales_hold_all_that_calibration_saw(pair: Pair, pictures: list[np.ndarray]) -> None:
    stored = constants(pair.int8)
    relu = next(layer.output for layer in find_layers(pair.core) if layer.relu)
    values_of = probe(pair.core, [relu])
    highest = max(float(values_of(planes(picture))[0].max()) for picture in pictures)
    assert stored[f"{relu}_zero"] == 0
    assert float(stored[f"{relu}_step"]) * 255 == pytest.approx(highest * HEADROOM, rel=1e-5)


def test_layers_left_in_float_are_computed_in_float(pairs: dict[str, Pair], pictures: list[np.ndarray]) -> None:
    core = pairs["plain"].core
    model = quantise(core, pictures, ["head", "trunk.1"])
    stored = constants(model)
    layers = {layer.name: layer for layer in find_layers(core)}
    for name, layer in layers.items():
        left = name in ("head", "trunk.1")
        assert (f"{name}_weight_codes" in stored) is not left
        assert (layer.conv.input[1] in stored) is left
    # What the head gives differs from the truth by the rounding of its own codes alone.
    picture = planes(held_out()[0])
    relu = layers["head"].output
    (truth,), (given,) = probe(core, [relu])(picture), probe(model, [f"{relu}_values"])(picture)
    step = float(stored[f"{relu}_step"])
    assert np.abs(np.clip(truth, 0, 255 * step) - given).max() <= 0.501 * step


def test_a_tail_left_in_float_leaves_the_sum_with_the_picture_to_float(
    pairs: dict[str, Pair], pictures: list[np.ndarray]
) -> None:
    core = pairs["plain"].core
    pair = Pair(core, quantise(core, pictures, ["tail"]))
    assert psnr(pair.run("fp32", held_out()), pair.run("int8", held_out())) > 40
    image = held_out().astype(np.float32) / 255
    upscaled, upscaled16 = pair.session("int8").run(["upscaled", "upscaled16"], {"image": image})
    assert (upscaled16 != upscaled.astype(np.uint16) * 257).any()


def test_wrong_layers_are_named(pairs: dict[str, Pair], pictures: list[np.ndarray]) -> None:
    core = pairs["plain"].core
    names = [layer.name for layer in find_layers(core)]
    assert names == ["head", "trunk.0", "trunk.1", "tail"]
    with pytest.raises(ValueError, match=r"no layers trunk\.7 to leave in float; there are: head, trunk\.0"):
        quantise(core, pictures, ["tail", "trunk.7"])
    with pytest.raises(ValueError, match="no convolution to quantise"):
        quantise(core, pictures, names)


# -- codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 2.5), (-1.0, 3.0), (-2.0, 0.0), (0.5, 1.0), (0.0, 0.0)])
def test_zero_has_a_code_and_the_range_is_covered(low: float, high: float) -> None:
    codes = codes_for(low, high)
    assert 0 <= codes.zero <= 255
    slack = float(codes.step)
    assert codes.low <= min(low, 0) + slack
    assert codes.low + codes.span >= max(high, 0) - slack
    assert codes.span == pytest.approx(max(high, 0) - min(low, 0) or 255)


def test_levels_are_those_of_an_8_bit_picture() -> None:
    assert (np.rint(np.arange(256) / np.float32(255) / LEVELS.step) == np.arange(256)).all()


def test_a_weight_asked_to_be_exact_is() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 6, 3, 3)).astype(np.float32) * 0.05
    weight[:, 0, 0, 0] = np.linspace(0.1, 0.9, 40)  # in some channels more than the exact weight, in some less
    weight[:, 4:, 1, 1] = 0
    weight[:, 4, 1, 1] = gain = 0.37
    codes, scale = quantise_weight(weight, exact=gain)
    assert scale * codes[:, 4, 1, 1] == pytest.approx(np.full(40, gain), rel=1e-6)
    assert np.abs(codes * scale[:, None, None, None] - weight).max() <= 0.5001 * scale.max()


def test_a_channel_of_zeros_has_a_scale() -> None:
    codes, scale = quantise_weight(np.zeros((2, 3, 1, 1), np.float32))
    assert (codes == 0).all()
    assert (scale == 1).all()


# -- export and engine -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    folders: Folders
    models: Path
    tiny: ModelSpec


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``TINY`` trained, and exported beside a network without int8, into one folder."""
    data = tmp_path_factory.mktemp("data")
    (data / "pictures").mkdir()
    (data / "Set5" / "x2").mkdir(parents=True)
    photo = skimage.data.astronaut()
    for index in range(HELD_OUT + 4):
        top, left = 120 * (index // 4), 120 * (index % 4)
        Image.fromarray(photo[top : top + 90, left : left + 90]).save(data / "pictures" / f"{index:02}.png")
    hr = skimage.data.coffee()[100:220, 200:380]
    Image.fromarray(hr).save(data / "Set5" / "x2" / "coffee_HR.png")
    Image.fromarray(bicubic(hr, 2)).save(data / "Set5" / "x2" / "coffee_LR.png")
    folders, models = Folders(data, tmp_path_factory.mktemp("runs")), tmp_path_factory.mktemp("models")
    train(TINY, folders)
    tiny = export(TINY, folders, models)
    export(load_recipe("bicubic-x2"), folders, models)
    return Exported(folders, models, tiny)


def test_export_writes_both_files_and_what_each_reaches(exported: Exported) -> None:
    spec = load_zoo(exported.models).find("tiny", SCALE)
    assert spec == exported.tiny
    assert {precision: file.path for precision, file in spec.files.items()} == {
        "fp32": "tiny-x2.onnx",
        "int8": "tiny-x2.int8.onnx",
    }
    reached = {precision: file.metrics["Set5"]["psnr_y"] for precision, file in spec.files.items()}
    assert reached["int8"] != reached["fp32"]
    assert reached["int8"] == pytest.approx(reached["fp32"], abs=0.1)
    for precision, file in spec.files.items():
        props = {p.key: p.value for p in onnx.load(exported.models / file.path).metadata_props}
        assert props["precision"] == precision
        assert json.loads(props["metrics"]) == file.metrics
        assert props["context"] == str(spec.at(precision).context)


def test_the_engine_takes_int8_where_it_is_asked_for_and_there(exported: Exported) -> None:
    zoo = load_zoo(exported.models)
    pixels = held_out()[0]
    results = {}
    for asked, has in (("auto", "fp32"), ("fp32", "fp32"), ("int8", "int8")):
        engine = Engine(zoo, "cpu", usable_cores(), asked)
        assert engine.network(exported.tiny).precision == has
        assert engine.network(zoo.find("bicubic", 2)).precision == "fp32"  # it has no other
        (results[asked],) = engine.run(exported.tiny, [pixels])
    assert (results["auto"] == results["fp32"]).all()
    assert (results["int8"] != results["fp32"]).any()
    assert psnr(results["int8"], results["fp32"]) > 44


def test_a_file_is_planned_with_its_own_context(exported: Exported) -> None:
    zoo = load_zoo(exported.models)
    assert zoo.find("tiny", SCALE).files["fp32"].context is None, "the network's"
    for precision in ("fp32", "int8"):
        engine = Engine(zoo, "cpu", usable_cores(), precision)
        planned = engine.zoo.find("tiny", SCALE)
        assert planned == engine.network(exported.tiny).spec == exported.tiny.at(precision)
        face = engine.session(planned, engine.network(planned).backend).face
        assert face.metadata["context"] == str(planned.context)
    files = {**exported.tiny.files, "int8": replace(exported.tiny.files["int8"], context=31)}
    wrong = replace(zoo, models=(replace(exported.tiny, files=files),))
    assert Engine(wrong, "cpu", usable_cores(), "fp32").zoo.find("tiny", SCALE).context == exported.tiny.context
    with pytest.raises(ModelFileError, match=r"its metadata says context '\d', the manifest 31"):
        Engine(wrong, "cpu", usable_cores(), "int8")


def test_a_provider_that_does_not_run_int8_well_is_not_given_it(exported: Exported) -> None:
    assert choose_precision("int8", OnnxRuntime("cpu", GpuOptions()), exported.tiny) == "int8"
    assert choose_precision("int8", OnnxRuntime("cuda", GpuOptions()), exported.tiny) == "fp32"


def test_the_setting_reaches_the_engine(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.main import create_engine

    monkeypatch.setenv("ENLARGER_PRECISION", "int8")
    engine = create_engine(Settings(models=exported.models, provider="cpu"))
    assert engine.network(exported.tiny).precision == "int8"
    monkeypatch.setenv("ENLARGER_PRECISION", "int4")
    with pytest.raises(ValueError, match="precision"):
        Settings()


def test_evaluation_tells_the_precisions_apart(exported: Exported) -> None:
    zoo = load_zoo(exported.models)
    for precision in ("fp32", "int8"):
        files = choose(zoo, ["tiny"], [precision])
        (record,) = evaluate_zoo(zoo, files, exported.folders, measures=["quality"])
        assert record.precision == precision
        assert record.metrics == exported.tiny.files[precision].metrics


def test_an_int8_network_that_is_off_is_not_published(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quantisation, "FLOOR", 90.0)
    with pytest.raises(ValueError, match=r"tiny-x2: int8 is only [45]\d\.\d dB from fp32, the least allowed is 90"):
        export(TINY, exported.folders, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_the_pictures_of_the_check_are_not_those_of_the_calibration(
    exported: Exported, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    core, used = pairs["plain"].core, {}
    with monkeypatch.context() as patch:
        patch.setattr(quantisation, "quantise", lambda core, seen, layers: used.update(calibration=seen) or core)
        patch.setattr(quantisation, "fidelity", lambda core, int8, seen: used.update(check=seen) or 60.0)
        quantised(core, TINY, exported.folders)
    assert (len(used["calibration"]), len(used["check"])) == (4, HELD_OUT)
    assert {p.tobytes() for p in used["calibration"]}.isdisjoint(p.tobytes() for p in used["check"])
    pictures = lr_pictures(TINY, exported.folders)
    assert len(pictures) == HELD_OUT + 4
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert {picture.shape for picture in pictures} == {(45, 45, 3)}
    with pytest.raises(ValueError, match=r"takes 5 pictures to calibrate on and 8 to check; .*pictures has 12"):
        lr_pictures(replace(TINY, int8=Int8Recipe(pictures=5)), exported.folders)


def test_only_the_middle_of_a_large_picture_is_used(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for index in range(HELD_OUT + 1):
        Image.new("RGB", (900, 310), (index, 0, 0)).save(tmp_path / "pictures" / f"{index}.png")
    recipe = replace(TINY, int8=Int8Recipe(pictures=1))
    pictures = lr_pictures(recipe, Folders(tmp_path, tmp_path))
    assert {picture.shape for picture in pictures} == {(155, PICTURE_SIDE, 3)}


# -- context -----------------------------------------------------------------------------------------------------


def test_the_context_of_int8_is_enough_for_it(exported: Exported) -> None:
    """The receptive field of three 3 x 3 convolutions is 3; with it a core is the whole picture's to the bit."""
    tiny = exported.tiny.at("int8")
    assert exported.tiny.context <= tiny.context <= 3
    engine = Engine(load_zoo(exported.models), "cpu", usable_cores(), "int8")
    pixels = np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)
    (whole,) = engine.run(exported.tiny, [pixels])
    for context, limit in ((tiny.context, 1), (3, 0)):
        start, stop, margin = 20 - context, 40 + context, context * SCALE
        (part,) = engine.run(exported.tiny, [pixels[start:stop, start:stop]])
        inner = part[margin : margin + 20 * SCALE, margin : margin + 20 * SCALE]
        difference = inner.astype(int) - whole[20 * SCALE : 40 * SCALE, 20 * SCALE : 40 * SCALE]
        assert np.abs(difference).max() <= limit


def test_context_is_what_the_graph_needs_and_no_less_than_asked(pairs: dict[str, Pair]) -> None:
    model = attach_face(pairs["plain"].int8, SCALE, phases=True)
    assert 1 <= least_context(model, SCALE, 0) <= 4  # four 3 x 3 convolutions
    assert least_context(model, SCALE, 6) == 6
    assert least_context(model, SCALE, MAX_CONTEXT) == MAX_CONTEXT


# -- the recipe --------------------------------------------------------------------------------------------------

RECIPE = """
name = "tiny"
scale = 2
summary = "A recipe for tests."

[network]
architecture = "plain"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


def test_a_recipe_asks_for_int8_by_a_table(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, RECIPE)).int8 is None
    assert load_recipe(write(tmp_path, RECIPE + "[int8]\n")).int8 == Int8Recipe()
    table = '[int8]\npictures = 12\nfloat_layers = ["head", "tail"]\n'
    assert load_recipe(write(tmp_path, RECIPE + table)).int8 == Int8Recipe(12, ("head", "tail"))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("picture = 12", ["'picture'", "'pictures'", "'float_layers'"]),
        ("pictures = 0", ["pictures", "0"]),
        ('pictures = "many"', ["pictures", "many"]),
        ("float_layers = [1]", ["float_layers", "1"]),
        ('float_layers = "tail"', ["float_layers", "tail"]),
    ],
)
def test_a_wrong_table_says_what_is_wrong(table: str, said: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^tiny\.toml: ") as error:
        load_recipe(write(tmp_path, f"{RECIPE}[int8]\n{table}\n"))
    assert [words for words in said if words not in str(error.value)] == []
