"""The one training loop: a recipe in, a checkpoint and a log out. It can be killed at any moment and goes on.

A run lives in ``runs/<title>/``: ``checkpoint.pt`` (everything needed to go on), ``log.csv`` (a line every
``LOG_EVERY`` steps, every step of an adversarial stage), ``samples/`` (LR by nearest neighbour | SR | HR of a
validation picture).
"""

import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from training.architectures import Generator, build
from training.architectures.discriminators import DISCRIMINATORS
from training.checkpoint import Average, Folders, resume, save
from training.data.degradations import RANDOM_DEGRADATIONS
from training.data.device import DevicePairs, fits, tables
from training.data.mix import MixedIn, mixed
from training.data.pairs import Pairs, PairSet, Pixels, Prefetcher, batches
from training.data.qrcodes import CodePairs, code_batches
from training.data.teacher import TaughtPairs, make_taught
from training.distributed import Ranks, joined_ranks
from training.export.manifest import read_manifest
from training.hardware import computes_bf16, note_machine
from training.log import Log, restore_log
from training.losses.adversarial import ADVERSARIAL, Adversary
from training.losses.perceptual import VGG19_SOURCES, ContentLoss, load_vgg19
from training.losses.pixel import PIXEL_LOSSES, grid
from training.pause import Cores, cores
from training.recipe import ContentRecipe, DataRecipe, MixRecipe, Recipe, Stage
from training.report.metrics import crop_border, luma, psnr
from training.warm_start import start_from

LOG_EVERY = 100  # steps
VALIDATE_EVERY = 2_000  # steps
CHECKPOINT_SECONDS = 60
REWARM_STEPS = 200  # at a rising rate where a run goes on without its optimiser
VALIDATION_PICTURES = 8


def never() -> bool:
    return False


def train(
    recipe: Recipe,
    folders: Folders,
    compiled: bool = False,
    go_on: bool = False,
    stop: Callable[[], bool] = never,
) -> Generator:
    """Trains to the recipe's last step, from where the run's folder is; returns the averaged (EMA) network.

    ``compiled``: the network goes through ``torch.compile``, which pays on CUDA in runs of more than some minutes.
    ``go_on``: a run without a checkpoint begins at the model that was exported from it, at the step that was then
    reached. ``stop`` is asked before every step; the checkpoint is written before the return.
    Under ``torchrun`` every process takes part and the first one writes.
    """
    folders.runs.mkdir(parents=True, exist_ok=True)
    with joined_ranks() as ranks, cores(folders.runs) as lent:
        return train_with(ranks, lent, recipe, folders, compiled, go_on, stop)


