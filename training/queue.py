"""Recipes trained in turns for as long as the machine is there, each exported at the end of its turn.

A queue is a TOML file of ``[[turn]]`` tables: ``recipe``, ``minutes``, ``export``. Rounds go on until every recipe is
at its last step. A run without its checkpoint goes on from the model that was exported from it.
"""

import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.checkpoint import Folders, steps_done
from training.export.publish import export
from training.recipe import Recipe, load_recipe, typed
from training.train import train

QUEUE = Path(__file__).parent / "queue.toml"


@dataclass(frozen=True)
class Turn:
    """``minutes`` of training, then an export, unless the network is only what another starts from."""

    recipe: str
    minutes: float = 60.0
    export: bool = True

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"[[turn]] minutes = {self.minutes!r} is not a time")


def load_queue(path: Path) -> list[tuple[Turn, Recipe]]:
    """The turns of a round; ``ValueError`` names what is wrong."""
    with open(path, "rb") as file:
        table = tomllib.load(file)
    if set(table) != {"turn"}:
        raise ValueError(f"{path.name}: a queue is a list of [[turn]] tables")
    turns = [typed(Turn, turn) for turn in table["turn"]]
    return [(turn, load_recipe(turn.recipe)) for turn in turns]


def run_queue(path: Path, folders: Folders, commit: bool) -> None:
    """Rounds until nothing is left to train. The file is read anew for each round: it may be changed meanwhile."""
    while unfinished := [(t, r) for t, r in load_queue(path) if steps_done(r, folders) < r.steps]:
        for turn, recipe in unfinished:
            take_turn(turn, recipe, folders, commit)


def take_turn(turn: Turn, recipe: Recipe, folders: Folders, commit: bool) -> None:
    train(recipe, folders, go_on=True, stop=after(turn.minutes))
    if turn.export:
        export(recipe, folders, folders.models)
        if commit:
            commit_models(folders.models, f"Models: {recipe.title} at step {steps_done(recipe, folders):,}")


def after(minutes: float) -> Callable[[], bool]:
    end = time.monotonic() + 60 * minutes
    return lambda: time.monotonic() >= end


def commit_models(models: Path, message: str) -> None:
    """The models alone, whatever else is changed in the work tree; nothing where they are as they were."""
    subprocess.run(["git", "add", "--", "."], cwd=models, check=True)
    if subprocess.run(["git", "diff", "--cached", "--quiet", "--", "."], cwd=models).returncode:
        subprocess.run(["git", "commit", "--quiet", "-m", message, "--", "."], cwd=models, check=True)
