"""From a trained network to a file the service takes: the face, the proof, what is measured, what is written."""

import copy
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from app.inference.engine import Engine
from app.inference.providers import create_session
from app.inference.zoo import ModelSpec, load_zoo
from app.threads import usable_cores
from training.__main__ import main
from training.architectures import Generator, SubPixelGenerator, build
from training.architectures.collapsible import collapse
from training.checkpoint import Folders, load_trained
from training.export.face import attach_face
from training.export.graph import to_onnx
from training.export.macs import multiply_accumulates
from training.export.manifest import write_manifest
from training.export.publish import export, sources, thinned, trained
from training.export.verify import CONTEXT_TOLERANCE, MAX_CONTEXT, MAX_SEAM, measure_context, parity
from training.hardware import machine
from training.recipe import DataRecipe, Fp16Recipe, Recipe, Stage, load_recipe
from training.report.cards import card
from training.report.metrics import compare, crop_border
from training.train import train

SCALE = 2
TINY = Recipe(
    name="tiny",
    scale=SCALE,
    network={"architecture": "plain", "channels": 8, "depth": 3},
    summary="A recipe for tests.",
    data=DataRecipe(pictures="pictures", validation="pictures", crop=12, batch=4),
    stages=(Stage(steps=30, rate=1e-3, warmup=5),),
    precision="fp32",
)
BORDER = 3  # LR pixels: the context of ``TINY`` at most
CPU_ONLY = ort.RunOptions()
CPU_ONLY.only_execute_path_to_fetches = True


class Planes(Generator):
    """A network that also works at the HR size, so that it has planes and no phases."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = SCALE
        self.head = nn.Conv2d(3, 3 * SCALE**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(SCALE)
        self.tail = nn.Conv2d(3, 3, 1)
        nn.init.normal_(self.head.weight, std=0.5)
        nn.init.constant_(self.tail.bias, 0.4)

    def forward(self, lr: Tensor) -> Tensor:
        return self.tail(self.shuffle(self.head(lr)))


class Corner(Generator):
    """Enlarges what lies ``radius`` pixels to the upper left: it needs exactly that much context."""

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.scale, self.radius = SCALE, radius

    def forward(self, lr: Tensor) -> Tensor:
        h, w = lr.shape[2:]
        moved = F.pad(lr, (self.radius, 0, self.radius, 0))[:, :, :h, :w]
        return F.interpolate(moved, scale_factor=self.scale, mode="nearest")


class Everywhere(Generator):
    """Every pixel depends on all others, so no context is enough."""

    scale = SCALE

    def forward(self, lr: Tensor) -> Tensor:
        return F.interpolate(lr, scale_factor=self.scale) * lr.shape[2] / (100 * lr.mean())


@dataclass(frozen=True)
class Core:
    """A network beside its graphs, without and with the face."""

    network: Generator
    core: onnx.ModelProto
    model: onnx.ModelProto

    def session(self) -> ort.InferenceSession:
        return create_session(self.model.SerializeToString(), "test", "cpu", usable_cores())


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cores() -> dict[str, Core]:
    """One network of each kind, exported once."""
    torch.manual_seed(0)
    plain = build(SCALE, **TINY.network)
    nn.init.normal_(plain.tail.weight, std=0.05)
    networks = {
        "phases": collapse(plain.eval()),
        "planes": Planes().eval(),
        "nearest": build(SCALE, "interpolation", kernel="nearest"),
        "bicubic": build(3, "interpolation", kernel="bicubic"),
        "espcn": build(SCALE, "espcn"),
    }
    result = {}
    for name, network in networks.items():
        core = to_onnx(network)
        result[name] = Core(network, core, attach_face(core, network.scale, isinstance(network, SubPixelGenerator)))
    return result


@dataclass(frozen=True)
class Exported:
    folders: Folders
    models: Path
    tiny: ModelSpec
    bicubic: ModelSpec
    default: str
    """What the manifest said after the first of the two."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``TINY`` trained on two small pictures, and bicubic, exported into one fresh folder, the dearer one first."""
    data = tmp_path_factory.mktemp("data")
    (data / "pictures").mkdir()
    (data / "Set5" / "x2").mkdir(parents=True)
    for name in ("astronaut", "coffee"):
        pixels = getattr(skimage.data, name)()[100:160, 200:280]
        Image.fromarray(pixels).save(data / "pictures" / f"{name}.png")
        Image.fromarray(pixels).save(data / "Set5" / "x2" / f"{name}_HR.png")
        Image.fromarray(pixels[::2, ::2]).save(data / "Set5" / "x2" / f"{name}_LR.png")
    folders = Folders(data, tmp_path_factory.mktemp("runs"))
    train(TINY, folders)
    models = tmp_path_factory.mktemp("new") / "below" / "models"
    tiny = export(TINY, folders, models)
    default = load_zoo(models).default
    return Exported(folders, models, tiny, export(load_recipe("bicubic-x2"), folders, models), default)


