"""The figures are those of the served path, on either form of test set, and the command line says what is missing."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn

from app.errors import ModelFileError
from app.inference.engine import Engine
from app.inference.runtimes.onnx_runtime import PRECISIONS
from app.inference.zoo import load_zoo
from app.threads import usable_cores
from harness import MODELS, ROOT
from harness.pictures import decoded
from training.__main__ import main
from training.checkpoint import Folders
from training.data.degradations import bicubic
from training.hardware import processor
from training.losses.perceptual import IMAGENET, Features, Lpips
from training.report import evaluate
from training.report.looks import Judges
from training.report.metrics import compare
from training.report.records import BEGIN, END, Metrics, read_records, table

Capture = pytest.CaptureFixture[str]


def photo(name: str, height: int, width: int) -> np.ndarray:
    return getattr(skimage.data, name)()[100 : 100 + height, 150 : 150 + width]


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of bicubic alone, at three scales, whatever else is shipped."""
    folder = tmp_path_factory.mktemp("models")
    specs = [spec for spec in load_zoo(MODELS) if spec.name == "bicubic"]
    for spec in specs:
        shutil.copy(MODELS / spec.files["fp32"].path, folder)
    manifest = {"version": 1, "default": "bicubic", "models": [asdict(spec) for spec in specs]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    return Engine(load_zoo(models), "cpu", usable_cores())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """``plain``: pictures of any size. ``ready``: LR (not by bicubic) and HR for x2; for x4 too, HR of both there."""
    data = tmp_path_factory.mktemp("data")
    save(photo("astronaut", 61, 83), data / "plain" / "a.png")
    save(photo("coffee", 70, 64), data / "plain" / "below" / "b.png")
    for number, name in (("001", "chelsea"), ("002", "rocket")):
        hr = photo(name, 64, 80)
        for scale in (2, 4):
            save(hr[::scale, ::scale], data / "ready" / f"x{scale}" / f"{number}_LR.png")
        save(hr, data / "ready" / "x4" / f"{number}_HR.png")
    save(255 - photo("chelsea", 64, 80), data / "ready" / "x2" / "001_HR.png")
    return Folders(data, tmp_path_factory.mktemp("runs"))


def pairs_of(folders: Folders, name: str, scale: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(decoded(lr), hr) for lr, hr in evaluate.test_pairs(folders.data / name, scale)]


def measured(engine: Engine, scale: int, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    """What the engine alone, given whole pictures, reaches."""
    spec = next(spec for spec in (network.spec for network in engine.networks.values()) if spec.scale == scale)
    figures = [compare(engine.run(spec, [lr])[0], hr, scale) for lr, hr in pairs]
    return {key: pytest.approx(np.mean([figure[key] for figure in figures]), abs=1e-4) for key in figures[0]}


def evaluated(models: Path, folders: Folders, titles: list[str], sets: tuple[str, ...]) -> dict[str, Metrics]:
    zoo = load_zoo(models)
    files = evaluate.choose(zoo, titles)
    records = evaluate.evaluate_zoo(zoo, files, folders, sets, ["quality"])
    return {f"{record.name}-x{record.scale}": record.metrics for record in records}


def test_what_the_web_does_to_pictures_is_measured_as_a_set_of_its_own(folders: Folders) -> None:
    zoo = load_zoo(MODELS)
    files = evaluate.choose(zoo, ["bicubic-x4"])
    worsened = evaluate.Worsened(0.6, 40)
    (worse,) = evaluate.evaluate_zoo(zoo, files, folders, ("plain",), ["quality"], worsened=worsened)
    (clean,) = evaluate.evaluate_zoo(zoo, files, folders, ("plain",), ["quality"])
    assert list(worse.metrics) == ["plain (blur 0.6, JPEG 40)"]
    assert worse.metrics["plain (blur 0.6, JPEG 40)"]["psnr_y"] < clean.metrics["plain"]["psnr_y"] - 0.3
    lr = evaluate.png(photo("astronaut", 60, 80))
    assert decoded(worsened.png(lr)).shape == (60, 80, 3)
    sharp, blurred = (decoded(evaluate.Worsened(blur, 95).png(lr)).astype(float) for blur in (0, 2))
    assert np.abs(np.diff(blurred, axis=0)).mean() < 0.6 * np.abs(np.diff(sharp, axis=0)).mean()


@pytest.mark.parametrize(("blur", "jpeg"), [(-1, 40), (float("nan"), 40), (0.5, 0), (0.5, 96)])
def test_a_worsening_that_cannot_be_is_refused(blur: float, jpeg: int) -> None:
    with pytest.raises(ValueError, match="a quality from 1 to 95"):
        evaluate.Worsened(blur, jpeg)


# -- test sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_of_plain_pictures_the_lr_is_made(folders: Folders, scale: int) -> None:
    originals = [photo("astronaut", 61, 83), photo("coffee", 70, 64)]
    pairs = pairs_of(folders, "plain", scale)
    assert len(pairs) == 2
    for (lr, hr), original in zip(pairs, originals, strict=True):
        h, w = original.shape[0] // scale, original.shape[1] // scale
        assert (hr == original[: h * scale, : w * scale]).all()
        assert (lr == bicubic(hr, scale)).all()


def test_ready_pairs_are_taken_as_they_are(folders: Folders) -> None:
    for (lr, hr), name in zip(pairs_of(folders, "ready", 4), ("chelsea", "rocket"), strict=True):
        assert (hr == photo(name, 64, 80)).all()
        assert (lr == photo(name, 64, 80)[::4, ::4]).all()


def test_an_original_is_looked_for_beside_x4_too(folders: Folders) -> None:
    (lr, own), (_, shared) = pairs_of(folders, "ready", 2)
    assert (lr == photo("chelsea", 64, 80)[::2, ::2]).all()
    assert (own == 255 - photo("chelsea", 64, 80)).all()
    assert (shared == photo("rocket", 64, 80)).all()


@pytest.mark.parametrize(
    ("name", "scales"), [("plain", [2, 3, 4]), ("ready", [2, 4]), ("absent", [])], ids=lambda v: str(v)
)
def test_which_scales_a_test_set_serves(folders: Folders, name: str, scales: list[int]) -> None:
    assert [scale for scale in (2, 3, 4) if evaluate.serves_scale(folders.data / name, scale)] == scales


# -- figures -----------------------------------------------------------------------------------------------------


def test_the_served_path_reaches_what_the_engine_alone_reaches(models: Path, engine: Engine, folders: Folders) -> None:
    results = evaluated(models, folders, [], ("plain", "ready", "absent"))
    assert results == {
        "bicubic-x2": {name: measured(engine, 2, pairs_of(folders, name, 2)) for name in ("plain", "ready")},
        "bicubic-x3": {"plain": measured(engine, 3, pairs_of(folders, "plain", 3))},
        "bicubic-x4": {name: measured(engine, 4, pairs_of(folders, name, 4)) for name in ("plain", "ready")},
    }


def test_a_picture_of_many_tiles_reaches_it_too(models: Path, engine: Engine, tmp_path: Path) -> None:
    save(skimage.data.coffee(), tmp_path / "large" / "coffee.png")  # LR 200 x 300: more than a band and a tile
    folders = Folders(tmp_path, tmp_path)
    results = evaluated(models, folders, ["bicubic-x2"], ("large",))
    assert results == {"bicubic-x2": {"large": measured(engine, 2, pairs_of(folders, "large", 2))}}


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (["bicubic"], ["bicubic-x2", "bicubic-x3", "bicubic-x4"]),
        (["bicubic-x3"], ["bicubic-x3"]),
        (["bicubic-x4", "bicubic-x2"], ["bicubic-x2", "bicubic-x4"]),
    ],
)
def test_models_are_named_with_or_without_their_scale(
    titles: list[str], expected: list[str], models: Path, folders: Folders
) -> None:
    assert list(evaluated(models, folders, titles, ("plain",))) == expected


