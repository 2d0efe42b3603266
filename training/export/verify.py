"""What is shown of a graph before it is written: it equals the network, and how far that one looks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import skimage.data
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from app.inference.providers import create_session
from app.threads import usable_cores
from training.architectures import Generator
from training.export.face import STRENGTH

CONTEXT_TOLERANCE = 0.25  # levels of 255 by which a core may move, before rounding, when its surroundings are cut
MAX_CONTEXT = 48  # LR pixels
MAX_SEAM = 2.0  # levels of 255 by which tiles may differ from the whole picture where no context within that suffices
MAX_PHOTO_SEAM = 8.0  # the same of an imported network, on photographs
BEYOND = 16  # LR pixels around the widest context that is tried: what it leaves out must be seen


def parity(network: Callable[..., Tensor], model: onnx.ModelProto, original: str = "torch") -> int:
    """The largest difference, in levels of 255, between the graph with the face and the network it was made from.

    More than 1 is an error. ``original`` is what that network is called there.
    """
    session = create_session(model.SerializeToString(), "candidate", "cpu", usable_cores())
    rng = np.random.default_rng(0)
    worst = 0
    for shape in ((1, 32, 32, 3), (2, 17, 41, 3), (1, 1, 1, 3), (1, 64, 5, 3)):
        image = rng.random(shape, np.float32)
        given = {"image": image}
        if any(each.name == STRENGTH for each in model.graph.input):
            given[STRENGTH] = rng.random(len(image), np.float32)
        others = [torch.from_numpy(given[name]) for name in given if name != "image"]
        with torch.no_grad():
            planes = network(torch.from_numpy(image).permute(0, 3, 1, 2), *others).permute(0, 2, 3, 1).numpy()
        expected = np.rint(np.clip(planes, 0, 1) * 255)
        upscaled, upscaled16 = session.run(["upscaled", "upscaled16"], given)
        worst = max(
            worst, int(np.abs(upscaled - expected).max()), int(np.abs(np.rint(upscaled16 / 257) - expected).max())
        )
    if worst > 1:
        raise ValueError(f"the exported graph differs from {original} by {worst} levels of 255")
    return worst


@torch.no_grad()
def measure_context(network: Generator, max_seam: float = MAX_SEAM) -> tuple[int, float]:
    """The least surroundings, in LR pixels, from which on a core comes out within ``CONTEXT_TOLERANCE`` of the whole.

    With it comes the seam: by how many levels of 255 the core still moves, 0 where the tolerance holds. If not even
    ``MAX_CONTEXT`` holds it, that is taken as long as the seam is not over ``max_seam``; beyond, ``ValueError``, as for
    a network that gives no numbers.
    Measured on noise, the hardest picture, on step edges, and on noise that ends in white beyond the widest context,
    which shows a network that looks at the whole. The widest is tried with the one beyond it: a network that works in
    cells of several pixels and does not say so (``alignment``) is then seen out of step with them.
    """
    margin, core, s, step = MAX_CONTEXT + BEYOND, 16, network.scale, network.alignment
    side = 2 * margin + core
    noise = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    framed = F.pad(noise[:1, :, BEYOND:-BEYOND, BEYOND:-BEYOND], (BEYOND,) * 4, value=1.0)
    picture = torch.cat([noise, (noise[:1] > 0.5).float(), framed])
    given: tuple[Tensor, ...] = ()
    if network.takes_strength:  # at both ends of it
        given = (torch.tensor([0.0, 1.0]).repeat_interleave(len(picture)),)
        picture = picture.repeat(2, 1, 1, 1)

    def core_with(context: int) -> Tensor:
        start, stop, inner = margin - context, margin + core + context, slice(context * s, (context + core) * s)
        return network(picture[:, :, start:stop, start:stop], *given)[:, :, inner, inner].clamp(0, 1)

    whole = core_with(margin)

    def moves(context: int) -> float:
        return (core_with(context) - whole).abs().max().item() * 255

    seam = float(np.max([moves(MAX_CONTEXT + step), moves(MAX_CONTEXT)]))
    if not seam <= max(max_seam, CONTEXT_TOLERANCE):  # nor if it is no number
        raise ValueError(
            f"no context up to {MAX_CONTEXT} LR pixels suffices: with that a pixel still moves by {seam:.1f} levels of "
            f"255 (allowed: {max_seam:g}), so tiles would show; the network looks further, or at the whole picture"
        )
    if seam > CONTEXT_TOLERANCE:
        return MAX_CONTEXT, round(seam, 2)
    context = MAX_CONTEXT
    while context and moves(context - step) <= CONTEXT_TOLERANCE:
        context -= step
    return context, 0.0


@dataclass(frozen=True)
class Seam:
    """By how many levels of 255 the core of a tile differs from the whole picture on photographs."""

    worst: float
    mean: float

    def __str__(self) -> str:
        return f"{self.worst:.1f} levels of 255 at most and {self.mean:.2f} in the mean"


@torch.no_grad()
def photo_seam(network: Generator, context: int) -> Seam:
    """What a context that does not suffice on noise means on photographs: three of scikit-image's, reduced by 2."""
    margin, core, s = MAX_CONTEXT + BEYOND, 16, network.scale
    inner = slice(context * s, (context + core) * s)
    found = []
    for name in ("astronaut", "coffee", "rocket"):
        photo = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None].float() / 255
        picture = F.avg_pool2d(photo, 2)[:, :, 40 : 40 + 2 * margin + core, 60 : 60 + 2 * margin + core].contiguous()
        start, stop = margin - context, margin + core + context
        whole = network(picture)[:, :, margin * s : (margin + core) * s, margin * s : (margin + core) * s]
        part = network(picture[:, :, start:stop, start:stop].contiguous())[:, :, inner, inner]
        found.append((part.clamp(0, 1) - whole.clamp(0, 1)).abs() * 255)
    moved = torch.cat(found)
    return Seam(round(moved.max().item(), 2), round(moved.mean().item(), 3))