# -- the face ----------------------------------------------------------------------------------------------------


def expected_pixels(network: Generator, image: np.ndarray, peak: int) -> np.ndarray:
    """``[N, H, W, 3]`` in [0, 1] to ``[N, H * s, W * s, 3]``, 0 to ``peak``, as torch computes it."""
    with torch.no_grad():
        planes = network(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    return np.rint(np.clip(planes.astype(np.float64), 0, 1) * peak)


@pytest.mark.parametrize("kind", ["phases", "planes", "bicubic", "espcn"])
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 7), (2, 5, 1), (3, 9, 8), (1, 40, 33)])
def test_the_graph_gives_what_torch_gives(cores: dict[str, Core], kind: str, size: tuple[int, int, int]) -> None:
    network = cores[kind].network
    image = np.random.default_rng(sum(size)).random((*size, 3), np.float32)
    upscaled, upscaled16 = cores[kind].session().run(["upscaled", "upscaled16"], {"image": image})
    n, h, w = size
    for pixels, dtype, peak in ((upscaled, np.uint8, 255), (upscaled16, np.uint16, 65_535)):
        assert pixels.dtype == dtype
        assert pixels.shape == (n, h * network.scale, w * network.scale, 3)
        difference = np.abs(pixels - expected_pixels(network, image, peak))
        assert difference.max() <= 1  # where float sums in another order fall on the other side of a half
        assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize("kind", ["phases", "planes"])
def test_what_lies_beyond_black_and_white_is_clipped(cores: dict[str, Core], kind: str) -> None:
    image = np.random.default_rng(0).random((1, 30, 30, 3), np.float32) * 4 - 1.5
    upscaled, upscaled16 = cores[kind].session().run(["upscaled", "upscaled16"], {"image": image})
    for pixels, peak in ((upscaled, 255), (upscaled16, 65_535)):
        expected = expected_pixels(cores[kind].network, image, peak)
        assert (expected == 0).any()
        assert (expected == peak).any()
        assert np.abs(pixels - expected).max() <= 1


def test_every_level_of_8_and_of_16_bits_comes_through_nearest_neighbour_unchanged(cores: dict[str, Core]) -> None:
    session = cores["nearest"].session()
    for name, dtype, side in (("upscaled", np.uint8, 16), ("upscaled16", np.uint16, 256)):
        levels = np.arange(side * side).reshape(1, side, side, 1).repeat(3, axis=3).astype(dtype)
        levels[..., 1] = levels[:, ::-1, :, 1]  # so that colours and rows cannot be mistaken for one another
        image = levels.astype(np.float32) / np.iinfo(dtype).max
        (pixels,) = session.run([name], {"image": image})
        assert pixels.dtype == dtype
        assert (pixels == levels.repeat(SCALE, axis=1).repeat(SCALE, axis=2)).all()


