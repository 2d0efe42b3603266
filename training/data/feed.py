"""What a recipe's steps are fed with: pictures, drawn codes or a teacher's images; and what it is validated on."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.checkpoint import Folders
from training.data.degradations import RANDOM_DEGRADATIONS
from training.data.device import DevicePairs, fits, tables
from training.data.mix import MixedIn, mixed
from training.data.pairs import Pairs, PairSet, Pixels, batches
from training.data.qrcodes import CodePairs, code_batches
from training.data.teacher import TaughtPairs, make_taught
from training.recipe import DataRecipe, MixRecipe, Recipe

VALIDATION_PICTURES = 8

Take = Callable[[Any], tuple[Pixels | Tensor, Pixels | Tensor]]
"""From what a thread prepares for a step to its LR and HR pixels, uint8 ``[N, h, w, 3]``."""


def training_batches(
    recipe: Recipe, folders: Folders, step: int, rank: int, device: torch.device
) -> tuple[Iterator[Any], Take]:
    """What to prepare for each step, from ``step`` on, and how to take its pairs from that."""
    source, take = own_batches(recipe, folders, step, rank, device)
    if not recipe.data.mix:
        return source, take
    mixed_in = [(MixedIn(packed_pairs(mix, recipe, folders), mix, recipe.data), mix.share) for mix in recipe.data.mix]
    return mixed(source, mixed_in, recipe.seed, step, rank), take


def packed_pairs(data: DataRecipe | MixRecipe, recipe: Recipe, folders: Folders) -> PairSet:
    """The pictures to cut crops from."""
    packed = "bicubic" if data.degradation in RANDOM_DEGRADATIONS else data.degradation  # those are made for each crop
    return PairSet(folders.data / data.pictures, recipe.scale, packed, folders.cache, data.reductions)


def own_batches(
    recipe: Recipe, folders: Folders, step: int, rank: int, device: torch.device
) -> tuple[Iterator[Any], Take]:
    """The same, before anything is mixed in."""
    data = recipe.data
    if data.codes:
        codes = code_batches(data.codes, recipe.scale, data.crop, data.batch, recipe.seed, step, recipe.steps)
        return codes, lambda pixels: pixels
    if recipe.teacher:
        taught = taught_pairs(recipe, folders)
        return taught.batches(data, recipe.seed, step, recipe.steps, rank), lambda pixels: pixels
    pairs = packed_pairs(data, recipe, folders)
    if not (data.degradation in RANDOM_DEGRADATIONS or data.mix or data.flat) and fits(pairs, device):
        pictures = DevicePairs(pairs, device)
        cuts = tables(pairs, data, recipe.seed, step, recipe.steps, rank)
        return cuts, partial(pictures.cut, side=data.crop)
    return batches(pairs, data, recipe.seed, step, recipe.steps, rank), lambda pixels: pixels


def taught_pairs(recipe: Recipe, folders: Folders) -> TaughtPairs:
    """The teacher's images of the recipe's crops; those that are not there yet are made first."""
    assert recipe.teacher
    photos = folders.data / recipe.data.pictures
    return make_taught(recipe.teacher, folders.teacher, photos, recipe.scale, folders.cache)


def validation_pairs(recipe: Recipe, folders: Folders) -> Pairs:
    data = recipe.data
    if data.codes:
        return CodePairs(data.codes, recipe.scale, data.crop)
    return PairSet(folders.data / data.validation, recipe.scale, data.degradation, folders.cache)


def examples(pairs: Pairs) -> Tensor:
    """LR of the first pairs, float ``[N, 3, H, W]`` in [0, 1], cut to the size that all of them have."""
    pictures = [pairs.pair(index)[0] for index in range(min(len(pairs), VALIDATION_PICTURES))]
    h, w = (min(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    return to_tensor(np.stack([picture[:h, :w] for picture in pictures]), torch.device("cpu"))


def to_tensor(pixels: Pixels | Tensor, device: torch.device) -> Tensor:
    """uint8 ``[N, H, W, 3]`` to float ``[N, 3, H, W]`` in [0, 1], channels last in memory as it was."""
    return torch.as_tensor(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
