"""The one training loop: a recipe in, a checkpoint and a log out. It can be killed at any moment and goes on.

A run lives in ``runs/<title>/``: ``checkpoint.pt`` (everything needed to go on), ``log.csv`` (a line every
``LOG_EVERY`` steps), ``samples/`` (LR by nearest neighbour | SR | HR of a validation picture).
"""

import contextlib
import csv
import ctypes
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from training.architectures import Generator, build
from training.data import PairSet, Pixels, Prefetcher, batches
from training.hardware import note_machine
from training.losses import PIXEL_LOSSES
from training.metrics import crop_border, luma, psnr
from training.recipe import Recipe, Stage

LOG_EVERY = 100  # steps
VALIDATE_EVERY = 2_000  # steps
CHECKPOINT_SECONDS = 60
VALIDATION_PICTURES = 8
LOG_FIELDS = ["step", "loss", "rate", "psnr_y", "seconds", "loader_share"]


@dataclass(frozen=True)
class Folders:
    """Where pictures are read (``data``) and where runs and the packed pictures are kept (``runs``)."""

    data: Path
    runs: Path

    def run(self, title: str) -> Path:
        return self.runs / title


def train(recipe: Recipe, folders: Folders) -> Generator:
    """Trains to the recipe's last step, from where the run's folder is; returns the averaged (EMA) network."""
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = folders.run(recipe.title)
    (run / "samples").mkdir(parents=True, exist_ok=True)

    network = build(recipe.scale, **recipe.network).to(device, memory_format=torch.channels_last)
    if recipe.start_from:
        start_from(network, folders.run(recipe.start_from) / "checkpoint.pt")
    averaged = Average(network, recipe.ema)
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    step = resume(run / "checkpoint.pt", network, averaged, optimizer, device)
    if step == recipe.steps:
        return averaged.network

    cache = folders.runs / "cache"
    data = recipe.data
    pairs = PairSet(folders.data / data.pictures, recipe.scale, data.degradation, cache)
    validation = PairSet(folders.data / data.validation, recipe.scale, data.degradation, cache)
    note_machine(run)
    loader = Prefetcher(batches(pairs, data.crop, data.batch, data.sampling, recipe.seed, step, recipe.steps))

    log = Log(run / "log.csv", step)
    progress = tqdm(total=recipe.steps, initial=step, desc=recipe.title, unit="step", mininterval=10)
    saved_at = time.monotonic()
    while step < recipe.steps:
        stage, step_of_stage = stage_at(recipe, step)
        rate = learning_rate(stage, step_of_stage)
        for group in optimizer.param_groups:
            group["lr"] = rate

        waited = time.perf_counter()
        lr_pixels, hr_pixels = loader.next()
        waited = time.perf_counter() - waited
        lr, hr = to_tensor(lr_pixels, device), to_tensor(hr_pixels, device)  # [N, 3, h, w], [N, 3, h s, w s]

        with autocast(recipe, device):
            sr = network(lr)
        loss = PIXEL_LOSSES[stage.loss](sr.float(), hr)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        averaged.update(network)
        step += 1
        progress.update()

        log.add(loss, waited)
        if step % LOG_EVERY == 0 or step == recipe.steps:
            validated = step % VALIDATE_EVERY == 0 or step == recipe.steps
            quality = validate(averaged.network, validation, run / "samples" / f"{step:07d}.png") if validated else None
            progress.set_postfix(log.write(step, rate, quality))
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or step == recipe.steps:
            save(run / "checkpoint.pt", network, averaged, optimizer, step)
            saved_at = time.monotonic()
    progress.close()
    return averaged.network


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
    """Linear warm-up, then half a cosine from ``rate`` to ``final_rate``."""
    if step < stage.warmup:
        return stage.rate * (step + 1) / stage.warmup
    share = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.final_rate + (stage.rate - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * share))


def autocast(recipe: Recipe, device: torch.device) -> contextlib.AbstractContextManager[object]:
    if recipe.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """uint8 ``[N, H, W, 3]`` to float ``[N, 3, H, W]`` in [0, 1], channels last in memory as it was."""
    return torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