@pytest.mark.parametrize("kind", ["phases", "planes"])
def test_one_output_alone_is_what_it_is_beside_the_other(cores: dict[str, Core], kind: str) -> None:
    session, image = cores[kind].session(), np.random.default_rng(0).random((2, 6, 5, 3), np.float32)
    both = session.run(["upscaled", "upscaled16"], {"image": image})
    for index, name in enumerate(("upscaled", "upscaled16")):
        (alone,) = session.run([name], {"image": image}, CPU_ONLY)
        assert (alone == both[index]).all()


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("phases", 8 * 27 + 8 * 72 + 12 * 72),
        ("planes", 12 * 27 + 4 * 9),  # the second one at four times the pixels
        ("nearest", 12 * 3),
        ("bicubic", 27 * 3 * 25),
        # to YCC; 5x5x64, 3x3x32, 3x3x4; bicubic chroma; back to RGB
        ("espcn", 3 * 3 + 64 * 25 + 32 * 64 * 9 + 4 * 32 * 9 + 8 * 2 * 25 + 12 * 12),
    ],
)
def test_multiply_accumulates_for_one_lr_pixel(cores: dict[str, Core], kind: str, count: int) -> None:
    assert multiply_accumulates(cores[kind].core) == count


def test_the_file_says_nothing_of_the_machine_it_was_made_on(cores: dict[str, Core]) -> None:
    for core in cores.values():
        data = core.model.SerializeToString()
        assert b"stack_trace" not in data
        assert str(Path.cwd()).encode() not in data


# -- the proof ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["phases", "planes", "bicubic"])
def test_parity_passes_for_the_right_graph(cores: dict[str, Core], kind: str) -> None:
    assert parity(cores[kind].network, cores[kind].model) in (0, 1)


@pytest.mark.parametrize("kind", ["phases", "planes"])
def test_parity_raises_for_other_weights(cores: dict[str, Core], kind: str) -> None:
    other = copy.deepcopy(cores[kind].network)
    with torch.no_grad():
        other.tail.bias[0] += 3 / 255
    with pytest.raises(ValueError, match=r"differs from torch by [34] levels of 255"):
        parity(other, cores[kind].model)


def test_parity_raises_for_a_wrong_order_of_phases(cores: dict[str, Core]) -> None:
    mixed = copy.deepcopy(cores["phases"].network)
    with torch.no_grad():
        mixed.tail.weight.copy_(mixed.tail.weight.roll(3, dims=0))
    with pytest.raises(ValueError, match="differs from torch"):
        parity(mixed, cores["phases"].model)


# -- the context -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "context"), [("nearest", 0), ("bilinear", 1), ("bicubic", 2)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_context_of_interpolation_is_its_radius(kernel: str, context: int, scale: int) -> None:
    assert measure_context(build(scale, "interpolation", kernel=kernel)) == (context, 0.0)


@pytest.mark.parametrize("radius", [0, 1, 3, MAX_CONTEXT])
def test_context_is_as_far_as_a_network_looks(radius: int) -> None:
    assert measure_context(Corner(radius)) == (radius, 0.0)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_context_of_plain_is_at_most_its_depth(depth: int) -> None:
    torch.manual_seed(0)
    network = build(SCALE, "plain", channels=8, depth=depth).requires_grad_(False)
    nn.init.normal_(network.tail.weight, std=0.1)
    assert 1 <= measure_context(network)[0] <= depth


def test_context_is_least_within_its_tolerance() -> None:
    """A far pixel may be left out only while it moves the result by no more than the tolerance."""
    for weight, context in ((0.9 * CONTEXT_TOLERANCE / 255, 0), (1.5 * CONTEXT_TOLERANCE / 255, 4)):
        network = Corner(4)
        blended = type(
            "Blended", (Generator,), {"scale": SCALE, "forward": lambda _, lr, w=weight, n=network: w * n(lr)}
        )
        assert measure_context(blended()) == (context, 0.0)


@pytest.mark.parametrize("network", [Corner(MAX_CONTEXT + 1), Everywhere()], ids=["too far", "everywhere"])
def test_a_network_that_no_context_suffices_for_is_refused_with_the_figure(network: Generator) -> None:
    with pytest.raises(
        ValueError, match=r"no context up to 48 LR pixels suffices.* moves by (\d+\.\d) levels"
    ) as raised:
        measure_context(network)
    told = float(re.findall(r"by (\d+\.\d) levels", str(raised.value))[0])
    assert told > MAX_SEAM
    assert measure_context(network, max_seam=255) == (MAX_CONTEXT, pytest.approx(told, abs=0.06))