def train_with(
    ranks: Ranks,
    lent: Cores,
    recipe: Recipe,
    folders: Folders,
    compiled: bool,
    go_on: bool,
    stop: Callable[[], bool],
) -> Generator:
    keep_freed_memory()
    torch.manual_seed(recipe.seed)  # the same in all processes, hence the same weights
    device = ranks.device
    run = folders.run(recipe.title)
    (run / "samples").mkdir(parents=True, exist_ok=True)

    begun = (run / "checkpoint.pt").exists()  # it does without what it started from
    before = exported_training(recipe, folders) if go_on and not begun else None
    with ranks.in_turn():
        source = replace(recipe, start_from=recipe.title) if before else recipe
        network = build(recipe.scale, **recipe.network) if begun else starting(source, folders)
    network.to(device, memory_format=torch.channels_last)
    averaged = Average(network, recipe.ema)
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    adversaries = {stage: new_adversary(recipe, stage, device) for stage in recipe.stages if stage.adversary}
    step = resume(run / "checkpoint.pt", network, averaged, optimizer, device, adversaries.values())
    warm = REWARM_STEPS  # steps since the optimiser knew nothing of the network
    if before:
        step, warm = before["steps"], 0
        restore_log(run / "log.csv", before)
    if step == recipe.steps:
        return averaged.network

    contents = content_losses(recipe, folders, device)
    with ranks.in_turn():
        source, take = training_batches(recipe, folders, step, ranks.rank, device)
        validation = validation_pairs(recipe, folders)
    note_machine(run)
    loader = Prefetcher(source)
    if compiled:
        network.compile()

    log = Log(run / "log.csv", step) if ranks.first else None
    progress = tqdm(
        total=recipe.steps, initial=step, desc=recipe.title, unit="step", mininterval=10, disable=not ranks.first
    )
    saved_at = time.monotonic()
    while step < recipe.steps and not stop():
        lent.wait()
        stage, step_of_stage = stage_at(recipe, step)
        rate = learning_rate(stage, step_of_stage) * min(1, (warm + 1) / REWARM_STEPS)
        for group in optimizer.param_groups:
            group["lr"] = rate

        waited = time.perf_counter()
        prepared = loader.next()
        waited = time.perf_counter() - waited
        lr, hr = (to_tensor(pixels, device) for pixels in take(prepared))  # [N, 3, h, w], [N, 3, h s, w s]

        adversary = adversaries.get(stage)
        with autocast(recipe, device):
            sr = network(lr).float()
            seen = window(stage.shift, hr.shape, np.random.default_rng([recipe.seed, step, ranks.rank]))
            losses = generator_losses(stage, sr, hr, seen, contents, adversary)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        ranks.average_gradients(network)
        optimizer.step()
        ranks.average_statistics(network)
        averaged.update(network)
        if adversary:
            with autocast(recipe, device):
                losses |= adversary.losses(sr[seen], hr[seen])
            adversary.step(losses["discriminator"], stage.adversary.rate_ratio * rate, ranks)
        step, warm = step + 1, warm + 1
        progress.update()

        if not log:
            continue  # another process writes
        log.add(losses, waited)
        if adversary or step % LOG_EVERY == 0 or step_of_stage == stage.steps - 1:
            validated = step % VALIDATE_EVERY == 0 or step == recipe.steps
            quality = validate(averaged.network, validation, run / "samples" / f"{step:07d}.png") if validated else None
            progress.set_postfix(log.write(step, rate, quality), refresh=False)
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or step == recipe.steps:
            save(run / "checkpoint.pt", network, averaged, optimizer, step, adversaries.values())
            saved_at = time.monotonic()
    progress.close()
    if log and step < recipe.steps:
        save(run / "checkpoint.pt", network, averaged, optimizer, step, adversaries.values())
    return averaged.network


def exported_training(recipe: Recipe, folders: Folders) -> dict[str, Any] | None:
    """What the manifest tells of the training of the recipe's exported model; none where that is of another kind, or
    where the recipe asks for no step more."""
    wanted = (recipe.name, recipe.scale, recipe.network["architecture"])
    for entry in read_manifest(folders.models)["models"]:
        if (entry["name"], entry["scale"], entry["architecture"]) == wanted:
            training: dict[str, Any] = entry["training"]
            return training if "log" in training and training["steps"] < recipe.steps else None
    return None


def starting(recipe: Recipe, folders: Folders) -> Generator:
    """The network before its first step; the caller has seeded."""
    network = build(recipe.scale, **recipe.network)
    if recipe.start_from:
        start_from(network, recipe.start_from, folders, examples(validation_pairs(recipe, folders)))
    return network


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


Window = tuple[slice, ...]


def window(shift: int, shape: Sequence[int], random: np.random.Generator) -> Window:
    """A window of ``[N, 3, H, W]``, ``shift`` pixels smaller than H and W, at random."""
    offsets = random.integers(0, shift + 1, 2)
    sides = (slice(start, start + length - shift) for start, length in zip(offsets, shape[2:], strict=True))
    return (slice(None), slice(None), *sides)


def generator_losses(
    stage: Stage,
    sr: Tensor,
    hr: Tensor,
    seen: Window,
    contents: Mapping[ContentRecipe, ContentLoss],
    adversary: Adversary | None,
) -> dict[str, Tensor]:
    """Each loss of the stage before its weight, and their weighted sum ``loss``, which the generator minimises.

    ``seen``: what the classifier and the adversary look at; pixels are compared everywhere.
    """
    losses = {"pixel": PIXEL_LOSSES[stage.loss](sr, hr)}
    total = stage.pixel_weight * losses["pixel"]
    if stage.grid_weight:
        losses["grid"] = grid(sr, hr)
        total = total + stage.grid_weight * losses["grid"]
    if stage.content:
        losses["content"] = contents[stage.content](sr[seen], hr[seen])
        total = total + stage.content.weight * losses["content"]
    if stage.adversary and adversary:
        losses["adversarial"] = adversary.generator_loss(sr[seen], hr[seen])
        total = total + stage.adversary.weight * losses["adversarial"]
    return {"loss": total} | losses