def test_only_the_chosen_models_are_loaded(models: Path, folders: Folders, tmp_path: Path) -> None:
    shutil.copy(models / "manifest.json", tmp_path)
    shutil.copy(models / "bicubic-x3.onnx", tmp_path)
    assert list(evaluated(tmp_path, folders, ["bicubic-x3"], ("plain",))) == ["bicubic-x3"]
    with pytest.raises(ModelFileError, match=r"bicubic-x2\.onnx"):
        evaluated(tmp_path, folders, ["bicubic"], ("plain",))


def test_a_precision_that_is_not_there_is_an_error_only_for_a_model_that_was_named(models: Path) -> None:
    zoo = load_zoo(models)
    assert evaluate.choose(zoo, [], ["int8"]) == []
    with pytest.raises(ValueError, match="no int8 file of bicubic-x2"):
        evaluate.choose(zoo, ["bicubic"], ["int8"])


def test_every_precision_of_the_shipped_zoo_is_chosen() -> None:
    zoo = load_zoo(MODELS)
    files = [(spec.title, precision) for spec in zoo for precision in spec.files if precision in PRECISIONS["cpu"]]
    assert [(spec.title, precision) for spec, precision in evaluate.choose(zoo)] == files
    chosen = evaluate.choose(zoo, precisions=["int8"])
    assert [(spec.title, p) for spec, p in chosen] == [file for file in files if file[1] == "int8"]