def test_a_small_seam_is_told_of_and_taken() -> None:
    network = Corner(MAX_CONTEXT + 1)
    faint = type("Faint", (Generator,), {"scale": SCALE, "forward": lambda _, lr: network(lr) / 255})
    context, seam = measure_context(faint())
    assert context == MAX_CONTEXT
    assert CONTEXT_TOLERANCE < seam <= 1


def test_a_network_that_works_in_cells_is_seen_out_of_step() -> None:
    def forward(_: Generator, lr: Tensor) -> Tensor:
        cells = F.avg_pool2d(lr, 4)
        return F.interpolate(cells, scale_factor=4 * SCALE)

    with pytest.raises(ValueError, match="no context up to 48"):
        measure_context(type("Cells", (Generator,), {"scale": SCALE, "forward": forward})())


# -- what is written ---------------------------------------------------------------------------------------------


def test_the_manifest_is_one_the_zoo_reads(exported: Exported) -> None:
    zoo = load_zoo(exported.models)
    assert [spec.title for spec in zoo] == ["bicubic-x2", "tiny-x2"]  # the cheaper one first
    assert zoo.find("tiny", SCALE) == exported.tiny
    assert zoo.find("bicubic", SCALE) == exported.bicubic
    assert sorted(path.name for path in exported.models.iterdir()) == [
        "bicubic-x2.onnx",
        "cards",
        "manifest.json",
        "tiny-x2.onnx",
    ]
    for spec in zoo:
        assert len(zoo.read(spec, "fp32")) == spec.files["fp32"].bytes  # and its sha256 is right


def test_the_entry_tells_of_the_network_and_its_training(exported: Exported) -> None:
    tiny, bicubic = exported.tiny, exported.bicubic
    assert (tiny.architecture, tiny.scale, tiny.summary) == ("plain", SCALE, TINY.summary)
    assert tiny.parameters == 8 * 28 + 8 * 73 + 12 * 73
    assert tiny.macs == 8 * 27 + 8 * 72 + 12 * 72
    assert 0 <= tiny.context <= 3
    assert tiny.recipe == "training/recipes/tiny-x2.toml"
    told = dict(tiny.training)
    assert told.pop("data")
    assert told.pop("machines") == [machine()]
    (line,) = told.pop("log")  # 30 steps have one line of log
    loss = told["final_loss"]
    assert line == {"step": 30, "loss": loss, "pixel": loss, "psnr_y": told["validation_psnr_y"]}
    assert told.pop("seconds") >= 0
    assert 0 < told.pop("final_loss") < 1
    assert 15 < told.pop("validation_psnr_y") < 60
    assert told == {"steps": 30, "of_steps": 30, "seed": 1, "batch": 4, "crop": 12, "degradation": "bicubic"}
    assert (bicubic.parameters, bicubic.context, bicubic.training) == (0, 2, {"steps": 0})


def test_the_file_says_of_itself_what_the_manifest_says_of_it(exported: Exported) -> None:
    for spec in load_zoo(exported.models):
        file = spec.files["fp32"]
        props = {p.key: p.value for p in onnx.load(exported.models / file.path).metadata_props}
        for key in ("name", "architecture", "scale", "context", "alignment", "licence", "recipe"):
            assert props.pop(key) == str(getattr(spec, key)), key
        assert json.loads(props.pop("training")) == spec.training
        assert json.loads(props.pop("metrics")) == file.metrics
        assert props == {"degradation": spec.training.get("degradation", "none"), "precision": "fp32"}


def test_the_card_tells_what_the_manifest_tells(exported: Exported) -> None:
    for spec in load_zoo(exported.models):
        path = exported.models / "cards" / f"{spec.title}.md"
        assert path.read_text() == card(spec, f"{spec.title}.webp")
        with Image.open(path.with_suffix(".webp")) as picture:
            assert picture.format == "WEBP"


