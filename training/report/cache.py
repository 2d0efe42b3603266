"""What was computed once, kept in a folder under names made of what it was computed from."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from training.report.metrics import Pixels


class Cache:
    """Without a folder nothing is kept. An interrupted run leaves whole files only."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def pixels(self, origin: list[object], make: Callable[[], Pixels]) -> Pixels:
        """uint8 ``[H, W, 3]`` of ``make``, or as it made them when ``origin`` was the same."""
        if not (path := self._path(origin, "png")):
            return make()
        if not path.exists():
            Image.fromarray(make()).save(part := part_of(path), "PNG", compress_level=1)
            os.replace(part, path)
        with Image.open(path) as image:
            return np.asarray(image)

    def figures(self, origin: list[object], make: Callable[[], dict[str, float]]) -> dict[str, float]:
        if not (path := self._path(origin, "json")):
            return make()
        if not path.exists():
            (part := part_of(path)).write_text(json.dumps(make()))
            os.replace(part, path)
        found: dict[str, float] = json.loads(path.read_text())
        return found

    def _path(self, origin: list[object], suffix: str) -> Path | None:
        if not self.folder:
            return None
        return self.folder / f"{hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:32]}.{suffix}"


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def digest_of(pixels: Pixels) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