def seam_noted(title: str, seam: float) -> dict[str, float]:
    """For the manifest, and on the terminal, where tiles are not quite the whole picture."""
    if not seam:
        return {}
    print(f"{title}: warning: tiles differ from the whole picture by up to {seam:g} levels of 255")
    return {"seam": seam}


def least_context(model: onnx.ModelProto, scale: int, least: int, alignment: int = 1) -> int:
    """As ``measure_context``, for a graph with the face: the least, not below ``least``, that moves no level by over 1.

    Raises ``ValueError`` where none does. Measured anew for int8: what moves the float network by a hundredth of a
    level may push a code over its rounding edge, layer after layer. That is rare, so the cores are large: 24 pictures
    of noise, 400,000 LR pixels.
    """
    session = create_session(model.SerializeToString(), "candidate", "cpu", usable_cores())
    margin, core = MAX_CONTEXT + BEYOND, 128
    side = 2 * margin + core
    smooth = np.random.default_rng(0).random((8, side, side, 3), np.float32)
    hard = (smooth > 0.5).astype(np.float32)
    pictures = np.concatenate([smooth, hard, np.repeat(hard[..., :1], 3, axis=3)])

    def cores(context: int) -> Iterator[NDArray[np.int16]]:
        start, stop = margin - context, margin + core + context
        inner = slice(context * scale, (context + core) * scale)
        for picture in pictures:
            image = picture[None, start:stop, start:stop]
            yield session.run(["upscaled"], {"image": image})[0][:, inner, inner].astype(np.int16)

    whole = list(cores(margin))
    for context in range(least, MAX_CONTEXT + 1, alignment):
        if all(np.abs(part - full).max() <= 1 for part, full in zip(cores(context), whole, strict=True)):
            return context
    raise ValueError(f"no context up to {MAX_CONTEXT} LR pixels keeps the int8 network within one level of the whole")
