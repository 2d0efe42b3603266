"""Resamples the rows of an image band by band: memory depends on the width, never on the height.

Each target sample is a weighted sum of the source samples around it, first along the rows, then down the columns, as in
Pillow's ``resize`` with the same kernel. Both passes are products with small dense blocks of the banded weight matrix.
Most of a block is zeros; BLAS is nevertheless faster than Pillow (``benchmarks/resampler.py``), and 16-bit samples cost
it no more than 8-bit ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Block = tuple[
    slice, slice, NDArray[np.float32]
]  # source samples, target samples, the matrix from the former to the latter
Depth = TypeVar("Depth", bound=np.uint8 | np.uint16)

ACROSS = 24  # target samples of a block along a row: larger blocks are mostly zeros, smaller ones mostly calls
ROWS = 16  # target rows of a block down
CHUNK = 128  # source rows converted to float at a time
PRODUCTS = 1 << 18  # multiplications above which OpenBLAS starts threads, which would take the network's cores


def lanczos(x: Floats) -> Floats:
    """The sinc windowed by its own central lobe, three lobes per side. Duchon 1979, Lanczos Filtering."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def bicubic(x: Floats) -> Floats:
    """Cubic convolution with a = -1/2. Keys 1981, Cubic Convolution Interpolation, equation 15."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0.0))


KERNELS: dict[str, tuple[Callable[[Floats], Floats], int]] = {"lanczos": (lanczos, 3), "bicubic": (bicubic, 2)}


@dataclass(frozen=True)
class Axis:
    """Resampling along one direction: ``source`` samples become ``target`` samples over the same length."""

    source: int
    target: int
    kernel: str

    @property
    def step(self) -> float:
        """Source samples per target sample."""
        return self.source / self.target

    @property
    def reach(self) -> float:
        """Source samples on each side of a target sample's centre that contribute. Reductions widen the kernel."""
        return KERNELS[self.kernel][1] * max(1.0, self.step)

    def first(self, index: int) -> int:
        """The first source sample that contributes to target sample ``index``; past the last one, the end of the
        source."""
        if index >= self.target:
            return self.source
        return max(0, int(np.floor((index + 0.5) * self.step - self.reach + 0.5)))

    def ready(self, count: int) -> int:
        """How many target samples, from the start, depend only on the first ``count`` source samples."""
        if count >= self.source:
            return self.target
        return max(0, int(np.ceil((count + 0.5 - self.reach) / self.step - 0.5)))

    def weights(self, starts: NDArray[np.int64], size: int) -> tuple[list[int], NDArray[np.float32]]:
        """The weights of the target samples ``[start, start + size)`` for each of ``starts``.

        They are float32 ``[B, size, K]``, over the ``K`` source samples from the returned positions on, one position
        per start. A target sample's weights sum to 1; weights beyond the end of the source are 0. The last target
        sample may be repeated.
        """
        targets = np.minimum(starts[:, np.newaxis] + np.arange(size), self.target - 1)
        centres = (targets[:, :, np.newaxis] + 0.5) * self.step
        firsts = [self.first(int(start)) for start in starts]
        window = min(self.source, int(np.ceil((size - 1) * self.step + 2 * self.reach)) + 1)
        samples = np.array(firsts, np.int64)[:, np.newaxis, np.newaxis] + np.arange(window)
        kernel, _ = KERNELS[self.kernel]
        weights = kernel((samples + 0.5 - centres) / max(1.0, self.step)) * (samples < self.source)
        return firsts, (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


class Resampler:
    """Takes the rows of an image from the top, band by band, and returns the rows of the resampled image.

    One object serves one image of ``channels`` interleaved channels. Each is resampled by itself: nothing is multiplied
    by alpha. ``source`` and ``target`` are (height, width). Bytes come out within one level of Pillow's
    ``image.resize((width, image.height), kernel).resize((width, height), kernel)``. In a single call, Pillow 13 may
    resample the columns first (if the height shrinks by more than twice as many pixels as the width), and clips other
    overshoots. Splitting the rows into other bands may change samples that lie halfway between two levels.
    """

    def __init__(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        channels: int,
        kernel: Literal["lanczos", "bicubic"] = "lanczos",
    ) -> None:
        if min(*source, *target, channels) < 1:
            raise ValueError(f"cannot resample {source} to {target} in {channels} channels")
        self._row, self._target_row = (source[1], channels), (target[1], channels)
        self._down = Axis(source[0], target[0], kernel)
        self._blocks = list(blocks_across(Axis(source[1], target[1], kernel), channels))
        self._held = np.empty(
            (0, target[1] * channels), np.float32
        )  # source rows at the target's width that are still needed
        self._fed = self._given = 0  # source rows received, target rows returned

    def feed(self, rows: NDArray[Depth]) -> NDArray[Depth]:
        """The target rows that become final with the next source rows: ``[n, target width, C]``, ``n`` may be 0.

        ``rows`` are uint8 or uint16 ``[h, width, C]``; the result has the same depth. The last source row completes the
        last target row. Source rows beyond the height raise ``ValueError``.
        """
        if rows.shape[1:] != self._row or self._fed + len(rows) > self._down.source:
            raise ValueError(f"rows {rows.shape} after {self._fed} of {self._down.source} rows {self._row}")
        count = self._down.ready(self._fed + len(rows)) - self._given
        finished = np.empty((count, self._held.shape[1]), rows.dtype)
        done = 0
        for top in range(0, len(rows), CHUNK):
            self._take(rows[top : top + CHUNK])
            final = self._down.ready(self._fed) - self._given
            self._give(finished[done : done + final])
            done += final
        return finished.reshape(count, *self._target_row)

    def _take(self, rows: NDArray[Depth]) -> None:
        """Resamples ``[h, width, C]`` to the target's width and appends it to the held rows."""
        samples = rows.astype(np.float32, order="C").reshape(len(rows), -1)
        held = np.empty((len(self._held) + len(rows), self._held.shape[1]), np.float32)
        held[: len(self._held)] = self._held
        across = held[len(self._held) :]
        for source, target, matrix in self._blocks:
            for part in parts(len(rows), matrix.size):
                np.matmul(samples[part, source], matrix, out=across[part, target])
        np.clip(across, 0, np.iinfo(rows.dtype).max, out=across)  # like Pillow, whose intermediate rows are bytes
        self._held = held
        self._fed += len(rows)

    def _give(self, finished: NDArray[Depth]) -> None:
        """Fills ``[n, width * C]`` with the next target rows, and drops the held rows that no later one needs."""
        top = self._fed - len(self._held)  # the first source row that is held
        starts = range(0, len(finished), ROWS)
        firsts, weights = self._down.weights(self._given + np.array(starts, np.int64), ROWS)
        for start, first, matrix in zip(starts, firsts, weights, strict=True):
            rows = finished[start : start + ROWS]
            held = self._held[first - top :][: matrix.shape[1]]
            mixed = np.empty((len(rows), held.shape[1]), np.float32)
            for part in parts(held.shape[1], matrix.size):
                np.matmul(matrix[: len(rows), : len(held)], held[:, part], out=mixed[:, part])
            mixed += 0.5  # rounds halves up, like Pillow; the conversion truncates
            rows[:] = np.clip(mixed, 0, np.iinfo(rows.dtype).max, out=mixed)
        self._given += len(finished)
        self._held = self._held[self._down.first(self._given) - top :].copy()


def blocks_across(axis: Axis, channels: int) -> Iterator[Block]:
    """The weights along a row of interleaved samples, about ``ACROSS`` target samples per block.

    A block's matrix, float32 ``[source samples, target samples]``, holds each weight once per channel and zeros between
    the channels: they cost less than separating the channels and interleaving them again.
    """
    size = max(1, ACROSS // channels)  # pixels
    starts = range(0, axis.target, size)
    firsts, weights = axis.weights(np.array(starts, np.int64), size)
    for start, first, weight in zip(starts, firsts, weights, strict=True):
        pixels, taps = min(size, axis.target - start), min(weight.shape[1], axis.source - first)
        matrix = np.zeros((taps, channels, pixels, channels), np.float32)
        for channel in range(channels):
            matrix[:, channel, :, channel] = weight[:pixels, :taps].T
        source = slice(first * channels, (first + taps) * channels)
        target = slice(start * channels, (start + pixels) * channels)
        yield source, target, matrix.reshape(taps * channels, pixels * channels)


def parts(length: int, cost: int) -> Iterator[slice]:
    """``range(length)`` in even parts of at most about ``PRODUCTS`` multiplications, at ``cost`` each."""
    count = min(length, -(-length * cost // PRODUCTS))
    bounds = [length * index // count for index in range(count + 1)]
    return map(slice, bounds, bounds[1:])
