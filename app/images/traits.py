"""What an image looks like, in a few numbers: how hard it was compressed, how noisy, sharp and even it is.

The numbers come from the header and from at most ``WINDOWS`` windows spread evenly over the pixels, so they take a few
milliseconds whatever the size of the image, and depend on nothing but the file.
"""

from dataclasses import astuple, dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.images.channels import at_depth
from app.images.formats import Container
from app.images.formats.jpeg import segments_of
from app.images.source import SourceImage

SIDE, WINDOWS = 64, 36  # pixels of a window's side, and how many there are at most
BLOCK = 8  # pixels of a JPEG block's side; also the unit in which evenness and noise are measured
LEAST_SIDE = 2 * BLOCK  # with less there is nothing to measure
LOSSLESS_BITS = 24.0

Levels = NDArray[np.int16]
"""Luma of the windows, int16 ``[n, h, w]`` in 0 to 255."""

STANDARD_LUMA = (
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51),
    *(61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77),
    *(113, 121, 112, 100, 120, 92, 101, 103, 99),
)
"""The luma quantisation table of JPEG (ITU-T T.81, table K.1) in zigzag order: libjpeg's quality 50."""


@dataclass(frozen=True)
class Traits:
    """``quality``: libjpeg's, 1 to 100, from a JPEG's tables; 100 of every other format. ``bits``: per pixel of the
    file if it is a lossy WebP, AVIF or HEIC, at most 24, and 24 of all else.

    Shares are 0 to 1. ``equal``: neighbouring pixels of the same level. ``even``: blocks within 6 levels.
    ``two_toned``: in blocks with strong edges, pixels at either end of the block's levels. ``colours``: pixels of the
    8 most frequent of 4,096 colours. ``steps``: neighbours more than 40 levels apart.

    ``noise``: its standard deviation in levels, in the smoothest fifth of the blocks that are not even. ``sharp``:
    differences between neighbours over those between next but one, where there is most detail: 0.5 if blurred, 1 for
    noise. ``blocks``: differences across the grid of 8 pixels over those elsewhere; 1: no grid is visible.
    """

    quality: float = 100.0
    bits: float = LOSSLESS_BITS
    equal: float = 0.0
    even: float = 0.0
    two_toned: float = 0.0
    colours: float = 0.0
    steps: float = 0.0
    plain: float = 0.0
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
    return Windows(sampled(source)).traits(jpeg_quality(container), lossy_bits(container))


