"""The one training loop: a recipe in, a checkpoint and a log out. It can be killed at any moment and goes on.

A run lives in ``runs/<title>/``: ``checkpoint.pt`` (everything needed to go on), ``log.csv`` (a line every
``LOG_EVERY`` steps, every step of an adversarial stage), ``samples/`` (LR by nearest neighbour | SR | HR of a
validation picture).
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.architectures import Generator
from training.checkpoint import Folders
from training.data.feed import to_tensor, training_batches, validation_pairs
from training.data.pairs import Prefetcher
from training.distributed import Ranks, joined_ranks
from training.hardware import autocast, keep_freed_memory, note_machine
from training.log import Log
from training.losses.stage import Contents, content_losses, generator_losses, window
from training.pause import Cores, cores
from training.recipe import Recipe, Stage
from training.schedule import learning_rate, stage_at
from training.start import REWARM_STEPS, State, begin
from training.strength import Strengths, strengths
from training.validation import validate

LOG_EVERY = 100  # steps
VALIDATE_EVERY = 2_000  # steps
CHECKPOINT_SECONDS = 60


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
    run = folders.run(recipe.title)
    (run / "samples").mkdir(parents=True, exist_ok=True)
    state = begin(recipe, folders, ranks, go_on)
    if state.step == recipe.steps:
        return state.averaged.network

    contents = content_losses(recipe, folders, ranks.device)
    steering = strengths(recipe, folders, ranks.device)
    with ranks.in_turn():
        source, take = training_batches(recipe, folders, state.step, ranks.rank, ranks.device)
        validation = validation_pairs(recipe, folders)
    note_machine(run)
    loader = Prefetcher(source)
    if compiled:
        state.network.compile()

    log = Log(run / "log.csv", state.step) if ranks.first else None
    progress = tqdm(
        total=recipe.steps, initial=state.step, desc=recipe.title, unit="step", mininterval=10, disable=not ranks.first
    )
    saved_at = time.monotonic()
    while state.step < recipe.steps and not stop():
        lent.wait()
        stage, step_of_stage = stage_at(recipe, state.step)
        rate = learning_rate(stage, step_of_stage) * min(1, (state.warm + 1) / REWARM_STEPS)

        waited = time.perf_counter()
        prepared = loader.next()
        waited = time.perf_counter() - waited
        lr, hr = (to_tensor(pixels, ranks.device) for pixels in take(prepared))  # [N, 3, h, w], [N, 3, h s, w s]
        losses = update(state, recipe, stage, rate, lr, hr, contents, steering, ranks)
        progress.update()

        if not log:
            continue  # another process writes
        log.add(losses, waited)
        step = state.step
        if stage.adversary or step % LOG_EVERY == 0 or step_of_stage == stage.steps - 1:
            validated = step % VALIDATE_EVERY == 0 or step == recipe.steps
            sample = run / "samples" / f"{step:07d}.png"
            quality = validate(state.averaged.network, validation, sample) if validated else None
            progress.set_postfix(log.write(step, rate, quality), refresh=False)
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or step == recipe.steps:
            state.save(run / "checkpoint.pt")
            saved_at = time.monotonic()
    progress.close()
    if log and state.step < recipe.steps:
        state.save(run / "checkpoint.pt")
    return state.averaged.network


def update(
    state: State,
    recipe: Recipe,
    stage: Stage,
    rate: float,
    lr: Tensor,
    hr: Tensor,
    contents: Contents,
    steering: Strengths | None,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """One step: of the generator, then of the stage's discriminator if it has one. The losses before it, by name."""
    network, adversary = state.network, state.adversaries.get(stage)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    random = np.random.default_rng([recipe.seed, state.step, ranks.rank])
    with autocast(recipe.precision, ranks.device):
        seen = window(stage.shift, hr.shape, random)
        given: tuple[Tensor, ...] = ()
        if steering:
            values, hr = steering.steer(lr, hr, random)
            given = (values,)
        sr = network(lr, *given).float()
        losses = generator_losses(stage, sr, hr, seen, contents, adversary)
    state.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    ranks.average_gradients(network)
    state.optimizer.step()
    ranks.average_statistics(network)
    state.averaged.update(network)
    if adversary:
        with autocast(recipe.precision, ranks.device):
            losses |= adversary.losses(sr[seen], hr[seen])
        adversary.step(losses["discriminator"], stage.adversary.rate_ratio * rate, ranks)
    state.step, state.warm = state.step + 1, state.warm + 1
    return losses
