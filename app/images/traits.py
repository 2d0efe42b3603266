"""What an image looks like, in a few numbers: how hard it was compressed, how noisy, sharp and even it is.

The numbers come from the header and from at most ``WINDOWS`` windows spread evenly over the pixels, so they take a few
milliseconds whatever the size of the image, and depend on nothing but the file.
"""

from dataclasses import astuple, dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.images.channels import at_depth
from app.images.codec_quality import LOSSLESS, quality_of
from app.images.formats import Container
from app.images.source import SourceImage

SIDE, WINDOWS = 64, 25  # pixels of a window's side, and how many there are at most
BLOCK = 8  # pixels of a JPEG block's side; also the unit in which evenness and noise are measured
LEAST_SIDE = 2 * BLOCK  # with less there is nothing to measure
LOSSLESS_BITS = 24.0
STRIP_SAMPLES = 2**20  # of the rows read at a time

Levels = NDArray[np.int16]
"""Luma of the windows, int16 ``[n, h, w]`` in 0 to 255."""


@dataclass(frozen=True)
class Traits:
    """``quality``: that of a JPEG or lossy WebP, 1 to 100; 100 of every other format. ``bits``: per pixel of an AVIF or
    HEIC file, at most 24, and 24 of all else.

    Shares are 0 to 1. ``equal``: neighbouring pixels of the same level. ``even``: blocks within 6 levels.
    ``two_toned``: in blocks with strong edges, pixels at either end of the block's levels. ``colours``: pixels of the
    8 most frequent of 4,096 colours. ``steps``: neighbours more than 40 levels apart.

    ``noise``: its standard deviation in levels, in the smoothest tenth of the blocks that are not even. ``sharp``:
    differences between neighbours over those between next but one, where there is most detail: 0.5 if blurred, 1 for
    noise. ``acute``: the largest step within a block over the block's range, where edges are sharpest. ``blocks``: how
    much more often steps lie on a grid of 8 pixels than elsewhere; 1: no grid is visible.
    """

    quality: float = LOSSLESS
    bits: float = LOSSLESS_BITS
    equal: float = 0.0
    even: float = 0.0
    two_toned: float = 0.0
    colours: float = 0.0
    steps: float = 0.0
    noise: float = 0.0
    sharp: float = 0.7
    acute: float = 0.7
    blocks: float = 1.0

    def row(self) -> tuple[float, ...]:
        return astuple(self)


NAMES = tuple(field.name for field in fields(Traits))


def traits_of(container: Container, source: SourceImage) -> Traits | None:
    """The traits of a decoded image; None if it is too small to have any."""
    if min(source.width, source.height) < LEAST_SIDE:
        return None
    return Windows(sampled(source)).traits(quality_of(container), lossy_bits(container))