def sampled(source: SourceImage) -> NDArray[np.uint8]:
    """Windows spread evenly over the image, uint8 ``[n, h, w, 3]``, whose corners are multiples of ``BLOCK``."""
    height, width = min(SIDE, source.height), min(SIDE, source.width)
    down = min(source.height // height, int(WINDOWS**0.5))
    across = min(source.width // width, WINDOWS // down)
    down = min(source.height // height, WINDOWS // across)
    found = []
    for top in spread(source.height - height, down):
        band = at_depth(source.rows(top, top + height), 8)
        found += [band[:, left : left + width] for left in spread(source.width - width, across)]
    return np.stack(found)


def spread(room: int, count: int) -> list[int]:
    """``count`` multiples of ``BLOCK`` from 0 to ``room``, a single one in the middle."""
    shares = [(number + 0.5) / count if count == 1 else number / (count - 1) for number in range(count)]
    return [int(room * share) // BLOCK * BLOCK for share in shares]


def jpeg_quality(container: Container) -> float:
    """libjpeg's quality of the luma table, 1 to 100; 100 if the file is no JPEG or has no such table."""
    if container.header.format != "jpeg":
        return 100.0
    for marker, contents in segments_of(container):
        if marker == 0xDB and len(contents) >= 65 and contents[0] == 0:  # table 0 of 8 bits, usually luma's
            percent = 100 * sum(contents[1:65]) / sum(STANDARD_LUMA)
            return min(100.0, max(1.0, 5000 / percent if percent > 100 else (200 - percent) / 2))
        if marker == 0xDA:
            break
    return 100.0


def lossy_bits(container: Container) -> float:
    """Bits per pixel of a lossy WebP, AVIF or HEIC; ``LOSSLESS_BITS`` of all else."""
    header = container.header
    start = bytes(container.stream[0][:64]) if container.stream else b""
    if header.format not in ("webp", "avif", "heic") or b"VP8L" in start:
        return LOSSLESS_BITS
    return min(LOSSLESS_BITS, 8 * sum(map(len, container.stream)) / (header.width * header.height))


@dataclass(frozen=True, eq=False)
class Windows:
    """The sampled pixels, uint8 ``[n, h, w, 3]``, and what is measured in them."""

    pixels: NDArray[np.uint8]

    def traits(self, quality: float, bits: float) -> Traits:
        numbers = (
            *(quality, bits, self.equal, self.even, self.two_toned, self.colours, self.steps),
            *(self.plain, self.noise, self.sharp, self.acute, self.blocks),
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
        red, green, blue = (self.pixels[..., channel].astype(np.int16) >> 4 for channel in range(3))
        counts = np.bincount((red << 8 | green << 4 | blue).ravel(), minlength=4096)
        return float(np.partition(counts, -8)[-8:].sum() / counts.sum())

    @property
    def steps(self) -> float:
        return float(np.mean(self.across > 40))

    @property
    def plain(self) -> float:
        strong = self.range > 60
        if not strong.any():
            return 0.0
        steps = in_blocks(np.pad(self.across, ((0, 0), (0, 0), (0, 1))))[strong]
        return float(np.mean(16 * steps <= self.range[strong][:, None]))

    @property
    def acute(self) -> float:
        strong = self.range > 40
        if not strong.any():
            return 0.7
        across = in_blocks(np.pad(self.across, ((0, 0), (0, 0), (0, 1))))[strong].max(axis=1)
        down = in_blocks(np.pad(self.down, ((0, 0), (0, 1), (0, 0))))[strong].max(axis=1)
        return float(np.percentile(np.maximum(across, down) / self.range[strong], 75))

    @property
    def noise(self) -> float:
        """By the filter of Immerkær (1996), which passes neither edges nor slopes."""
        y = self.luma
        rows = y[:, :-2] - 2 * y[:, 1:-1] + y[:, 2:]
        passed = np.abs(rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:])
        blocks = in_blocks(passed).mean(axis=1)
        uneven = blocks[blocks > 0.25]
        return float(np.percentile(uneven, 20) * (np.pi / 2) ** 0.5 / 6) if len(uneven) else 0.0

    @property
    def sharp(self) -> float:
        near = in_blocks(self.across).mean(axis=1)
        far = in_blocks(np.abs(self.luma[:, :, 2:] - self.luma[:, :, :-2])).mean(axis=1)
        detailed = far >= np.percentile(far, 75)
        total = float(far[detailed].sum())
        return float(near[detailed].sum()) / total if total else 0.7

    @property
    def blocks(self) -> float:
        """Of both directions, the one in which the grid shows less."""
        return min(grid(self.across.mean(axis=(0, 1))), grid(self.down.mean(axis=(0, 2))))


def in_blocks(levels: Levels) -> Levels:
    """Whole blocks of windows ``[n, h, w]``, as ``[blocks, BLOCK * BLOCK]``."""
    count, height, width = len(levels), levels.shape[1] // BLOCK, levels.shape[2] // BLOCK
    whole = levels[:, : height * BLOCK, : width * BLOCK].reshape(count, height, BLOCK, width, BLOCK)
    return whole.swapaxes(2, 3).reshape(-1, BLOCK * BLOCK)


def grid(means: NDArray[np.floating]) -> float:
    """The mean difference at the most conspicuous of the 8 phases over that at the others."""
    whole = means[: len(means) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=0)
    most = float(whole.max())
    others = float((whole.sum() - most) / (BLOCK - 1))
    return (most + 0.1) / (others + 0.1)