def to_pixels(image: Tensor) -> Pixels:
    """float ``[1, 3, H, W]`` to uint8 ``[H, W, 3]``, rounded and clipped as the exported graph does."""
    return image[0].permute(1, 2, 0).float().mul(255).round().clamp(0, 255).byte().cpu().numpy()


class Average:
    """The exponential moving average of a network's weights; it is what is judged and exported."""

    def __init__(self, network: Generator, decay: float) -> None:
        self.network = torch.optim.swa_utils.AveragedModel(network).module.eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    def update(self, network: Generator) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))  # young averages forget the start
        with torch.no_grad():
            for kept, new in zip(self.network.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
            for kept, new in zip(self.network.buffers(), network.buffers(), strict=True):
                kept.copy_(new)


def save(path: Path, network: Generator, averaged: Average, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Writes the checkpoint beside the old one and swaps, so a kill at any moment leaves a whole one."""
    state = {
        "step": step,
        "network": network.state_dict(),
        "averaged": averaged.network.state_dict(),
        "updates": averaged.updates,
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def resume(
    path: Path, network: Generator, averaged: Average, optimizer: torch.optim.Optimizer, device: torch.device
) -> int:
    """Restores a checkpoint if there is one; returns the step to go on from."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    network.load_state_dict(state["network"])
    averaged.network.load_state_dict(state["averaged"])
    averaged.updates = state["updates"]
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def load_trained(recipe: Recipe, folders: Folders) -> tuple[Generator, int]:
    """The averaged network of a run as far as it got, on CPU, and its step. A recipe without steps needs no run."""
    network = build(recipe.scale, **recipe.network).eval().requires_grad_(False)
    path = folders.run(recipe.title) / "checkpoint.pt"
    if not recipe.steps:
        return network, 0
    if not path.exists():
        raise ValueError(f"{recipe.title} is not trained yet: python -m training train {recipe.title}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["averaged"])
    return network, int(state["step"])


def start_from(network: Generator, path: Path) -> None:
    """Copies every averaged weight of another run whose name and shape are the same (a trunk of another scale)."""
    if not path.exists():
        raise ValueError(f"{path} is missing: train {path.parent.name} first")
    own = network.state_dict()
    other = torch.load(path, map_location="cpu", weights_only=True)["averaged"]
    fitting = {k: v for k, v in other.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict({**own, **fitting})


@torch.no_grad()
def validate(network: Generator, pairs: PairSet, sample: Path) -> float:
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


class Log:
    """``log.csv``: mean loss since the last line, learning rate, validation PSNR, seconds, the loader's share."""

    def __init__(self, path: Path, step: int) -> None:
        kept = _rows_until(path, step)
        self._path = path
        with open(path.with_suffix(".part"), "w", newline="") as file:
            writer = csv.DictWriter(file, LOG_FIELDS)
            writer.writeheader()
            writer.writerows(kept)
        os.replace(path.with_suffix(".part"), path)  # a kill at any moment leaves the earlier lines
        self._before = float(kept[-1]["seconds"]) if kept else 0.0
        self._started = time.perf_counter()
        self._restart()

    def _restart(self) -> None:
        self._loss: Tensor | float = 0.0
        self._count, self._waited, self._since = 0, 0.0, time.perf_counter()

    def add(self, loss: Tensor, waited: float) -> None:
        self._loss = self._loss + loss.detach()  # stays on the device: no synchronisation a step
        self._count += 1
        self._waited += waited

    def write(self, step: int, rate: float, quality: float | None) -> dict[str, str]:
        now = time.perf_counter()
        row = {
            "step": str(step),
            "loss": f"{float(self._loss) / self._count:.6f}",
            "rate": f"{rate:.3e}",
            "psnr_y": "" if quality is None else f"{quality:.3f}",
            "seconds": f"{self._before + now - self._started:.1f}",
            "loader_share": f"{self._waited / (now - self._since):.3f}",
        }
        with open(self._path, "a", newline="") as file:
            csv.DictWriter(file, LOG_FIELDS).writerow(row)
        self._restart()
        return row


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """The lines of an earlier part of the run, up to its checkpoint."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= step]
