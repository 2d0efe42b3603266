"""Turns of a queue: each run goes on where it was, is exported and committed, and goes on without its checkpoint."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image

from training import train as training
from training.__main__ import main
from training.checkpoint import Folders, load_trained, steps_done
from training.export import verify
from training.export.manifest import read_manifest
from training.export.publish import export
from training.log import log_lines
from training.queue import load_queue, run_queue
from training.recipe import Recipe, load_recipe
from training.report.progress import progress
from training.start import REWARM_STEPS
from training.train import train

RECIPE = """
name = "tiny"
scale = 2
summary = "A recipe for tests."
precision = "fp32"
network = { architecture = "half-size", channels = 4, blocks = 1, detail = 4 }
data = { crop = 8, batch = 2 }
stage = [{ steps = STEPS, warmup = 0 }]
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOG_EVERY", 5)
    monkeypatch.setattr(training, "VALIDATE_EVERY", 5)
    monkeypatch.setattr(training, "keep_freed_memory", lambda: None)  # it is for a process that only trains
    monkeypatch.setattr(verify, "MAX_CONTEXT", 24)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    data = tmp_path / "data"
    for below in ("photos", "kodak", "Set5/x2"):
        (data / below).mkdir(parents=True)
    pixels = skimage.data.astronaut()[:60, :72]
    for name in ("photos/a.png", "kodak/a.png", "Set5/x2/a_HR.png"):
        Image.fromarray(pixels).save(data / name)
    Image.fromarray(pixels[::2, ::2]).save(data / "Set5/x2/a_LR.png")
    models = tmp_path / "work" / "models"
    models.mkdir(parents=True)
    return Folders(data, tmp_path / "runs", models=models)


def recipe_of(tmp_path: Path, steps: int) -> Recipe:
    (tmp_path / "tiny.toml").write_text(RECIPE.replace("STEPS", str(steps)))
    return load_recipe(str(tmp_path / "tiny.toml"))


def test_a_turn_ends_in_time_and_the_next_goes_on(tmp_path: Path, folders: Folders) -> None:
    recipe = recipe_of(tmp_path, 30)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 12

    train(recipe, folders, stop=stop)
    assert steps_done(recipe, folders) == 12
    train(recipe, folders)
    assert steps_done(recipe, folders) == 30
    assert [int(row["step"]) for row in log_lines(folders.run("tiny-x2") / "log.csv")] == [5, 10, 15, 20, 25, 30]


def test_a_broken_off_run_ends_as_an_unbroken_one(tmp_path: Path, folders: Folders) -> None:
    recipe = recipe_of(tmp_path, 12)
    whole = train(recipe, replace(folders, runs=tmp_path / "other")).state_dict()
    for end in (4, 9, 12):
        train(recipe, folders, stop=lambda end=end: steps_done_in_log(folders) >= end)  # type: ignore[misc]
        train(replace(recipe), folders, stop=Countdown(3))
    resumed = train(recipe, folders).state_dict()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def steps_done_in_log(folders: Folders) -> int:
    lines = log_lines(folders.run("tiny-x2") / "log.csv")
    return int(lines[-1]["step"]) if lines else 0