def sampled(source: SourceImage) -> NDArray[np.uint8]:
    """Windows spread evenly over the image, uint8 ``[n, h, w, 3]``, whose corners are multiples of ``BLOCK``."""
    height, width = min(SIDE, source.height), min(SIDE, source.width)
    down = min(source.height // height, int(WINDOWS**0.5))
    across = min(source.width // width, WINDOWS // down)
    down = min(source.height // height, WINDOWS // across)
    lefts, count = spread(source.width - width, across), max(1, STRIP_SAMPLES // (3 * source.width))
    windows = np.empty((down, across, height, width, 3), np.uint8)
    for band, top in enumerate(spread(source.height - height, down)):
        for start in range(0, height, count):
            strip = source.rows(top + start, top + min(height, start + count))
            for column, left in enumerate(lefts):
                windows[band, column, start : start + count] = at_depth(strip[:, left : left + width], 8)
    return windows.reshape(-1, height, width, 3)


def spread(room: int, count: int) -> list[int]:
    """``count`` multiples of ``BLOCK`` from 0 to ``room``, a single one in the middle."""
    shares = [(number + 0.5) / count if count == 1 else number / (count - 1) for number in range(count)]
    return [int(room * share) // BLOCK * BLOCK for share in shares]


def lossy_bits(container: Container) -> float:
    """Bits per pixel of an AVIF or HEIC; ``LOSSLESS_BITS`` of all else."""
    header = container.header
    if header.format not in ("avif", "heic"):
        return LOSSLESS_BITS
    return min(LOSSLESS_BITS, 8 * sum(map(len, container.stream)) / (header.width * header.height))


@dataclass(frozen=True, eq=False)
class Windows:
    """The sampled pixels, uint8 ``[n, h, w, 3]``, and what is measured in them."""

    pixels: NDArray[np.uint8]

    def traits(self, quality: float, bits: float) -> Traits:
        numbers = (
            *(quality, bits, self.equal, self.even, self.two_toned, self.colours, self.steps),
            *(self.noise, self.sharp, self.acute, self.blocks),
        )
        return Traits(*(round(float(number), 4) for number in numbers))

    @cached_property
    def luma(self) -> Levels:
        red, green, blue = (self.pixels[..., channel].astype(np.uint16) for channel in range(3))
        return ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.int16)

    @cached_property
    def across(self) -> Levels:
        """Absolute differences between horizontal neighbours."""
        return np.asarray(np.abs(self.luma[:, :, 1:] - self.luma[:, :, :-1]))

    @cached_property
    def down(self) -> Levels:
        return np.asarray(np.abs(self.luma[:, 1:] - self.luma[:, :-1]))

    @cached_property
    def tiles(self) -> Levels:
        """Luma in blocks, ``[blocks, BLOCK * BLOCK]``."""
        return in_blocks(self.luma)

    @cached_property
    def low(self) -> Levels:
        return np.asarray(self.tiles.min(axis=1))

    @cached_property
    def range(self) -> Levels:
        return np.asarray(self.tiles.max(axis=1) - self.low)

    @property
    def equal(self) -> float:
        return float((np.mean(self.across == 0) + np.mean(self.down == 0)) / 2)

    @property
    def even(self) -> float:
        return float(np.mean(self.range <= 6))

    @property
    def two_toned(self) -> float:
        strong = self.range > 80
        if not strong.any():
            return 0.0
        reach = (self.range[strong] >> 3)[:, None]
        above = self.tiles[strong] - self.low[strong][:, None]
        return float(np.mean((above <= reach) | (above >= self.range[strong][:, None] - reach)))

    @property
    def colours(self) -> float:
        red, green, blue = (self.pixels[:, ::2, ::2, channel].astype(np.intp) >> 4 for channel in range(3))
        counts = np.bincount((red << 8 | green << 4 | blue).ravel(), minlength=4096)
        return float(np.partition(counts, -8)[-8:].sum() / counts.sum())

    @property
    def steps(self) -> float:
        return float(np.mean(self.across > 40))

    @property
    def acute(self) -> float:
        strong = self.range > 40
        if not strong.any():
            return 0.7
        across = in_blocks(np.pad(self.across, ((0, 0), (0, 0), (0, 1))))[strong].max(axis=1)
        down = in_blocks(np.pad(self.down, ((0, 0), (0, 1), (0, 0))))[strong].max(axis=1)
        return float(np.percentile(np.maximum(across, down) / self.range[strong], 90))

    @property
    def noise(self) -> float:
        """By the filter of Immerkær (1996), which passes neither edges nor slopes."""
        y = self.luma[::2]  # every other window
        rows = y[:, :-2] - 2 * y[:, 1:-1] + y[:, 2:]
        passed = np.abs(rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:])
        blocks = in_blocks(passed).mean(axis=1)
        uneven = blocks[blocks > 0.25]
        return float(np.percentile(uneven, 10) * (np.pi / 2) ** 0.5 / 6) if len(uneven) else 0.0

    @property
    def sharp(self) -> float:
        near = in_blocks(self.across[:, :, :-1]).mean(axis=1)
        far = in_blocks(np.abs(self.luma[:, :, 2:] - self.luma[:, :, :-2])).mean(axis=1)
        detailed = far >= np.percentile(far, 75)
        total = float(far[detailed].sum())
        return float(near[detailed].sum()) / total if total else 0.7

    @property
    def blocks(self) -> float:
        return grid(peaks(self.across) + peaks(self.down.swapaxes(1, 2)))


def in_blocks(levels: Levels) -> Levels:
    """Whole blocks of windows ``[n, h, w]``, as ``[blocks, BLOCK * BLOCK]``."""
    count, height, width = len(levels), levels.shape[1] // BLOCK, levels.shape[2] // BLOCK
    whole = levels[:, : height * BLOCK, : width * BLOCK].reshape(count, height, BLOCK, width, BLOCK)
    return whole.swapaxes(2, 3).reshape(-1, BLOCK * BLOCK)


def peaks(steps: Levels) -> NDArray[np.float64]:
    """For each of the 8 phases of the last axis, how often a difference there exceeds both of its neighbours.

    That edges are high does not matter, so only a grid makes one phase differ.
    """
    middle = steps[:, :, 1:-1]
    found = ((middle > steps[:, :, :-2]) & (middle > steps[:, :, 2:])).mean(axis=(0, 1))
    whole: NDArray[np.float64] = found[: len(found) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=0)
    return whole


def grid(phases: NDArray[np.float64]) -> float:
    """The most conspicuous phase over the mean of the others."""
    most = float(phases.max())
    return (most + 0.1) / (float(phases.sum() - most) / (BLOCK - 1) + 0.1)
