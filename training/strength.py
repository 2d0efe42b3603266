"""How a network learns what its second input means: targets between a faithful network's image and its own target."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.architectures import Generator, build
from training.architectures.collapsible import collapse
from training.checkpoint import Folders
from training.recipe import Recipe, StrengthRecipe, load_recipe
from training.warm_start import load_exported


@dataclass(frozen=True)
class Strengths:
    """Draws a strength for each crop of a batch and moves its target accordingly."""

    recipe: StrengthRecipe
    faithful: Generator

    @torch.no_grad()
    def steer(self, lr: Tensor, hr: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Strengths ``[N]`` and the targets ``[N, 3, H, W]``: ``hr`` at 1, the faithful network's image at 0, between
        them in proportion."""
        drawn = random.random(len(lr), np.float32)
        ends = random.choice([0.0, 1.0, np.nan], len(lr), p=[self.recipe.none, self.recipe.full, self.recipe.between])
        values = torch.from_numpy(np.where(np.isnan(ends), drawn, ends).astype(np.float32)).to(lr.device)
        target = hr.clone()
        if (less := values < 1).any():
            faithful = self.faithful(lr[less]).float().clamp(0, 1)
            target[less] = torch.lerp(faithful, hr[less], values[less][:, None, None, None])
        return values, target


def strengths(recipe: Recipe, folders: Folders, device: torch.device) -> Strengths | None:
    """For a recipe with ``[strength]``; the faithful network is the exported one."""
    if not recipe.strength:
        return None
    other = load_recipe(recipe.strength.faithful)
    network = collapse(build(other.scale, **other.network)).eval().requires_grad_(False)
    load_exported(network, folders.models / f"{other.title}.onnx")
    return Strengths(recipe.strength, network.to(device, memory_format=torch.channels_last))
