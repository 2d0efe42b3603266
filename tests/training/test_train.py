"""The training loop: it learns, it can be killed at any moment, and it writes down what it did."""

import csv
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from harness import ROOT
from training import hardware, start
from training import train as training
from training.__main__ import main
from training.architectures import Generator, build
from training.checkpoint import Average, Folders, load_trained, save
from training.data import feed
from training.data.feed import to_tensor
from training.data.pairs import PairSet, batches
from training.hardware import autocast
from training.log import LOG_FIELDS
from training.losses import stage as stage_losses
from training.losses.perceptual import VGG19, vgg_layers
from training.losses.pixel import PIXEL_LOSSES
from training.recipe import AdversaryRecipe, ContentRecipe, DataRecipe, Recipe, Stage
from training.schedule import learning_rate, stage_at
from training.train import train
from training.validation import to_pixels, validate

SCALE = 2
NETWORK = {"architecture": "plain", "channels": 8, "depth": 3}
TINY = Recipe(
    name="tiny",
    scale=SCALE,
    network=NETWORK,
    summary="A recipe for tests.",
    data=DataRecipe(crop=16, batch=4),
    stages=(Stage(steps=280, rate=1e-3, warmup=5), Stage(steps=20, loss="mse", rate=1e-4, warmup=0)),
    ema=0.98,
    precision="fp32",
)


@pytest.fixture(autouse=True, scope="module")
def small_and_reproducible() -> Iterator[None]:
    """One thread and no GPU give the same numbers everywhere; log lines and samples come often."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(training, "LOG_EVERY", 25)
        patch.setattr(training, "VALIDATE_EVERY", 100)
        patch.setattr(training, "keep_freed_memory", lambda: None)  # it is for a process that only trains
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few small pictures to train and to validate on."""
    folder = tmp_path_factory.mktemp("data")
    crops = {"astronaut": (100, 150), "chelsea": (60, 100), "coffee": (100, 200), "rocket": (180, 250)}
    for name, (y, x) in crops.items():
        pixels = getattr(skimage.data, name)()
        for below, height, width in (("photos", 160, 200), ("kodak", 64, 81)):
            (folder / below).mkdir(exist_ok=True)
            offset = 0 if below == "photos" else 90
            Image.fromarray(pixels[y : y + height, x + offset : x + offset + width]).save(
                folder / below / f"{name}.png"
            )
    return folder


@dataclass(frozen=True)
class Run:
    folders: Folders
    network: Generator

    @property
    def folder(self) -> Path:
        return self.folders.run(TINY.title)

    def log(self) -> list[dict[str, str]]:
        return log_of(self.folder)


