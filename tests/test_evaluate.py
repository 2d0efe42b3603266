"""The figures are those of the served path, on either form of test set, and the command line says what is missing."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from conftest import MODELS, ROOT, decoded
from PIL import Image

from app.engine import Engine
from app.settings import usable_cores
from app.zoo import load_zoo
from training import evaluate
from training.__main__ import main
from training.checkpoint import Folders
from training.degradations import bicubic
from training.metrics import compare


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
    results = evaluate.evaluate_zoo(models, folders, [], ("plain", "ready", "absent"))
    assert results == {
        "bicubic-x2": {name: measured(engine, 2, pairs_of(folders, name, 2)) for name in ("plain", "ready")},
        "bicubic-x3": {"plain": measured(engine, 3, pairs_of(folders, "plain", 3))},
        "bicubic-x4": {name: measured(engine, 4, pairs_of(folders, name, 4)) for name in ("plain", "ready")},
    }


def test_a_picture_of_many_tiles_reaches_it_too(models: Path, engine: Engine, tmp_path: Path) -> None:
    save(skimage.data.coffee(), tmp_path / "large" / "coffee.png")  # LR 200 x 300: more than a band and a tile
    folders = Folders(tmp_path, tmp_path)
    results = evaluate.evaluate_zoo(models, folders, ["bicubic-x2"], ("large",))
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
    assert list(evaluate.evaluate_zoo(models, folders, titles, ("plain",))) == expected


def test_the_table_is_markdown() -> None:
    results = {
        "bicubic-x4": {"Set5": {"psnr_y": 28.421, "ssim_y": 0.81044, "psnr_rgb": 26.0}},
        "fast-x4": {
            "Set5": {"psnr_y": 31.0, "ssim_y": 0.88, "psnr_rgb": 29.0},
            "B100": {"psnr_y": 26.996, "ssim_y": 0.7, "psnr_rgb": 25.0},
        },
    }
    assert evaluate.table(results).splitlines() == [
        "| model | Set5 | B100 |",
        "| --- | --- | --- |",
        "| bicubic-x4 | 28.42 / 0.8104 | - |",
        "| fast-x4 | 31.00 / 0.8800 | 27.00 / 0.7000 |",
    ]


# -- the command line --------------------------------------------------------------------------------------------


def test_the_command_prints_the_table_and_writes_the_figures(models: Path, folders: Folders, tmp_path: Path) -> None:
    command = ["--data", str(folders.data), "evaluate", "bicubic-x2", "--sets", "plain", "ready"]
    options = ["--models", str(models), "--json", str(tmp_path / "figures.json")]
    ended = subprocess.run(
        [sys.executable, "-m", "training", *command, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures == evaluate.evaluate_zoo(models, folders, ["bicubic-x2"], ("plain", "ready"))
    assert ended.stdout == evaluate.table(figures) + "\n"


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
    arguments: list[str], said: list[str], models: Path, folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(folders.data), "evaluate", "--models", str(models)]
    assert main([*where, *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert [words for words in said if words not in output.err] == []
