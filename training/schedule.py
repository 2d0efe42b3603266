"""Where a step stands in its recipe: its stage, and the learning rate."""

import math

from training.recipe import Recipe, Stage


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