def test_lpips_is_measured_on_whole_pictures_if_there_are_weights(
    models: Path, engine: Engine, folders: Folders
) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    lpips = Lpips(Features(layers, (1,), IMAGENET), [torch.full((4,), 0.25)])
    zoo = load_zoo(models)
    files = evaluate.choose(zoo, ["bicubic-x4"])
    (record,) = evaluate.evaluate_zoo(zoo, files, folders, ("plain",), ["quality"], Judges({"lpips_alex": lpips}))
    spec = files[0][0]
    distances = []
    for lr, hr in pairs_of(folders, "plain", 4):
        sr = engine.run(spec, [lr])[0]
        tensors = [torch.from_numpy(p.astype(np.float32) / 255).permute(2, 0, 1)[None] for p in (sr, hr)]
        distances.append(float(lpips(*tensors)))
    assert min(distances) > 1e-3
    assert record.metrics["plain"]["lpips_alex"] == pytest.approx(np.mean(distances), abs=1e-4)


def test_speed_is_that_of_the_quickest_run_of_the_bare_session(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = next(network.spec for network in engine.networks.values() if network.spec.scale == 4)
    looks = iter([0.0, *(each for start in range(100) for each in (start, start + (0.5 if start == 2 else 0.9)))])
    monkeypatch.setattr(evaluate, "SPEED_RUNS", 5)
    monkeypatch.setattr(evaluate, "time", SimpleNamespace(perf_counter=lambda: next(looks)))
    speed = evaluate.measure_speed(engine, spec, seconds=0)
    assert speed.lr_mpx_per_s == pytest.approx(evaluate.TILE**2 / 0.5 / 1e6, abs=1e-4)
    assert speed.machine == processor()


def test_nothing_is_measured_that_is_not_asked_for(models: Path, folders: Folders) -> None:
    zoo = load_zoo(models)
    files = evaluate.choose(zoo, ["bicubic-x4"])
    (quality,) = evaluate.evaluate_zoo(zoo, files, folders, ("plain",), ["quality"])
    (nothing,) = evaluate.evaluate_zoo(zoo, files, folders, ("no such set",), [])
    assert (quality.speed, list(quality.metrics)) == (None, ["plain"])
    assert (nothing.speed, nothing.metrics) == (None, {})


# -- the command line --------------------------------------------------------------------------------------------


def test_the_command_prints_the_table_and_writes_the_figures(models: Path, folders: Folders, tmp_path: Path) -> None:
    command = [
        "--data",
        str(folders.data),
        "evaluate",
        "bicubic-x2",
        "--sets",
        "plain",
        "ready",
        "--measure",
        "quality",
    ]
    files = {name: tmp_path / "new" / name for name in ("figures.json", "table.md")}
    options = ["--models", str(models), "--json", str(files["figures.json"]), "--markdown", str(files["table.md"])]
    ended = subprocess.run(
        [sys.executable, "-m", "training", *command, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    records = {f"{r.name}-x{r.scale}": r for r in read_records(files["figures.json"])}
    assert list(records) == ["bicubic-x2", "bicubic-x3", "bicubic-x4"]  # the manifest's figures of the others
    own = {name: records["bicubic-x2"].metrics[name] for name in ("plain", "ready")}
    assert {"bicubic-x2": own} == evaluated(models, folders, ["bicubic-x2"], ("plain", "ready"))
    expected = table([records["bicubic-x2"]], ["plain", "ready"], "bicubic")
    assert ended.stdout == expected + "\n"
    assert files["table.md"].read_text() == f"{BEGIN}\n{expected}\n{END}\n"


def test_without_measuring_the_table_is_the_manifests(models: Path, tmp_path: Path, capsys: Capture) -> None:
    where = ["--data", str(tmp_path), "evaluate", "bicubic-x4", "--models", str(models)]
    assert main([*where, "--measure", "--sets", "Set5", "--show", "psnr_y"]) == 0
    figure = load_zoo(models).find("bicubic", 4).files["fp32"].metrics["Set5"]["psnr_y"]
    row = f"| `bicubic` (default) | \N{MULTIPLICATION SIGN}4 | 0 | 3.6 | {figure:.2f} |"
    assert row in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense", "--sets", "plain"], ["nonsense", "bicubic-x2", "bicubic-x3", "bicubic-x4"]),
        (["bicubic", "bicubic-x9", "--sets", "plain"], ["bicubic-x9", "bicubic-x4"]),
        (["--sets", "plane", "redy"], ["plane", "redy", "--data"]),
        (["--models", "nowhere"], ["nowhere", "manifest.json"]),
    ],
)
def test_what_is_missing_is_said_with_exit_code_2(
    arguments: list[str], said: list[str], models: Path, folders: Folders, capsys: Capture
) -> None:
    where = ["--data", str(folders.data), "evaluate", "--models", str(models)]
    assert main([*where, *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert [words for words in said if words not in output.err] == []
