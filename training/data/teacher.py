"""What a teacher draws: its images of seeded, degraded crops, made once and kept, for a student to learn from.

A set lies in a folder: ``lr`` and ``sr``, flat uint8 files of pairs one behind the other. The n-th pair depends on the
recipe and on n alone, so that a killed run goes on where it was and a longer set begins with the shorter one's pairs.
Students of a smaller scale learn from the same set: what the teacher drew is reduced for them.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor, nn
from tqdm import tqdm

from training.data.degradations import spoiled_at_random
from training.data.pairs import Pixels, list_pictures, read_picture, stacked, turned
from training.export.foreign import read_foreign
from training.hardware import computes_bf16
from training.recipe import TAUGHT_MARGIN, DataRecipe, TeacherRecipe

Made = TypeVar("Made")


class TaughtPairs:
    """LR crops, uint8 ``[side, side, 3]``, and the teacher's images of them, ``drawn_at`` times as large; batches are
    made for a student of ``scale``, which is no larger."""

    def __init__(self, folder: Path, pairs: int, side: int, drawn_at: int, scale: int) -> None:
        self.side, self.drawn_at, self.scale = side, drawn_at, scale
        self.lr: Pixels = np.memmap(folder / "lr", np.uint8, "r", shape=(pairs, side, side, 3))
        self.sr: Pixels = np.memmap(folder / "sr", np.uint8, "r", shape=(pairs, side * drawn_at, side * drawn_at, 3))

    def __len__(self) -> int:
        return len(self.sr)

    def batches(
        self, data: DataRecipe, seed: int, first_step: int, last_step: int, rank: int = 0
    ) -> Iterator[tuple[Pixels, Pixels]]:
        """One batch a step: LR uint8 ``[N, crop, crop, 3]`` and the teacher's ``[N, crop * scale, crop * scale, 3]``.

        Cut and turned at random; the random numbers depend on the seed, the step and the process' rank alone.
        """
        detail = self.detail() if data.sampling == "detail" else np.ones(len(self))
        shares = detail / detail.sum()
        for step in range(first_step, last_step):
            rng = np.random.default_rng((seed, step, rank) if rank else (seed, step))
            chosen = rng.choice(len(self), size=data.batch, p=shares).tolist()
            crops = [self._crop(pair, data.crop, rng) for pair in chosen]
            yield stacked(crops, data.flat, rng)

    def detail(self) -> NDArray[np.float64]:
        """The mean gradient of each of the teacher's images, in levels; never 0."""
        return np.array([0.1 + np.abs(np.diff(sr[::4].astype(np.int16), axis=1)).mean() for sr in self.sr])

    def _crop(self, pair: int, crop: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        top, left = rng.integers(TAUGHT_MARGIN, self.side - TAUGHT_MARGIN - crop + 1, 2).tolist()
        flip_y, flip_x, transpose = rng.integers(2, size=3).astype(bool).tolist()

        lr = self.lr[pair, top : top + crop, left : left + crop]
        sr = self._drawn(pair, top, left, crop)
        return turned(lr, flip_y, flip_x, transpose), turned(sr, flip_y, flip_x, transpose)

    def _drawn(self, pair: int, top: int, left: int, crop: int) -> Pixels:
        """The teacher's image of an LR crop, at the student's scale."""
        s = self.drawn_at
        box = (left * s, top * s, (left + crop) * s, (top + crop) * s)
        if s == self.scale:
            return self.sr[pair, box[1] : box[3], box[0] : box[2]]
        side = crop * self.scale
        return np.asarray(Pillow.fromarray(self.sr[pair]).resize((side, side), Pillow.Resampling.BICUBIC, box))


def taught_folder(recipe: TeacherRecipe, teacher: Path, photos: Path, drawn_at: int, cache: Path) -> Path:
    """Where a set lies: the same for the same crops, photographs and teacher, however many pairs are asked for."""
    names = [str(p.relative_to(photos)) for p in list_pictures(photos)]
    factors = [float(factor) for factor in recipe.factors]  # 4 and 4.0 are the same crops
    same = {key: value for key, value in asdict(recipe).items() if key != "credit"}
    asked = {**same, "pairs": None, "factors": factors, "scale": drawn_at}
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()
    key = hashlib.sha256(json.dumps([asked, names, digest]).encode()).hexdigest()[:16]
    return cache / f"taught-{key}"


def make_taught(recipe: TeacherRecipe, teacher: Path | None, photos: Path, scale: int, cache: Path) -> TaughtPairs:
    """The set of ``recipe.pairs`` pairs for a student of ``scale``; those that are missing are made first."""
    if teacher is None or not teacher.is_file():
        raise ValueError(
            f"the recipe has a teacher, whose weights are needed (--teacher FILE): {teacher or 'not given'}"
        )
    network, drawn_at = read_teacher(teacher)
    if drawn_at < scale:
        raise ValueError(f"{teacher.name} enlarges by {drawn_at}: it cannot teach a network of x{scale}")
    folder = taught_folder(recipe, teacher, photos, drawn_at, cache)
    made = whole_pairs(folder, recipe.side, drawn_at)
    if made < recipe.pairs:
        append_pairs(recipe, network, list_pictures(photos), folder, range(made, recipe.pairs))
    return TaughtPairs(folder, recipe.pairs, recipe.side, drawn_at, scale)


def whole_pairs(folder: Path, side: int, scale: int) -> int:
    """How many pairs lie in a folder, which is made where it is missing; one that a kill left half written is cut."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {folder / "lr": 3 * side**2, folder / "sr": 3 * (side * scale) ** 2}
    for path in sizes:
        path.touch()
    made = min(path.stat().st_size // size for path, size in sizes.items())
    for path, size in sizes.items():
        os.truncate(path, made * size)
    return made


def read_teacher(path: Path) -> tuple[nn.Module, int]:
    """The network and its scale."""
    foreign = read_foreign(path)
    if not isinstance(foreign.network, nn.Module):
        raise ValueError(f"{path.name}: a teacher is a file of weights, not an ONNX graph")
    return foreign.network.eval().to(memory_format=torch.channels_last), foreign.scale


def append_pairs(recipe: TeacherRecipe, network: nn.Module, pictures: list[Path], folder: Path, numbers: range) -> None:
    def pair(number: int) -> tuple[Pixels, Pixels]:
        lr = degraded_crop(recipe, pictures, number)
        return lr, drawn(network, lr)

    progress = tqdm(desc="teacher", unit="pair", initial=numbers.start, total=numbers.stop, mininterval=10)
    with open(folder / "lr", "ab") as lr_file, open(folder / "sr", "ab") as sr_file, progress:
        for lr, sr in side_by_side(pair, numbers):
            lr_file.write(lr.tobytes())
            lr_file.flush()
            sr_file.write(sr.tobytes())
            sr_file.flush()
            progress.update()


def side_by_side(work: Callable[[int], Made], numbers: range) -> Iterator[Made]:
    """``map``, one image a core: faster than one image on all cores, which wait for each other after every layer."""
    threads = torch.get_num_threads()
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for number in numbers:
            waiting.append(pool.submit(work, number))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def degraded_crop(recipe: TeacherRecipe, pictures: list[Path], number: int) -> Pixels:
    """The n-th LR crop: uint8 ``[side, side, 3]``. Photographs go by in an order of their own each time round."""
    rng = np.random.default_rng((recipe.seed, number))
    order = np.random.default_rng((recipe.seed, 1 << 32, number // len(pictures))).permutation(len(pictures))
    pixels = read_picture(pictures[order[number % len(pictures)]])
    factor = recipe.factors[rng.choice(len(recipe.factors), p=recipe.shares)]
    height, width = pixels.shape[:2]
    window = min(round(recipe.side * factor), height, width)
    top, left = rng.integers(height - window + 1), rng.integers(width - window + 1)
    cut = np.ascontiguousarray(pixels[top : top + window, left : left + window])
    return spoiled_at_random(cut, (recipe.side, recipe.side), rng)


@torch.no_grad()
def drawn(network: nn.Module, lr: Pixels) -> Pixels:
    """What the teacher makes of uint8 ``[H, W, 3]``, rounded to the same."""
    device = next(network.parameters()).device
    image = torch.from_numpy(np.array(lr)).to(device).permute(2, 0, 1)[None].float() / 255
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16(device)):
        sr: Tensor = network(image)
    return sr[0].float().permute(1, 2, 0).mul(255).round().clamp(0, 255).byte().cpu().numpy()
