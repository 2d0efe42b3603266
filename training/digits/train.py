"""The GAN's loop: noise and real digits in, a generator, a log and sample grids out. It can be killed and goes on.

A run lives in ``runs/<title>/``: ``checkpoint.pt``, ``log.csv``, ``samples/NNNNNN.png`` (the same 25 latent vectors
every 200 steps, from step 0 on).
"""

import copy
import csv
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from app.inference.generator import grid
from training.digits.data import Labelled
from training.digits.networks import CONVOLUTIONAL, GANS, classes_of, to_pixels, to_tensor
from training.digits.recipe import DigitsRecipe
from training.hardware import computes_bf16

GRID_EVERY = 200  # steps
SAMPLES, COLUMNS = 25, 5
PROGRESS = (0, 400, 5_000, 10_000)  # the steps the source shows side by side
CHECKPOINT_SECONDS = 30
LOG_FIELDS = ["step", "discriminator", "generator", "known_real", "known_made", "seconds"]


class Run:
    """What a run goes on from: both networks, their optimisers, the averaged generator, the step, the log."""

    def __init__(self, recipe: DigitsRecipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        torch.manual_seed(recipe.seed)
        gan = GANS[recipe.gan]
        self.generator = gan.generator(recipe.latent, recipe.channels)
        self.discriminator = gan.discriminator(recipe.channels)
        if recipe.gan in CONVOLUTIONAL:
            self.generator.to(memory_format=torch.channels_last)
            self.discriminator.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.optimizers = [new_optimizer(recipe, net) for net in (self.generator, self.discriminator)]
        self.step, self.log, self.seconds = 0, list[dict[str, str]](), 0.0
        if (folder / "checkpoint.pt").exists():
            self._resume(torch.load(folder / "checkpoint.pt", weights_only=True))

    def _resume(self, state: dict) -> None:
        for name in ("generator", "discriminator", "averaged"):
            getattr(self, name).load_state_dict(state[name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.log, self.seconds = state["step"], state["log"], state["seconds"]

    def save(self) -> None:
        """Writes beside and swaps, so a kill at any moment leaves a whole checkpoint."""
        state = {name: getattr(self, name).state_dict() for name in ("generator", "discriminator", "averaged")}
        state["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        state |= {"step": self.step, "log": self.log, "seconds": self.seconds}
        torch.save(state, self.folder / "checkpoint.part")
        os.replace(self.folder / "checkpoint.part", self.folder / "checkpoint.pt")
        with open(self.folder / "log.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, LOG_FIELDS)
            writer.writeheader()
            writer.writerows(self.log)


def new_optimizer(recipe: DigitsRecipe, network: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), recipe.rate)
    return torch.optim.Adam(network.parameters(), recipe.rate, betas=(recipe.beta1, 0.999))


def train_digits(recipe: DigitsRecipe, data: Labelled, runs: Path) -> nn.Module:
    """Trains to the recipe's last step, from where the run's folder is; returns the generator that is drawn with."""
    folder = runs / recipe.title
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    run = Run(recipe, folder)
    started, saved_at = time.monotonic() - run.seconds, time.monotonic()
    if run.step == 0:
        draw_samples(run)
    for real, classes, noise in tqdm(
        steps(recipe, data, run.step), recipe.title, recipe.steps, initial=run.step, mininterval=10
    ):
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, run.step)
        told = one_step(run, real, classes, noise)
        run.step += 1
        if run.step % GRID_EVERY == 0 or run.step == recipe.steps:
            draw_samples(run)
            run.seconds = time.monotonic() - started
            figures = {name: f"{float(value):.5f}" for name, value in told.items()}
            run.log.append({"step": str(run.step), **figures, "seconds": f"{run.seconds:.1f}"})
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or run.step == recipe.steps:
            run.seconds = time.monotonic() - started
            run.save()
            saved_at = time.monotonic()
    return run.averaged


def steps(recipe: DigitsRecipe, data: Labelled, first: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Real pictures ``[N, 1, 28, 28]``, their classes ``[N]`` and noise ``[2, N, latent]`` a step; they depend on seed
    and step alone."""
    pictures, labels = torch.from_numpy(np.array(data.pictures)), torch.from_numpy(np.array(data.labels)).long()
    for step in range(first, recipe.steps):
        rng = np.random.default_rng((recipe.seed, step))
        chosen = torch.from_numpy(rng.integers(len(pictures), size=recipe.batch))
        noise = rng.standard_normal((2, recipe.batch, recipe.latent), np.float32)
        yield to_tensor(pictures[chosen]), labels[chosen], torch.from_numpy(noise)


def one_step(run: Run, real: Tensor, classes: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """First the discriminator learns to tell real from made, then the generator learns to be taken for real.

    Binary cross-entropy for both, on logits; the generator's is the form that does not saturate (arXiv:1406.2661).
    """
    generator_optimizer, discriminator_optimizer = run.optimizers
    with autocast(run.recipe):
        with torch.no_grad():
            made = run.generator(noise[0])
        on_real = run.discriminator(real, classes).float()
        on_made = run.discriminator(made, classes_of(noise[0])).float()
        loss = (F.softplus(-on_real).mean() + F.softplus(on_made).mean()) / 2
    descend(discriminator_optimizer, loss)

    run.discriminator.requires_grad_(False)
    with autocast(run.recipe):
        fooled = F.softplus(-run.discriminator(run.generator(noise[1]), classes_of(noise[1])).float()).mean()
    descend(generator_optimizer, fooled)
    run.discriminator.requires_grad_(True)

    average(run)
    known = {"known_real": (on_real > 0).float().mean(), "known_made": (on_made < 0).float().mean()}
    return {"discriminator": loss.detach(), "generator": fooled.detach(), **known}


def autocast(recipe: DigitsRecipe) -> torch.autocast:
    """bfloat16 where it is faster: for convolutions, on a CPU that has it."""
    return torch.autocast(
        "cpu", torch.bfloat16, enabled=recipe.gan in CONVOLUTIONAL and computes_bf16(torch.device("cpu"))
    )


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@torch.no_grad()
def average(run: Run) -> None:
    """The exponential average of weights and of BN's statistics; a young one forgets its start."""
    decay = min(run.recipe.ema, (1 + run.step) / (10 + run.step))
    kept, new = run.averaged.state_dict(), run.generator.state_dict()
    for name, tensor in kept.items():
        if tensor.is_floating_point():
            tensor.lerp_(new[name], 1 - decay)
        else:
            tensor.copy_(new[name])


def learning_rate(recipe: DigitsRecipe, step: int) -> float:
    share = step / recipe.steps
    return recipe.rate * (1.0 if share < recipe.decay_from else (1 - share) / (1 - recipe.decay_from))


@torch.no_grad()
def draw_samples(run: Run) -> None:
    noise = np.random.default_rng(run.recipe.seed).standard_normal((SAMPLES, run.recipe.latent), np.float32)
    digits = to_pixels(run.averaged(torch.from_numpy(noise))).numpy()
    path = run.folder / "samples" / f"{run.step:06d}.png"
    Image.fromarray(grid(digits[..., None], COLUMNS)[..., 0]).save(path)


def draw_progress(recipe: DigitsRecipe, runs: Path) -> Path:
    """The grids at ``PROGRESS``'s steps side by side: ``runs/<title>/progress.png``."""
    folder = runs / recipe.title
    wanted = [folder / "samples" / f"{step:06d}.png" for step in PROGRESS if step <= recipe.steps]
    if missing := [path.name for path in wanted if not path.exists()]:
        raise ValueError(f"{recipe.title} has not drawn {', '.join(missing)} yet: train it first")
    grids = [np.asarray(Image.open(path)) for path in wanted]
    gap = np.full((grids[0].shape[0], 12), 255, np.uint8)
    parts = [part for each in grids for part in (each, gap)][:-1]
    Image.fromarray(np.concatenate(parts, axis=1)).save(folder / "progress.png")
    return folder / "progress.png"


def load_generator(recipe: DigitsRecipe, runs: Path) -> tuple[nn.Module, Run]:
    if not (runs / recipe.title / "checkpoint.pt").exists():
        raise ValueError(f"{recipe.title} is not trained yet: python -m training digits train {recipe.title}")
    run = Run(recipe, runs / recipe.title)
    return run.averaged, run
