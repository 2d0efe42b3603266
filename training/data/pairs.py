"""Pictures to training pairs: decoded once, kept memory-mapped, cut and turned at random, ahead of the network."""

import hashlib
import itertools
import json
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.data.degradations import DEGRADATIONS, RANDOM_DEGRADATIONS
from training.recipe import DataRecipe

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")

MARGIN = 4  # LR pixels round a crop that are degraded with it, so that no blur and no JPEG block ends at its edge


def list_pictures(folder: Path) -> list[Path]:
    """Every picture below ``folder``, sorted, so that the same folder gives the same order everywhere."""
    pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not pictures:
        raise ValueError(f"no pictures in {folder}; give a folder of pictures with --data")
    return pictures


def read_picture(path: Path, multiple: int = 1, reduction: float = 1.0) -> Pixels:
    """uint8 ``[H, W, 3]``, reduced by a factor, then cropped at the bottom and right to multiples of ``multiple``."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    if reduction != 1:
        sides = (max(1, round(side / reduction)) for side in picture.size)
        picture = picture.resize(tuple(sides), Image.Resampling.LANCZOS)  # antialiased
    pixels = np.asarray(picture)
    h, w = (side - side % multiple for side in pixels.shape[:2])
    return pixels[:h, :w]


class Pairs(Protocol):
    """Aligned pictures by number: what training validates on."""

    scale: int

    def __len__(self) -> int: ...

    def pair(self, index: int) -> tuple[Pixels, Pixels]:
        """LR uint8 ``[h, w, 3]`` and HR uint8 ``[h * scale, w * scale, 3]``."""
        ...


class PairSet:
    """HR pictures and their LR versions in two flat uint8 files, memory-mapped.

    The files are made once for a folder, scale and degradation, in ``cache``; a changed folder makes new ones. A random
    degradation's numbers depend on a picture's place in the folder alone. Each picture is there once for each of
    ``reductions``, the factors by which its sides are reduced first: 1 is the picture itself.

    ``lr`` and ``hr`` are all pictures one behind the other, flat; the LR one of number ``i`` begins at ``starts[i]``,
    the HR one at ``scale`` squared times that.
    """

    def __init__(
        self, folder: Path, scale: int, degradation: str, cache: Path, reductions: tuple[float, ...] = (1.0,)
    ) -> None:
        self.scale = scale
        paths = list_pictures(folder)
        states = [p.stat() for p in paths]
        stamp = [(str(p.relative_to(folder)), s.st_size, s.st_mtime_ns) for p, s in zip(paths, states, strict=True)]
        key = hashlib.sha256(json.dumps([stamp, scale, degradation, *reductions]).encode()).hexdigest()[:16]
        index_file = cache / f"{key}.json"
        if not index_file.exists():
            cache.mkdir(parents=True, exist_ok=True)
            _pack(paths, scale, degradation, cache / key, reductions)
        index = json.loads(index_file.read_text())
        self.sizes: list[tuple[int, int]] = [tuple(size) for size in index["sizes"]]
        self.detail = np.array(index["detail"])
        self.hr: Pixels = np.memmap(cache / f"{key}.hr", np.uint8, "r")
        self.lr: Pixels = np.memmap(cache / f"{key}.lr", np.uint8, "r")
        pixels = np.array([h * w * 3 for h, w in self.sizes])
        self.starts = np.concatenate([[0], np.cumsum(pixels)])

    def __len__(self) -> int:
        return len(self.sizes)

    def pair(self, index: int) -> tuple[Pixels, Pixels]:
        """LR uint8 ``[h, w, 3]`` and HR uint8 ``[h * scale, w * scale, 3]``."""
        h, w = self.sizes[index]
        area = self.scale**2
        start, stop = self.starts[index], self.starts[index + 1]
        lr = self.lr[start:stop].reshape(h, w, 3)
        hr = self.hr[start * area : stop * area].reshape(h * self.scale, w * self.scale, 3)
        return lr, hr


def _pack(paths: list[Path], scale: int, degradation: str, target: Path, reductions: tuple[float, ...]) -> None:
    """Writes ``target.hr``, ``target.lr`` and, last, ``target.json``; an interrupted run leaves no index."""
    sizes: list[tuple[int, ...]] = []
    detail = []
    with open(f"{target}.hr", "wb") as hr_file, open(f"{target}.lr", "wb") as lr_file:
        versions = list(itertools.product(paths, reductions))
        for number, (path, reduction) in enumerate(tqdm(versions, desc="packing pictures", unit="picture")):
            hr = read_picture(path, multiple=scale, reduction=reduction)
            if not hr.size:
                continue  # smaller than one LR pixel
            lr = _degraded(hr, scale, degradation, number)
            hr_file.write(np.ascontiguousarray(hr).tobytes())
            lr_file.write(lr.tobytes())
            sizes.append(lr.shape[:2])
            detail.append(round(float(np.abs(np.diff(hr.astype(np.int16), axis=1)).mean()), 3))
    if not sizes:
        raise ValueError(f"no picture of {len(paths)} is as large as {scale} x {scale} px")
    Path(f"{target}.part").write_text(json.dumps({"sizes": sizes, "detail": detail}))
    os.replace(f"{target}.part", f"{target}.json")


def _degraded(hr: Pixels, scale: int, degradation: str, number: int) -> Pixels:
    if degradation in RANDOM_DEGRADATIONS:
        return RANDOM_DEGRADATIONS[degradation](hr, scale, np.random.default_rng(number))
    return DEGRADATIONS[degradation](hr, scale)


@dataclass(frozen=True)
class Cut:
    """Where a square crop lies, LR pixels, and what becomes of it: ``flips`` down and across, then ``transpose``, then
    the channels in that ``order``."""

    picture: int
    top: int
    left: int
    side: int
    flips: tuple[bool, bool]
    transpose: bool
    order: tuple[int, int, int] = (0, 1, 2)


def chances(pairs: PairSet, data: DataRecipe) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pictures that are as large as a crop, and of each the share of the crops that are cut from it."""
    usable = np.array([i for i, (h, w) in enumerate(pairs.sizes) if min(h, w) >= data.crop])
    if not len(usable):
        raise ValueError(f"no picture is as large as one crop ({data.crop * pairs.scale} px)")
    weights = pairs.detail[usable] if data.sampling == "detail" else np.ones(len(usable))
    return usable, weights / weights.sum()