def log_of(run: Path) -> list[dict[str, str]]:
    with open(run / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of ``TINY``."""
    folders = Folders(data, tmp_path_factory.mktemp("runs"))
    return Run(folders, train(TINY, folders))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


# -- what a run does ---------------------------------------------------------------------------------------------


def test_the_loss_falls_below_that_of_nearest_neighbour(run: Run) -> None:
    """On the same batches, so that easy and hard crops do not matter."""
    pairs = PairSet(run.folders.data / "photos", SCALE, "bicubic", run.folders.runs / "cache")
    nearest = build(SCALE, "interpolation", kernel="nearest")
    shares = []
    for row in run.log()[:11]:  # those of the first stage
        last = int(row["step"])
        losses = [
            float(F.l1_loss(nearest(to_tensor(lr, torch.device("cpu"))), to_tensor(hr, torch.device("cpu"))))
            for lr, hr in batches(pairs, DataRecipe(crop=16, batch=4), TINY.seed, last - 25, last)
        ]
        shares.append(float(row["loss"]) / np.mean(losses))
    assert shares[0] > 0.98  # it starts as nearest neighbour
    assert shares[-1] < 0.96
    assert shares[-1] < shares[len(shares) // 2] < shares[0]


def test_validation_ends_above_nearest_neighbour(run: Run, tmp_path: Path) -> None:
    pairs = PairSet(run.folders.data / "kodak", SCALE, "bicubic", run.folders.runs / "cache")
    nearest = validate(build(SCALE, "interpolation", kernel="nearest"), pairs, tmp_path / "sample.png")
    reached = validate(run.network, pairs, tmp_path / "sample.png")
    assert reached > nearest + 0.3
    assert float(run.log()[-1]["psnr_y"]) == pytest.approx(reached, abs=5e-4)


def test_the_log_has_a_line_every_so_many_steps(run: Run) -> None:
    rows = run.log()
    assert list(rows[0]) == LOG_FIELDS
    assert [int(row["step"]) for row in rows] == sorted([*range(25, 301, 25), 280])  # and a stage's last
    assert [int(row["step"]) for row in rows if row["psnr_y"]] == [100, 200, 300]
    assert all(0 <= float(row["loader_share"]) <= 1 for row in rows)
    assert [row["rate"] for row in rows] == [
        f"{learning_rate(*stage_at(TINY, int(row['step']) - 1)):.3e}" for row in rows
    ]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_samples_show_lr_sr_and_hr_side_by_side(run: Run) -> None:
    names = sorted(path.name for path in (run.folder / "samples").iterdir())
    assert names == ["0000100.png", "0000200.png", "0000300.png"]
    pairs = PairSet(run.folders.data / "kodak", SCALE, "bicubic", run.folders.runs / "cache")
    lr, hr = pairs.pair(0)
    sample = np.asarray(Image.open(run.folder / "samples" / "0000300.png"))
    assert sample.shape == (64, 3 * 80, 3)
    assert (sample[::2, :80:2] == lr).all()
    assert (sample[1::2, 1:80:2] == lr).all()
    with torch.no_grad():
        sr = to_pixels(run.network(to_tensor(np.array(lr[None]), torch.device("cpu"))))
    assert (sample[:, 80:160] == sr).all()
    assert (sample[:, 160:] == hr).all()


def test_a_finished_run_is_not_trained_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(training, "Prefetcher")
    assert_equal_weights(weights(train(TINY, run.folders)), weights(run.network))
    network, step = load_trained(TINY, run.folders)
    assert step == 300
    assert_equal_weights(weights(network), weights(run.network))


def test_batches_cut_on_the_device_train_the_same_network(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the device is the processor: the way is a GPU's, and every crop the same."""
    short = replace(TINY, stages=(Stage(steps=8, rate=1e-3, warmup=0),))
    usual = weights(train(short, Folders(data, tmp_path / "usual")))
    monkeypatch.setattr(feed, "fits", lambda pairs, device: True)
    monkeypatch.delattr(feed, "batches")
    torch.testing.assert_close(weights(train(short, Folders(data, tmp_path / "device"))), usual)
    other = weights(train(replace(short, seed=2), Folders(data, tmp_path / "other")))
    assert not all(torch.allclose(other[name], usual[name]) for name in usual)


def test_the_averaged_network_is_the_one_returned(run: Run) -> None:
    state = torch.load(run.folder / "checkpoint.pt", weights_only=True)
    assert_equal_weights(weights(run.network), state["averaged"])
    assert not torch.equal(state["network"]["tail.weight"], state["averaged"]["tail.weight"])
    assert not run.network.training


def test_a_short_run_has_its_last_line_and_sample(data: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, stages=(Stage(steps=7, warmup=2),))
    train(recipe, Folders(data, tmp_path))
    rows = log_of(tmp_path / recipe.title)
    assert [(row["step"], bool(row["psnr_y"])) for row in rows] == [("7", True)]
    assert (tmp_path / recipe.title / "samples" / "0000007.png").exists()


def test_an_untrained_recipe_says_how_to_train_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny-x2 is not trained yet: python -m training train tiny-x2"):
        load_trained(TINY, Folders(data, tmp_path))
    classical = replace(TINY, network={"architecture": "interpolation", "kernel": "bicubic"}, stages=())
    network, step = load_trained(classical, Folders(data, tmp_path))
    assert step == 0
    assert network(torch.ones(1, 3, 2, 2)).shape == (1, 3, 4, 4)


# -- killed and gone on ------------------------------------------------------------------------------------------

RECIPE = """
name = "tiny"
scale = 2
summary = "A recipe for tests."
ema = 0.98
precision = "fp32"
network = { architecture = "plain", channels = 8, depth = 3 }
data = { crop = 16, batch = 4 }
stage = [{ steps = 30, warmup = 5 }, { steps = 10, loss = "mse", rate = 1e-4, warmup = 0 }]
"""

# ``python -m training``, with a checkpoint every step and a log line every fifth, that kills itself
KILLED = """
import os, runpy, signal, sys
import training.start as start
import training.train as train

moment, fatal_step = sys.argv.pop(1), int(sys.argv.pop(1))
train.CHECKPOINT_SECONDS, train.LOG_EVERY = -1, 5
save, replace, now = start.save, os.replace, [0]

def kill_at(name):
    if (name, now[0]) == (moment, fatal_step):
        os.kill(os.getpid(), signal.SIGKILL)

def watched_save(path, network, averaged, optimizer, step, adversaries):
    now[0] = step
    kill_at("before saving")
    save(path, network, averaged, optimizer, step, adversaries)

def watched_replace(part, path):
    kill_at("half saved")
    replace(part, path)

start.save, os.replace = watched_save, watched_replace
runpy.run_module("training", run_name="__main__", alter_sys=True)
"""


def run_killed(moment: str, step: int, arguments: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", KILLED, moment, str(step), *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"

    def arguments(runs: Path) -> list[str]:
        return ["--data", str(data), "--runs", str(runs), "train", str(recipe)]

    def step_saved() -> int:
        return int(torch.load(broken / "tiny-x2" / "checkpoint.pt", weights_only=True)["step"])

    run_killed("before saving", 15, arguments(broken))  # the log is ahead: it has line 15 already
    assert step_saved() == 14
    assert [row["step"] for row in log_of(broken / "tiny-x2")] == ["5", "10", "15"]
    run_killed("half saved", 17, arguments(broken))
    assert step_saved() == 16
    assert (broken / "tiny-x2" / "checkpoint.part").exists()
    run_killed("before saving", 18, arguments(broken))  # before it wrote a single line of log
    assert step_saved() == 17
    assert [row["step"] for row in log_of(broken / "tiny-x2")] == ["5", "10", "15"]

    monkeypatch.setattr(training, "LOG_EVERY", 5)
    assert main(arguments(broken)) == 0
    assert main(arguments(unbroken)) == 0
    ends = [torch.load(runs / "tiny-x2" / "checkpoint.pt", weights_only=True) for runs in (broken, unbroken)]
    assert ends[0]["step"] == ends[1]["step"] == 40
    assert ends[0]["updates"] == ends[1]["updates"] == 40
    for part in ("network", "averaged"):
        assert_equal_weights(ends[0][part], ends[1][part])

    logs = [log_of(runs / "tiny-x2") for runs in (broken, unbroken)]
    assert [int(row["step"]) for row in logs[0]] == list(range(5, 41, 5))
    for resumed, whole in zip(*logs, strict=True):
        assert (resumed["step"], resumed["rate"], resumed["psnr_y"]) == (whole["step"], whole["rate"], whole["psnr_y"])
        if resumed["step"] not in ("15", "20"):  # those are means over the steps since the kill
            assert resumed["loss"] == whole["loss"]


# -- the adversarial stage ---------------------------------------------------------------------------------------

GAME = replace(
    TINY,
    data=DataRecipe(crop=16, batch=2),
    stages=(
        Stage(steps=3, warmup=0),
        Stage(
            steps=6,
            pixel_weight=0.1,
            rate=1e-3,
            warmup=0,
            schedule="drop",
            content=ContentRecipe(weight=0.01, layers=(2,)),
            adversary=AdversaryRecipe(weight=0.1, game="relativistic", discriminator="patch", channels=4),
        ),
    ),
)


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file as torchvision's, whose first two convolutions are random; no test looks at later ones."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg_layers(VGG19).state_dict().items()}
    draw = torch.Generator().manual_seed(0)
    state = {f"features.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    for name in ("features.0.weight", "features.2.weight"):
        state[name].normal_(std=0.05, generator=draw)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    yield path
    path.unlink()  # 80 MB


@pytest.fixture(scope="module")
def game(data: Path, vgg19: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of ``GAME``."""
    folders = Folders(data, tmp_path_factory.mktemp("runs"), vgg19)
    return Run(folders, train(GAME, folders))


def test_an_adversarial_stage_logs_every_loss_at_every_step(game: Run) -> None:
    pixel, *rows = game.log()
    assert [int(row["step"]) for row in rows] == [4, 5, 6, 7, 8, 9]
    assert pixel["step"] == "3"
    assert pixel["pixel"] == pixel["loss"]
    assert not any(pixel[name] for name in ("content", "adversarial", "discriminator", "known_real", "known_made"))
    assert [row["rate"] for row in rows] == ["1.000e-03"] * 3 + ["1.000e-06"] * 3
    for row in rows:
        parts = 0.1 * float(row["pixel"]) + 0.01 * float(row["content"]) + 0.1 * float(row["adversarial"])
        assert float(row["loss"]) == pytest.approx(parts, abs=3e-6)
        assert float(row["content"]) > 0
        assert float(row["discriminator"]) > 0
        assert 0 <= float(row["known_real"]) <= 1
        assert 0 <= float(row["known_made"]) <= 1


def test_windows_begin_at_every_phase_of_a_pool_and_depend_on_the_step_alone() -> None:
    windows = [stage_losses.window(16, (4, 3, 96, 80), np.random.default_rng([1, step, 0])) for step in range(400)]
    image = torch.zeros(4, 3, 96, 80)
    assert {image[each].shape for each in windows} == {(4, 3, 80, 64)}
    assert {each[axis].start for axis in (2, 3) for each in windows} == set(range(17))
    assert windows[7] == stage_losses.window(16, (4, 3, 96, 80), np.random.default_rng([1, 7, 0]))
    assert stage_losses.window(0, image.shape, np.random.default_rng(0))[2:] == (slice(0, 96), slice(0, 80))


def test_pixels_are_compared_outside_the_window_too() -> None:
    """And the adversary's gradient stays within it."""
    sr, hr = torch.full((1, 3, 64, 64), 0.5, requires_grad=True), torch.zeros(1, 3, 64, 64)
    stage = Stage(
        steps=1,
        shift=32,
        pixel_weight=0.0,
        adversary=AdversaryRecipe(discriminator="patch", channels=4),
        content=ContentRecipe(weight=0.0),
    )
    recipe = replace(GAME, stages=(stage,), data=replace(GAME.data, crop=64 // SCALE))
    adversary = stage_losses.new_adversary(recipe, stage, torch.device("cpu"))
    seen = (slice(None), slice(None), slice(8, 40), slice(0, 32))
    same = {stage.content: lambda a, b: a.sum() * 0}
    losses = stage_losses.generator_losses(stage, sr, hr, seen, same, adversary)
    losses["loss"].backward()
    assert losses["pixel"] == 0.5
    outside = sr.grad.clone()
    outside[seen] = 0
    assert sr.grad[seen].abs().sum() > 0
    assert outside.abs().sum() == 0


def test_the_discriminator_learns_in_its_stage_and_is_kept(game: Run) -> None:
    torch.manual_seed(GAME.seed)
    build(SCALE, **NETWORK)
    fresh = stage_losses.new_adversary(GAME, GAME.stages[1], torch.device("cpu"))
    (kept,) = torch.load(game.folder / "checkpoint.pt", weights_only=True)["adversaries"]
    fresh_weight = fresh.discriminator.state_dict()["features.0.weight"]
    assert not torch.equal(kept["discriminator"]["features.0.weight"], fresh_weight)
    assert kept["discriminator"]["features.3.num_batches_tracked"] == 4 * 6  # both sides, in both players' steps
    assert {int(state["step"]) for state in kept["optimizer"]["state"].values()} == {6}


@pytest.mark.parametrize("last_saved", [2, 3, 6])  # within the stage before, between the stages, within the game
def test_an_interrupted_game_goes_on_as_if_nothing_had_happened(
    last_saved: int, game: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_and_stop(path: Path, *parts: object) -> None:
        save(path, *parts)
        if parts[3] == last_saved:
            raise KeyboardInterrupt

    folders = replace(game.folders, runs=tmp_path)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(start, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(GAME, folders)
    monkeypatch.undo()
    train(GAME, folders)

    ends = [torch.load(runs / "tiny-x2" / "checkpoint.pt", weights_only=True) for runs in (tmp_path, game.folders.runs)]
    for part in ("network", "averaged"):
        assert_equal_weights(ends[0][part], ends[1][part])
    assert_equal_weights(*(end["adversaries"][0]["discriminator"] for end in ends))
    resumed, whole = ([row for row in log_of(run) if row["step"] > "3"] for run in (tmp_path / "tiny-x2", game.folder))
    untimed = [name for name in LOG_FIELDS if name not in ("seconds", "loader_share")]
    assert [[row[name] for name in untimed] for row in resumed] == [[row[name] for name in untimed] for row in whole]


def test_missing_vgg19_is_said_before_anything_is_trained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.replace('loss = "mse"', "content = { layers = [2] }"))
    for given, said in (([], "--vgg19 FILE"), (["--vgg19", str(tmp_path / "none.pth")], "no VGG19 weights at")):
        arguments = ["--data", str(data), "--runs", str(tmp_path / "runs"), "train", str(recipe), *given]
        assert main(arguments) == 2
        assert said in (message := capsys.readouterr().err)
        assert "vgg19-dcbb9e9d.pth" in message
    assert not (tmp_path / "runs" / "tiny-x2" / "log.csv").exists()


# -- starting from another run -----------------------------------------------------------------------------------


def test_start_from_a_missing_run_is_said_on_the_command_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text('start_from = "absent-x4"\n' + RECIPE)
    assert main(["--data", str(data), "--runs", str(tmp_path / "runs"), "train", str(recipe)]) == 2
    assert "error: " in (said := capsys.readouterr().err)
    assert "train absent-x4 first" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["train", "nonsense"], "no recipe 'nonsense'"), (["--data", "absent", "train", "RECIPE"], "no pictures in")],
)
def test_command_line_errors(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    arguments = [str(recipe) if argument == "RECIPE" else argument for argument in arguments]
    assert main(["--runs", str(tmp_path / "runs"), *arguments]) == 2
    assert said in capsys.readouterr().err


# -- its parts ---------------------------------------------------------------------------------------------------


def test_learning_rate_at_its_key_points() -> None:
    stage = Stage(steps=1100, rate=1e-3, final_rate=1e-5, warmup=100)
    expected = {
        0: 1e-5,  # 1 / 100 of the rate
        49: 5e-4,
        99: 1e-3,
        100: 1e-3,
        600: (1e-3 + 1e-5) / 2,  # half of the cosine
        850: 1e-5 + (1e-3 - 1e-5) * (1 - math.sqrt(0.5)) / 2,  # three quarters
    }
    for step, rate in expected.items():
        assert learning_rate(stage, step) == pytest.approx(rate), step
    falling = [learning_rate(stage, step) for step in range(100, 1100)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(1e-5, rel=1e-3)


def test_learning_rate_without_and_with_only_warmup() -> None:
    assert learning_rate(Stage(steps=10, rate=1e-3, warmup=0), 0) == pytest.approx(1e-3)
    assert learning_rate(Stage(steps=10, rate=1e-3, warmup=10), 9) == pytest.approx(1e-3)


def test_learning_rate_that_drops() -> None:
    stage = Stage(steps=100, rate=1e-4, final_rate=1e-5, warmup=10, schedule="drop")
    rates = [learning_rate(stage, step) for step in (4, 9, 10, 49, 50, 99)]
    assert rates == pytest.approx([5e-5, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5])


def test_stage_at_the_borders() -> None:
    first, second = TINY.stages
    expected = {0: (first, 0), 279: (first, 279), 280: (second, 0), 299: (second, 19)}
    assert {step: stage_at(TINY, step) for step in expected} == expected
    with pytest.raises(ValueError, match="tiny-x2 has only 300 steps"):
        stage_at(TINY, 300)


def test_each_stage_uses_its_own_loss(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def recorded(name: str) -> None:
        loss = PIXEL_LOSSES[name]

        def record(sr: Tensor, hr: Tensor) -> Tensor:
            used.append(name)
            return loss(sr, hr)

        monkeypatch.setitem(PIXEL_LOSSES, name, record)

    for name in list(PIXEL_LOSSES):
        recorded(name)
    stages = (Stage(steps=3, loss="l1"), Stage(steps=2, loss="mse"), Stage(steps=4, loss="charbonnier"))
    train(replace(TINY, stages=stages), Folders(data, tmp_path))
    assert used == ["l1"] * 3 + ["mse"] * 2 + ["charbonnier"] * 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [("l1", 0.2), ("mse", (0.01 + 0.09) / 2), ("charbonnier", (math.hypot(0.1, 1e-3) + math.hypot(0.3, 1e-3)) / 2)],
)
def test_losses(name: str, expected: float) -> None:
    sr = torch.tensor([0.4, 0.8]).reshape(1, 1, 1, 2)
    hr = torch.tensor([0.5, 0.5]).reshape(1, 1, 1, 2)
    assert float(PIXEL_LOSSES[name](sr, hr)) == pytest.approx(expected, rel=1e-5)


def scalar(value: float) -> nn.Module:
    """A network of one weight and one buffer, both ``value``; the weight can learn."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    network.register_buffer("seen", torch.tensor(value))
    return network


def test_the_average_starts_young_and_converges() -> None:
    average, target = Average(scalar(0.0), decay=0.99), scalar(1.0)
    average.update(target)
    assert average.network.weight.item() == pytest.approx(1 - 2 / 11)  # of the start only two elevenths are left
    assert average.network.seen.item() == 1.0
    for _ in range(2000):
        average.update(target)
    assert average.network.weight.item() == pytest.approx(1.0, abs=1e-5)
    average.update(scalar(2.0))
    assert average.network.weight.item() == pytest.approx(1.01, abs=1e-5)  # grown up: 1 - decay of what is new
    assert target.weight.item() == 1.0
    assert target.weight.requires_grad
    assert not average.network.weight.requires_grad


@pytest.mark.parametrize(
    ("precision", "has_bf16", "dtype"),
    [("fp32", True, torch.float32), ("bf16", True, torch.bfloat16), ("bf16", False, torch.float32)],
)
def test_recipe_and_machine_decide_what_the_convolutions_compute_in(
    precision: str, has_bf16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "computes_bf16", lambda device: has_bf16)
    x, weight = torch.rand(1, 3, 4, 4), torch.rand(2, 3, 3, 3)
    with autocast(precision, torch.device("cpu")):
        assert F.conv2d(x, weight).dtype == dtype


def test_pixels_to_tensor_and_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    tensor = to_tensor(pixels, torch.device("cpu"))
    assert tensor.shape == (2, 3, 5, 7)
    assert float(tensor.max()) <= 1
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert (to_pixels(tensor[1:]) == pixels[1]).all()
    beyond = torch.tensor([-0.5, 0.4999 / 255, 0.5001 / 255, 1.7]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert to_pixels(beyond)[0, :, 0].tolist() == [0, 0, 1, 255]