def content_losses(recipe: Recipe, folders: Folders, device: torch.device) -> dict[ContentRecipe, ContentLoss]:
    """The content losses of all stages; ``ValueError`` if there are some and no weights for them."""
    wanted = {stage.content for stage in recipe.stages if stage.content}
    if wanted and folders.vgg19 is None:
        raise ValueError(f"{recipe.title} has a content loss and needs VGG19's weights (--vgg19 FILE): {VGG19_SOURCES}")
    losses = {
        content: ContentLoss(load_vgg19(folders.vgg19, content.layers), content.distance, content.shares)
        for content in wanted
    }
    for loss in losses.values():
        loss.to(device, memory_format=torch.channels_last)
        if in_bf16(recipe, device):  # frozen, so cast once rather than every step; the normalisation stays fp32
            loss.features.layers.to(torch.bfloat16)
    return losses


def new_adversary(recipe: Recipe, stage: Stage, device: torch.device) -> Adversary:
    """A discriminator that has learned nothing yet, for what it will see of the recipe's HR crops."""
    wanted = stage.adversary
    assert wanted
    size = {"patch": recipe.seen(stage)} if wanted.discriminator == "dense" else {}
    norms = {"norm_after_activation": True} if wanted.norm_after_activation else {}
    discriminator = DISCRIMINATORS[wanted.discriminator](channels=wanted.channels, **norms, **size)
    discriminator.to(device, memory_format=torch.channels_last)
    return Adversary(ADVERSARIAL[wanted.game], discriminator)


def keep_freed_memory() -> None:
    """Lets glibc reuse the large buffers of a step instead of returning and faulting them in again.

    Measured on 2 cores, `fast` x4: 0.085 s a step without, 0.053 s with.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        mmap_threshold, trim_threshold, largest = -3, -1, 2**31 - 1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
        libc.mallopt(mmap_threshold, largest)
        libc.mallopt(trim_threshold, largest)


def stage_at(recipe: Recipe, step: int) -> tuple[Stage, int]:
    """The stage in which a step falls, and the step's number within it."""
    for stage in recipe.stages:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    raise ValueError(f"{recipe.title} has only {recipe.steps} steps")


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then half a cosine from ``rate`` to ``final_rate``, or one drop to it halfway."""
    if step < stage.warmup:
        return stage.rate * (step + 1) / stage.warmup
    if stage.schedule == "drop":
        return stage.rate if step < stage.steps // 2 else stage.final_rate
    share = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.final_rate + (stage.rate - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * share))


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(recipe, device))


def in_bf16(recipe: Recipe, device: torch.device) -> bool:
    return recipe.precision == "bf16" and computes_bf16(device)


def to_tensor(pixels: Pixels | Tensor, device: torch.device) -> Tensor:
    """uint8 ``[N, H, W, 3]`` to float ``[N, 3, H, W]`` in [0, 1], channels last in memory as it was."""
    return torch.as_tensor(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


def to_pixels(image: Tensor) -> Pixels:
    """float ``[1, 3, H, W]`` to uint8 ``[H, W, 3]``, rounded and clipped as the exported graph does."""
    return image[0].permute(1, 2, 0).float().mul(255).round().clamp(0, 255).byte().cpu().numpy()


@torch.no_grad()
def validate(network: Generator, pairs: Pairs, sample: Path) -> float:
    """Mean luma PSNR over the first validation pictures; writes the first as a sample triptych."""
    device = next(network.parameters()).device
    scores = []
    for index in range(min(len(pairs), VALIDATION_PICTURES)):
        lr, hr = pairs.pair(index)
        sr = to_pixels(network(to_tensor(np.array(lr[None]), device)))
        scores.append(psnr(luma(crop_border(sr, pairs.scale)), luma(crop_border(hr, pairs.scale))))
        if index == 0:
            nearest = lr.repeat(pairs.scale, axis=0).repeat(pairs.scale, axis=1)
            Image.fromarray(np.concatenate([nearest, sr, hr], axis=1)).save(sample)
    return float(np.mean(scores))
