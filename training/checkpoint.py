"""What a run keeps: its folder, its averaged network, and the checkpoint from which it goes on."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from app.settings import MODELS
from training.architectures import Generator, build
from training.losses.adversarial import Adversary
from training.recipe import Recipe


@dataclass(frozen=True)
class Folders:
    """Where pictures are read (``data``) and where runs and the packed pictures are kept (``runs``).

    ``vgg19`` is the file of VGG19's weights, which stages with a content loss need. ``models``: the exported networks,
    from which a run can start where the run that made them is no longer there.
    """

    data: Path
    runs: Path
    vgg19: Path | None = None
    teacher: Path | None = None
    models: Path = MODELS

    def run(self, title: str) -> Path:
        return self.runs / title

    @property
    def cache(self) -> Path:
        """The packed pictures."""
        return self.runs / "cache"


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


def save(
    path: Path,
    network: Generator,
    averaged: Average,
    optimizer: torch.optim.Optimizer,
    step: int,
    adversaries: Iterable[Adversary] = (),
) -> None:
    """Writes the checkpoint beside the old one and swaps, so a kill at any moment leaves a whole one."""
    state = {
        "step": step,
        "network": network.state_dict(),
        "averaged": averaged.network.state_dict(),
        "updates": averaged.updates,
        "optimizer": optimizer.state_dict(),
        "adversaries": [adversary.state_dict() for adversary in adversaries],
    }
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def resume(
    path: Path,
    network: Generator,
    averaged: Average,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    adversaries: Iterable[Adversary] = (),
) -> int:
    """Restores a checkpoint if there is one; returns the step to go on from."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    network.load_state_dict(state["network"])
    averaged.network.load_state_dict(state["averaged"])
    averaged.updates = state["updates"]
    optimizer.load_state_dict(state["optimizer"])
    # not strict: a run may have begun before its recipe had an adversarial stage
    for adversary, saved in zip(adversaries, state.get("adversaries", ()), strict=False):
        adversary.load_state_dict(saved)
    return int(state["step"])


def steps_done(recipe: Recipe, folders: Folders) -> int:
    """How far a run's checkpoint is; 0 if it has none."""
    path = folders.run(recipe.title) / "checkpoint.pt"
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"]) if path.exists() else 0


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