class Countdown:
    """True after so many questions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_run_without_its_checkpoint_goes_on_from_the_exported_model(tmp_path: Path, folders: Folders) -> None:
    recipe = recipe_of(tmp_path, 20)
    train(recipe, folders)
    export(recipe, folders, folders.models)
    network, _ = load_trained(recipe, folders)
    longer, fresh = recipe_of(tmp_path, 30), replace(folders, runs=tmp_path / "another-machine")
    train(longer, fresh, go_on=True, stop=Countdown(0))
    assert steps_done(longer, fresh) == 20
    same, _ = load_trained(longer, fresh)
    lr = torch.rand(1, 3, 12, 11)
    assert torch.allclose(network(lr), same(lr), atol=1e-4)
    train(longer, fresh, go_on=True)
    lines = log_lines(fresh.run("tiny-x2") / "log.csv")
    assert [int(row["step"]) for row in lines] == [5, 10, 15, 20, 25, 30]
    hours = [float(row["seconds"]) for row in lines]
    assert hours == sorted(hours)
    assert hours[-1] > read_manifest(folders.models)["models"][0]["training"]["seconds"] - 1
    export(longer, fresh, folders.models)
    assert read_manifest(folders.models)["models"][0]["training"]["steps"] == 30


def test_an_optimiser_that_knows_nothing_is_warmed_up(tmp_path: Path, folders: Folders) -> None:
    train(recipe_of(tmp_path, 20), folders)
    export(recipe_of(tmp_path, 20), folders, folders.models)
    longer, fresh = recipe_of(tmp_path, 1000), replace(folders, runs=tmp_path / "another-machine")
    train(longer, fresh, go_on=True, stop=Countdown(10))
    rates = [float(row["rate"]) for row in log_lines(fresh.run("tiny-x2") / "log.csv") if row["rate"]]
    assert rates == pytest.approx([1e-3 * step / REWARM_STEPS for step in (5, 10)], rel=0.01)


@pytest.mark.parametrize("network", ["half-size", "plain"])
def test_a_finished_or_another_kind_of_model_is_left(network: str, tmp_path: Path, folders: Folders) -> None:
    recipe = recipe_of(tmp_path, 6)
    train(recipe, folders)
    export(recipe, folders, folders.models)
    other = recipe if network == "half-size" else replace(recipe, network={"architecture": "plain", "channels": 4})
    fresh = replace(folders, runs=tmp_path / "another-machine")
    train(other, fresh, go_on=True, stop=Countdown(2))
    assert steps_done(other, fresh) == 2


def test_a_queue_trains_exports_and_commits_in_turns(tmp_path: Path, folders: Folders) -> None:
    recipe_of(tmp_path, 10)
    queue = tmp_path / "queue.toml"
    queue.write_text(f'[[turn]]\nrecipe = "{tmp_path}/tiny.toml"\nminutes = 0.02\n')
    work = folders.models.parent
    for command in (["init", "-q"], ["config", "user.email", "a@example.org"], ["config", "user.name", "A"]):
        subprocess.run(["git", *command], cwd=work, check=True)
    (work / "other.txt").write_text("not the queue's to commit")
    run_queue(queue, folders, commit=True)
    log = subprocess.run(["git", "log", "--format=%s"], cwd=work, check=True, capture_output=True, text=True).stdout
    assert log.splitlines()[0] == "Models: tiny-x2 at step 10"
    tracked = subprocess.run(["git", "ls-files"], cwd=work, check=True, capture_output=True, text=True).stdout.split()
    assert "models/tiny-x2.onnx" in tracked
    assert "models/manifest.json" in tracked
    assert "other.txt" not in tracked
    (run,) = progress(folders.runs)
    assert (run.title, run.step) == ("tiny-x2", 10)
    assert run.best is not None


def test_status_tells_each_run(tmp_path: Path, folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe_of(tmp_path, 10), folders)
    (folders.runs / "begun").mkdir()
    (folders.runs / "begun" / "log.csv").write_text("step,loss\n")
    capsys.readouterr()
    assert main(["--runs", str(folders.runs), "status"]) == 0
    shown = capsys.readouterr().out
    assert "tiny-x2" in shown
    assert "begun" not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[turn]]\nrecipe = 'fast-x4'\nminutes = 0", "minutes"),
        ("[[turn]]\nrecipe = 'absent-x9'", "absent-x9"),
        ("[[turn]]\nrecipe = 'fast-x4'\nhours = 2", "'hours'"),
        ("[[run]]\nrecipe = 'fast-x4'", "[[turn]]"),
    ],
)
def test_a_wrong_queue_says_what_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "queue.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"turn|minutes|absent|hours") as raised:
        load_queue(path)
    assert said in str(raised.value)