def draws(
    pairs: PairSet, data: DataRecipe, seed: int, first_step: int, last_step: int, rank: int = 0
) -> Iterator[tuple[list[int], np.random.Generator]]:
    """Of each step the pictures its crops are from, and the random numbers for the rest.

    They depend on the seed, the step and the process' rank alone, so a resumed run sees what an unbroken one sees.
    """
    usable, shares = chances(pairs, data)
    for step in range(first_step, last_step):
        rng = np.random.default_rng((seed, step, rank) if rank else (seed, step))
        yield rng.choice(usable, size=data.batch, p=shares).tolist(), rng


def draw_cut(pairs: PairSet, picture: int, side: int, data: DataRecipe, rng: np.random.Generator) -> Cut:
    height, width = pairs.sizes[picture]
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    flip_y, flip_x, transpose = rng.integers(2, size=3).astype(bool).tolist()
    cut = Cut(picture, top, left, side, (flip_y, flip_x), transpose)
    return replace(cut, order=tuple(rng.permutation(3).tolist())) if data.permute else cut


def batches(
    pairs: PairSet, data: DataRecipe, seed: int, first_step: int, last_step: int, rank: int = 0
) -> Iterator[tuple[Pixels, Pixels]]:
    """One batch a step: LR uint8 ``[N, crop, crop, 3]`` and HR ``[N, crop * scale, crop * scale, 3]``, as ``draws``
    has it. By a random degradation LR is made anew for each crop.
    """
    for chosen, rng in draws(pairs, data, seed, first_step, last_step, rank):
        crops = [random_crop(pairs, picture, data, rng) for picture in chosen]
        yield stacked(crops, data.flat, rng)


def random_crop(pairs: PairSet, picture: int, data: DataRecipe, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """LR uint8 ``[crop, crop, 3]`` and HR ``[crop * scale, crop * scale, 3]`` from anywhere in a picture."""
    s, crop, degrade = pairs.scale, data.crop, RANDOM_DEGRADATIONS.get(data.degradation)
    margin = min(MARGIN, (min(pairs.sizes[picture]) - crop) // 2) if degrade else 0
    lr, hr = cut_out(pairs, draw_cut(pairs, picture, crop + 2 * margin, data, rng))
    if degrade:
        lr = degrade(np.ascontiguousarray(hr), s, rng)
    kept, kept_hr = slice(margin, margin + crop), slice(margin * s, (margin + crop) * s)
    return lr[kept, kept], hr[kept_hr, kept_hr]


def cut_out(pairs: PairSet, cut: Cut) -> tuple[Pixels, Pixels]:
    """The LR and the HR crop, views where that is possible."""

    def part(pixels: Pixels, scale: int) -> Pixels:
        top, left, side = cut.top * scale, cut.left * scale, cut.side * scale
        patch = turned(pixels[top : top + side, left : left + side], *cut.flips, cut.transpose)
        return patch if cut.order == (0, 1, 2) else patch[:, :, list(cut.order)]

    lr, hr = pairs.pair(cut.picture)
    return part(lr, 1), part(hr, pairs.scale)


def turned(patch: Pixels, flip_y: bool, flip_x: bool, transpose: bool) -> Pixels:
    """One of the eight symmetries of the square."""
    patch = patch[::-1] if flip_y else patch
    patch = patch[:, ::-1] if flip_x else patch
    return patch.transpose(1, 0, 2) if transpose else patch


def stacked(crops: Sequence[tuple[Pixels, Pixels]], share: float, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """LR and HR of one batch, with a flat pair in place of such a ``share`` of the crops."""
    if share:
        crops = [flat(*crop, rng) if rng.random() < share else crop for crop in crops]
    return np.stack([lr for lr, _ in crops]), np.stack([hr for _, hr in crops])


def flat(lr: Pixels, sr: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A pair of the same sizes in one colour, each of whose channels is at an end of the range in a third of all."""
    colour = np.clip(rng.integers(-64, 320, 3), 0, 255).astype(np.uint8)
    return np.broadcast_to(colour, lr.shape), np.broadcast_to(colour, sr.shape)


class Prefetcher(Generic[Item]):
    """Runs an iterator of batches in a thread, ``depth`` ahead; an exception there is raised here."""

    def __init__(self, source: Iterator[Item], depth: int = 8) -> None:
        self._queue: queue.Queue[Item | BaseException] = queue.Queue(depth)
        threading.Thread(target=self._fill, args=(source,), daemon=True).start()

    def _fill(self, source: Iterator[Item]) -> None:
        try:
            for item in source:
                self._queue.put(item)
            self._queue.put(StopIteration())
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            self._queue.put(error)

    def next(self) -> Item:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item