@pytest.mark.parametrize(
    ("lines", "validate_every", "steps"),
    [
        (3, 0, [100, 200, 300]),
        (10, 0, list(range(100, 1100, 100))),
        (40, 20, list(range(400, 4400, 400))),  # too few validations: evenly through all lines
        (400, 20, list(range(4000, 44_000, 4000))),
    ],
)
def test_the_log_is_kept_in_ten_lines(lines: int, validate_every: int, steps: list[int]) -> None:
    def row(number: int) -> dict[str, str]:
        validated = validate_every and number % validate_every == 0
        quality = f"{20 + number / 100}" if validated else ""
        return {"step": str(100 * number), "loss": f"{1 / number}", "rate": "1e-3", "psnr_y": quality, "seconds": "1"}

    found = thinned([row(number) for number in range(1, lines + 1)])
    assert [line["step"] for line in found] == steps
    for line in found:
        number = line["step"] // 100
        validated = validate_every and number % validate_every == 0
        quality = {"psnr_y": 20 + number / 100} if validated else {}
        assert line == {"step": line["step"], "loss": 1 / number, **quality}


def test_the_engine_takes_the_files_and_gives_what_was_trained(exported: Exported) -> None:
    engine = Engine(load_zoo(exported.models), "cpu", usable_cores())
    pixels = skimage.data.coffee()[:37, 200:250]
    networks = {
        "tiny": load_trained(TINY, exported.folders)[0],
        "bicubic": build(SCALE, "interpolation", kernel="bicubic"),
    }
    for spec in (exported.tiny, exported.bicubic):
        (upscaled,) = engine.run(spec, [pixels])
        expected = expected_pixels(networks[spec.name], pixels[None].astype(np.float32) / 255, 255)[0]
        assert np.abs(upscaled - expected).max() <= 1


def test_a_recipe_may_ask_for_float16(exported: Exported, tmp_path: Path) -> None:
    spec = export(replace(TINY, fp16=Fp16Recipe()), exported.folders, tmp_path)
    assert {precision: file.path for precision, file in spec.files.items()} == {
        "fp32": "tiny-x2.onnx",
        "fp16": "tiny-x2.fp16.onnx",
    }
    fp32, fp16 = (spec.files[precision].metrics["Set5"]["psnr_y"] for precision in ("fp32", "fp16"))
    assert abs(fp32 - fp16) < 0.05
    pixels = skimage.data.coffee()[:37, 200:250]
    plain, half = (
        Engine(load_zoo(tmp_path), "cpu", usable_cores(), precision).run(spec, [pixels])[0].astype(int)
        for precision in ("fp32", "fp16")
    )
    assert np.abs(plain - half).max() <= 1


def test_the_metrics_are_those_of_the_exported_file(exported: Exported) -> None:
    engine = Engine(load_zoo(exported.models), "cpu", usable_cores())
    folder = exported.folders.data / "Set5" / "x2"
    for spec in (exported.tiny, exported.bicubic):
        figures = []
        for name in ("astronaut", "coffee"):
            lr, hr = (np.asarray(Image.open(folder / f"{name}_{kind}.png")) for kind in ("LR", "HR"))
            mirrored = np.pad(lr, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), "symmetric")  # as it is served
            (sr,) = engine.run(spec, [mirrored])
            figures.append(compare(crop_border(sr, SCALE * BORDER), hr, SCALE))
        mean = {key: np.mean([figure[key] for figure in figures]) for key in figures[0]}
        assert spec.files["fp32"].metrics == {"Set5": pytest.approx(mean, abs=1e-4)}


