"""MNIST's files (idx, plain or gzip), and any others of that format: Fashion-MNIST, KMNIST, one's own."""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UINT8 = 0x08  # idx's type byte; the only one that MNIST's family uses
SIDE = 28  # pixels

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """Pictures uint8 ``[N, 28, 28]`` and their classes uint8 ``[N]``, 0 to 9."""

    pictures: Pixels
    labels: Pixels

    def __len__(self) -> int:
        return len(self.pictures)


def read_idx(path: Path) -> Pixels:
    """An idx file of bytes (http://yann.lecun.com/exdb/mnist): two zeros, the type, the number of axes, their lengths
    as big-endian uint32, then the bytes. ``ValueError`` tells what is wrong."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        data = file.read()
    if len(data) < 4 or data[:3] != bytes([0, 0, UINT8]):
        raise ValueError(f"{path} is no idx file of bytes")
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise ValueError(f"{path} ends within its header")
    shape = struct.unpack(f">{axes}I", data[4:start])
    if len(data) - start != (expected := int(np.prod(shape))):
        raise ValueError(f"{path} has {len(data) - start} bytes after its header, not {expected}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def load_split(folder: Path, split: str) -> Labelled:
    """``split`` is "train" or "t10k", as MNIST names its files, which may end with .gz or not."""
    pictures = read_idx(_find(folder, f"{split}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{split}-labels-idx1-ubyte"))
    if pictures.ndim != 3 or pictures.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"the pictures in {folder} have shape {pictures.shape}, not (N, {SIDE}, {SIDE})")
    if labels.shape != pictures.shape[:1]:
        raise ValueError(f"{folder} has {len(pictures)} pictures in {split}, but labels of shape {labels.shape}")
    if labels.max(initial=0) > 9:
        raise ValueError(f"{folder} has the class {labels.max()}; there may be ten, 0 to 9")
    return Labelled(pictures, labels)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"no {name}(.gz) in {folder}: give MNIST's folder, or one of that shape, with --pictures")
