"""The losses of a recipe's stages, each by its own module, and their weighted sum."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from training.architectures.discriminators import DISCRIMINATORS
from training.checkpoint import Folders
from training.hardware import in_bf16
from training.losses.adversarial import ADVERSARIAL, Adversary
from training.losses.perceptual import VGG19_SOURCES, ContentLoss, load_vgg19
from training.losses.pixel import PIXEL_LOSSES, grid
from training.recipe import ContentRecipe, Recipe, Stage

Contents = Mapping[ContentRecipe, ContentLoss]

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
    contents: Contents,
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
        if in_bf16(recipe.precision, device):  # frozen, so cast once, not every step; the normalisation stays fp32
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
