"""How a run begins: anew, from its checkpoint, or from the model that was exported from it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from training.architectures import Generator, build
from training.checkpoint import Average, Folders, resume, save
from training.data.feed import examples, validation_pairs
from training.distributed import Ranks
from training.export.manifest import read_manifest
from training.log import restore_log
from training.losses.adversarial import Adversary
from training.losses.stage import new_adversary
from training.recipe import Recipe, Stage
from training.warm_start import start_from

REWARM_STEPS = 200  # at a rising rate where a run goes on without its optimiser


@dataclass
class State:
    """What a step changes. ``warm``: steps since the optimiser knew nothing of the network."""

    network: Generator
    averaged: Average
    optimizer: torch.optim.Optimizer
    adversaries: dict[Stage, Adversary]
    step: int = 0
    warm: int = REWARM_STEPS

    def save(self, path: Path) -> None:
        save(path, self.network, self.averaged, self.optimizer, self.step, self.adversaries.values())


def begin(recipe: Recipe, folders: Folders, ranks: Ranks, go_on: bool) -> State:
    """The state before the next step; the caller has seeded."""
    run = folders.run(recipe.title)
    checkpoint, log = run / "checkpoint.pt", run / "log.csv"
    begun = checkpoint.exists()  # it does without what it started from
    before = exported_training(recipe, folders) if go_on and not begun else None
    with ranks.in_turn():
        source = replace(recipe, start_from=recipe.title) if before else recipe
        network = build(recipe.scale, **recipe.network) if begun else starting(source, folders)
    network.to(ranks.device, memory_format=torch.channels_last)
    averaged = Average(network, recipe.ema)
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    adversaries = {stage: new_adversary(recipe, stage, ranks.device) for stage in recipe.stages if stage.adversary}
    state = State(network, averaged, optimizer, adversaries)
    state.step = resume(checkpoint, network, averaged, optimizer, ranks.device, adversaries.values())
    if before:
        state.step, state.warm = before["steps"], 0
        restore_log(log, before)
    return state


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