def test_exporting_again_replaces_the_entry_and_gives_the_same_file(
    exported: Exported, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (exported.models / "bicubic-x2.onnx").read_bytes()
    manifest = json.loads((exported.models / "manifest.json").read_text())
    where = ["--data", str(exported.folders.data), "--runs", str(exported.folders.runs)]
    assert main([*where, "export", "bicubic-x2", "--models", str(exported.models)]) == 0
    assert (exported.models / "bicubic-x2.onnx").read_bytes() == before
    assert json.loads((exported.models / "manifest.json").read_text()) == manifest
    output = capfd.readouterr()
    assert re.fullmatch(r"bicubic-x2: step 0, context 2, 900 MAC/px, parity [01] of 255\n", output.out)
    assert output.err == ""  # nothing of what torch's exporter tells its own developers


def test_without_its_run_a_network_is_exported_from_the_file_that_was(exported: Exported, tmp_path: Path) -> None:
    folders = replace(exported.folders, runs=tmp_path / "gone", models=exported.models)
    fp16 = replace(TINY, fp16=Fp16Recipe())
    again = export(fp16, folders, tmp_path / "models")
    assert asdict(replace(again, files={})) == asdict(replace(exported.tiny, files={}))
    assert again.files["fp32"] == exported.tiny.files["fp32"]
    assert (tmp_path / "models" / again.files["fp16"].path).exists(), "a further precision"


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_blend_lies_between_the_start_and_what_was_trained(exported: Exported, share: float) -> None:
    other = replace(TINY, name="other", seed=2)
    started_from = train(other, exported.folders)
    whole, blend = (
        trained(replace(TINY, start_from=other.title, blend=each), exported.folders)[0] for each in (1.0, share)
    )
    assert trained(replace(TINY, start_from=other.title, blend=share), exported.folders)[1]["blend"] == share
    name = "tail.weight"  # the one that is not collapsible: linear in what is trained
    start = started_from.state_dict()[name]
    expected = start + share * (whole.state_dict()[name] - start)
    torch.testing.assert_close(blend.state_dict()[name], expected)
    assert not torch.allclose(start, whole.state_dict()[name], atol=1e-4)


def test_the_command_line_says_what_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--runs", str(tmp_path), "export", "--models", str(tmp_path / "models")]
    assert main([*where, "nonsense"]) == 2
    assert "no recipe 'nonsense'" in capsys.readouterr().err
    assert main([*where, "fast-x4"]) == 2
    assert "fast-x4 is not trained yet" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_entries_are_sorted_by_cost_and_scale_in_whatever_order_they_come(exported: Exported, tmp_path: Path) -> None:
    def entry(name: str, scale: int, macs: int, summary: str = "") -> ModelSpec:
        return replace(exported.bicubic, name=name, scale=scale, macs=macs, summary=summary)

    entries = [
        entry("large", 4, 900),
        entry("fast", 2, 90),  # dearer at x2 than `small`, cheaper at its largest scale
        entry("small", 4, 50),
        entry("small", 2, 70),
        entry("fast", 4, 40),
    ]
    for spec in entries:
        write_manifest(tmp_path, spec)
    order = ["fast-x2", "fast-x4", "small-x2", "small-x4", "large-x4"]
    zoo = load_zoo(tmp_path)
    assert [spec.title for spec in zoo] == order

    write_manifest(tmp_path, entry("small", 4, 50, summary="replaced"))
    zoo = load_zoo(tmp_path)
    assert [spec.title for spec in zoo] == order
    assert zoo.find("small", 4).summary == "replaced"
    assert zoo.find("small", 2).summary == ""

    (tmp_path / "other").mkdir()
    for spec in reversed(entries):
        write_manifest(tmp_path / "other", spec)
    assert [asdict(spec) for spec in load_zoo(tmp_path / "other")] == [
        asdict(spec) for spec in sorted(entries, key=lambda spec: order.index(spec.title))
    ]


def test_the_default_is_the_best_of_the_tiers_that_is_there(exported: Exported, tmp_path: Path) -> None:
    assert exported.default == "tiny"  # alone in the zoo
    for name, default in (("fast", "fast"), ("large", "fast"), ("balanced", "balanced"), ("small", "balanced")):
        write_manifest(tmp_path, replace(exported.bicubic, name=name))
        assert load_zoo(tmp_path).default == default


def test_a_card_credits_what_was_learned_from() -> None:
    photographs = sources(DataRecipe())
    assert "photographs" in photographs
    assert "openclipart" not in photographs
    drawings = sources(load_recipe("art-x4").data)
    assert "openclipart" in drawings
    assert drawings.endswith(photographs), "pages have photographs on them"
    alone = sources(DataRecipe(pictures="rendered/drawings"))
    assert "openclipart" in alone
    assert "photographs" not in alone
    assert "QR codes" in sources(load_recipe("qr-x4").data)
