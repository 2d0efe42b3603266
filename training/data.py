"""Pictures to training pairs: decoded once, kept memory-mapped, cut and turned at random, ahead of the network."""

import hashlib
import json
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.degradations import DEGRADATIONS

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}

Pixels = NDArray[np.uint8]


def list_pictures(folder: Path) -> list[Path]:
    """Every picture below ``folder``, sorted, so that the same folder gives the same order everywhere."""
    pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not pictures:
        raise ValueError(f"no pictures in {folder}; give a folder of pictures with --data")
    return pictures


def read_picture(path: Path, multiple: int = 1) -> Pixels:
    """uint8 ``[H, W, 3]``, cropped at the bottom and right to multiples of ``multiple``."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
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

    The files are made once for a folder, scale and degradation, in ``cache``; a changed folder makes new ones.
    """

    def __init__(self, folder: Path, scale: int, degradation: str, cache: Path) -> None:
        self.scale = scale
        paths = list_pictures(folder)
        states = [p.stat() for p in paths]
        stamp = [(str(p.relative_to(folder)), s.st_size, s.st_mtime_ns) for p, s in zip(paths, states, strict=True)]
        key = hashlib.sha256(json.dumps([stamp, scale, degradation]).encode()).hexdigest()[:16]
        index_file = cache / f"{key}.json"
        if not index_file.exists():
            cache.mkdir(parents=True, exist_ok=True)
            _pack(paths, scale, degradation, cache / key)
        index = json.loads(index_file.read_text())
        self.sizes: list[tuple[int, int]] = [tuple(size) for size in index["sizes"]]
        self.detail = np.array(index["detail"])
        self._hr = np.memmap(cache / f"{key}.hr", np.uint8, "r")
        self._lr = np.memmap(cache / f"{key}.lr", np.uint8, "r")
        pixels = np.array([h * w * 3 for h, w in self.sizes])
        self._starts = np.concatenate([[0], np.cumsum(pixels)])

    def __len__(self) -> int:
        return len(self.sizes)

    def pair(self, index: int) -> tuple[Pixels, Pixels]:
        """LR uint8 ``[h, w, 3]`` and HR uint8 ``[h * scale, w * scale, 3]``."""
        h, w = self.sizes[index]
        area = self.scale**2
        start, stop = self._starts[index], self._starts[index + 1]
        lr = self._lr[start:stop].reshape(h, w, 3)
        hr = self._hr[start * area : stop * area].reshape(h * self.scale, w * self.scale, 3)
        return lr, hr


def _pack(paths: list[Path], scale: int, degradation: str, target: Path) -> None:
    """Writes ``target.hr``, ``target.lr`` and, last, ``target.json``; an interrupted run leaves no index."""
    degrade = DEGRADATIONS[degradation]
    sizes: list[tuple[int, ...]] = []
    detail = []
    with open(f"{target}.hr", "wb") as hr_file, open(f"{target}.lr", "wb") as lr_file:
        for path in tqdm(paths, desc="packing pictures", unit="picture"):
            hr = read_picture(path, multiple=scale)
            if not hr.size:
                continue  # smaller than one LR pixel
            lr = degrade(hr, scale)
            hr_file.write(np.ascontiguousarray(hr).tobytes())
            lr_file.write(lr.tobytes())
            sizes.append(lr.shape[:2])
            detail.append(round(float(np.abs(np.diff(hr.astype(np.int16), axis=1)).mean()), 3))
    if not sizes:
        raise ValueError(f"no picture of {len(paths)} is as large as {scale} x {scale} px")
    Path(f"{target}.part").write_text(json.dumps({"sizes": sizes, "detail": detail}))
    os.replace(f"{target}.part", f"{target}.json")


def batches(
    pairs: PairSet, crop: int, batch: int, sampling: str, seed: int, first_step: int, last_step: int
) -> Iterator[tuple[Pixels, Pixels]]:
    """One batch a step: LR uint8 ``[N, crop, crop, 3]`` and HR ``[N, crop * scale, crop * scale, 3]``.

    The random numbers of a step depend on the seed and the step alone, so a resumed run sees what an unbroken one sees.
    """
    usable = np.array([i for i, (h, w) in enumerate(pairs.sizes) if min(h, w) >= crop])
    if not len(usable):
        raise ValueError(f"no picture is as large as one crop ({crop * pairs.scale} px)")
    weights = pairs.detail[usable] if sampling == "detail" else np.ones(len(usable))
    weights = weights / weights.sum()
    for step in range(first_step, last_step):
        rng = np.random.default_rng((seed, step))
        chosen = rng.choice(usable, size=batch, p=weights)
        crops = [_random_crop(pairs, int(index), crop, rng) for index in chosen]
        yield np.stack([lr for lr, _ in crops]), np.stack([hr for _, hr in crops])


def _random_crop(pairs: PairSet, index: int, crop: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    lr, hr = pairs.pair(index)
    s = pairs.scale
    y = int(rng.integers(lr.shape[0] - crop + 1))
    x = int(rng.integers(lr.shape[1] - crop + 1))
    patches = lr[y : y + crop, x : x + crop], hr[y * s : (y + crop) * s, x * s : (x + crop) * s]
    flip_y, flip_x, transpose = rng.integers(2, size=3)
    lr, hr = (_turn(p, bool(flip_y), bool(flip_x), bool(transpose)) for p in patches)
    return lr, hr


def _turn(patch: Pixels, flip_y: bool, flip_x: bool, transpose: bool) -> Pixels:
    """One of the eight symmetries of the square."""
    patch = patch[::-1] if flip_y else patch
    patch = patch[:, ::-1] if flip_x else patch
    return patch.transpose(1, 0, 2) if transpose else patch


class Prefetcher:
    """Runs an iterator of batches in a thread, ``depth`` ahead; an exception there is raised here."""

    def __init__(self, source: Iterator[tuple[Pixels, Pixels]], depth: int = 8) -> None:
        self._queue: queue.Queue[tuple[Pixels, Pixels] | BaseException] = queue.Queue(depth)
        threading.Thread(target=self._fill, args=(source,), daemon=True).start()

    def _fill(self, source: Iterator[tuple[Pixels, Pixels]]) -> None:
        try:
            for item in source:
                self._queue.put(item)
            self._queue.put(StopIteration())
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            self._queue.put(error)

    def next(self) -> tuple[Pixels, Pixels]:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item
