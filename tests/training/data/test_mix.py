"""Batches in which a share of the crops is of other pictures, with their HR as target."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.checkpoint import Folders
from training.data.degradations import area
from training.data.feed import training_batches
from training.data.mix import MixedIn, mixed
from training.data.pairs import PairSet, Pixels, batches
from training.recipe import DataRecipe, MixRecipe, Recipe, Stage

SCALE = 2
BATCH = 10


def flat_folder(folder: Path, *levels: int) -> Path:
    folder.mkdir()
    for level in levels:
        Image.new("RGB", (40, 40), (level, level, level)).save(folder / f"{level}.png")
    return folder


def mixed_in(tmp_path: Path, level: int, share: float) -> tuple[MixedIn, float]:
    pairs = PairSet(flat_folder(tmp_path / str(level), level), SCALE, "area", tmp_path / "cache")
    mix = MixRecipe(str(level), share, "area")
    return MixedIn(pairs, mix, DataRecipe(crop=8, batch=BATCH)), share


def black(steps: range) -> Iterator[tuple[Pixels, Pixels]]:
    for _ in steps:
        yield np.zeros((BATCH, 8, 8, 3), np.uint8), np.zeros((BATCH, 16, 16, 3), np.uint8)


def test_each_source_has_its_share_of_the_crops(tmp_path: Path) -> None:
    sources = [mixed_in(tmp_path, 100, 0.2), mixed_in(tmp_path, 200, 0.5)]
    made = list(mixed(black(range(100)), sources, 1, 0))
    levels = np.concatenate([lr[:, 0, 0, 0] for lr, _ in made])
    shares = {level: float(np.mean(levels == level)) for level in (0, 100, 200)}
    assert shares == pytest.approx({0: 0.3, 100: 0.2, 200: 0.5}, abs=0.05)
    assert all((lr[:, 0, 0] == hr[:, 0, 0]).all() for lr, hr in made), "LR and HR are of the same picture"


def test_shares_of_nothing_and_of_everything(tmp_path: Path) -> None:
    (nothing,) = {lr.max() for lr, _ in mixed(black(range(20)), [mixed_in(tmp_path, 50, 0.0)], 1, 0)}
    (everything,) = {lr.min() for lr, _ in mixed(black(range(20)), [mixed_in(tmp_path, 60, 1.0)], 1, 0)}
    assert (nothing, everything) == (0, 60)


def test_a_resumed_run_sees_what_an_unbroken_one_sees(tmp_path: Path) -> None:
    sources = [mixed_in(tmp_path, 100, 0.5)]
    whole = [lr.tobytes() for lr, _ in mixed(black(range(9)), sources, 1, 0)]
    resumed = [lr.tobytes() for lr, _ in mixed(black(range(4, 9)), sources, 1, 4)]
    assert resumed == whole[4:]
    assert whole != [lr.tobytes() for lr, _ in mixed(black(range(9)), sources, 1, 0, rank=1)]


def test_a_recipe_mixes_folders_each_spoiled_in_its_own_way(tmp_path: Path) -> None:
    """The recipe's own pictures are gray and reduced by area; those that are mixed in are noise, spoiled."""
    flat_folder(tmp_path / "mine", 128)
    (tmp_path / "theirs").mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "theirs" / "noise.png")
    mix = MixRecipe("theirs", 0.5, "poor")
    data = DataRecipe(pictures="mine", degradation="area", crop=8, batch=BATCH, mix=(mix,))
    recipe = Recipe("mixed", SCALE, {"architecture": "plain"}, "", data=data, stages=(Stage(3),))
    source, take = training_batches(recipe, Folders(tmp_path, tmp_path / "runs"), 0, 0, torch.device("cpu"))
    own, theirs = 0, 0
    for lr, hr in source:
        for one, original in zip(*take((lr, hr)), strict=True):
            if (one == 128).all():
                own += 1
                assert (original == 128).all()
            else:
                theirs += 1
                assert (area(original, SCALE) != one).any(), "spoiled, not only reduced"
    assert min(own, theirs) > 5


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_share_of_flat_crops(share: float, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)).save(folder / "noise.png")
    pairs = PairSet(folder, SCALE, "area", tmp_path / "cache")
    made = list(batches(pairs, DataRecipe(crop=8, batch=BATCH, flat=share), 1, 0, 60))
    plain = [np.ptp(hr, (1, 2)).max(axis=1) == 0 for _, hr in made]
    assert np.mean(plain) == pytest.approx(share, abs=0.06)
