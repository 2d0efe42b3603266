"""An image's rows at one size to its rows at another, band by band: memory depends on the width, never on the height.

Each target sample is a weighted sum of the source samples around it, first along the rows and then down the columns, as
in Pillow's ``resize`` with the same kernel. Both passes are products with small dense blocks of the banded weight
matrix. Most of a block is zeros, and still a BLAS is done with it sooner than Pillow with the rest
(``benchmarks/resampler.py``); and samples of 16 bits cost it no more than those of 8.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Block = tuple[slice, slice, NDArray[np.float32]]  # source samples, target samples, the matrix from these to those
Depth = TypeVar("Depth", bound=np.uint8 | np.uint16)

ACROSS = 24  # target samples of a block along a row: larger blocks are mostly zeros, smaller ones mostly calls
ROWS = 16  # target rows of a block down
CHUNK = 128  # source rows that are floats at one time
PRODUCTS = 1 << 18  # OpenBLAS wakes its threads above so many multiplications; they would take the network's cores


def lanczos(x: Floats) -> Floats:
    """The sinc windowed by its own middle lobe, three lobes to a side. Duchon 1979, Lanczos Filtering."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def bicubic(x: Floats) -> Floats:
    """Cubic convolution with a = -1/2. Keys 1981, Cubic Convolution Interpolation, equation 15."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0.0))


KERNELS: dict[str, tuple[Callable[[Floats], Floats], int]] = {"lanczos": (lanczos, 3), "bicubic": (bicubic, 2)}


@dataclass(frozen=True)
class Axis:
    """Where the samples of one direction come from: ``source`` samples become ``target``, both over the same length."""

    source: int
    target: int
    kernel: str

    @property
    def step(self) -> float:
        """Source samples a target sample."""
        return self.source / self.target

    @property
    def reach(self) -> float:
        """Source samples that count, to each side of a target sample's centre. Reductions widen the kernel."""
        return KERNELS[self.kernel][1] * max(1.0, self.step)

    def first(self, index: int) -> int:
        """The first source sample that target sample ``index`` draws on; past the last one, the source's end."""
        if index >= self.target:
            return self.source
        return max(0, int(np.floor((index + 0.5) * self.step - self.reach + 0.5)))

    def ready(self, count: int) -> int:
        """How many target samples, from the start, draw on none but the first ``count`` source samples."""
        if count >= self.source:
            return self.target
        return max(0, int(np.ceil((count + 0.5 - self.reach) / self.step - 0.5)))

    def weights(self, starts: NDArray[np.int64], size: int) -> tuple[list[int], NDArray[np.float32]]:
        """The weights of the target samples ``[start, start + size)`` for each of ``starts``.

        They are float32 ``[B, size, K]``, over the ``K`` source samples from the returned positions on, one a start.
        A target sample's weights sum to 1, those beyond the source's end are 0. The last target sample may be repeated.
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
    """Takes the rows of an image from the top, band by band, and gives the rows of the same image at another size.

    One object serves one image of ``channels`` interleaved channels, each resampled alone: alpha multiplies nothing.
    ``source`` and ``target`` are (height, width). Bytes come out within one level of what Pillow makes of it by
    ``image.resize((width, image.height), kernel).resize((width, height), kernel)``. In one call, Pillow 13 may go down
    the columns first (when the height loses more than twice the pixels the width does), and clips other overshoots.
    Another split into bands may move a sample that lies halfway between two levels to the other one.
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
        self._held = np.empty((0, target[1] * channels), np.float32)  # source rows of the target's width, still needed
        self._fed = self._given = 0  # source rows taken, target rows given

    def feed(self, rows: NDArray[Depth]) -> NDArray[Depth]:
        """The target rows that are final with these next source rows: ``[n, target width, C]``, ``n`` may be 0.

        ``rows`` are uint8 or uint16 ``[h, width, C]``; the result has their depth. With the last source row the last
        target row comes out. Source rows beyond the height are a ``ValueError``.
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
        """Puts ``[h, width, C]`` to the target's width, below the rows held."""
        samples = rows.astype(np.float32, order="C").reshape(len(rows), -1)
        held = np.empty((len(self._held) + len(rows), self._held.shape[1]), np.float32)
        held[: len(self._held)] = self._held
        across = held[len(self._held) :]
        for source, target, matrix in self._blocks:
            for part in parts(len(rows), matrix.size):
                np.matmul(samples[part, source], matrix, out=across[part, target])
        np.clip(across, 0, np.iinfo(rows.dtype).max, out=across)  # as Pillow, whose rows between the passes are bytes
        self._held = held
        self._fed += len(rows)

    def _give(self, finished: NDArray[Depth]) -> None:
        """Fills ``[n, width * C]`` with the next target rows, and releases the held rows that no later one needs."""
        top = self._fed - len(self._held)  # the source row that is held first
        starts = range(0, len(finished), ROWS)
        firsts, weights = self._down.weights(self._given + np.array(starts, np.int64), ROWS)
        for start, first, matrix in zip(starts, firsts, weights, strict=True):
            rows = finished[start : start + ROWS]
            held = self._held[first - top :][: matrix.shape[1]]
            mixed = np.empty((len(rows), held.shape[1]), np.float32)
            for part in parts(held.shape[1], matrix.size):
                np.matmul(matrix[: len(rows), : len(held)], held[:, part], out=mixed[:, part])
            mixed += 0.5  # halves go up, as in Pillow; the conversion cuts off
            rows[:] = np.clip(mixed, 0, np.iinfo(rows.dtype).max, out=mixed)
        self._given += len(finished)
        self._held = self._held[self._down.first(self._given) - top :].copy()


def blocks_across(axis: Axis, channels: int) -> Iterator[Block]:
    """The weights along a row of interleaved samples, about ``ACROSS`` target samples a block.

    A block's matrix, float32 ``[source samples, target samples]``, holds each weight once per channel and zeros between
    the channels: they cost less than taking the channels apart and putting them together again.
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
