"""Where the tiles of an image lie: pure geometry in LR pixels, no image data.

All tiles of an image have the same shape, so that the engine sees few shapes. A tile's *window* is what the network is
shown, its *core* the part of the result that is kept. Between the two lies at least the network's context. The image is
extended by its mirror image (``mirrored_beyond``), so windows begin before the image and end after it; where the mirror
image ends a window ends too, and the network pads exactly as it would for the whole mirrored image. The cores of
neighbours share ``blend`` pixels, over which the stitcher fades from one to the other.
If a network works in cells of ``alignment`` pixels, every window consists of whole cells, counted from the first pixel
of the mirror image.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from app.inference.batching import LANES

FIRST_BAND = 1 / 4  # of the image's height and of the time, at most, if a band can be that flat
SMALLEST_CORE = 32  # LR pixels per side of the smallest core, however expensive the network
DEAR = 5_000_000  # multiply-accumulates per LR pixel; more expensive networks may have larger tiles
DEAR_BANDS = 4  # times as tall as usual its bands may be: little memory compared with that of its tiles
OVERLAP = 1.2  # ratio of computed pixels to the image's own above which a larger tile is tried
MOST_MIRRORED = 16
"""LR pixels of mirror image beyond each border, at most. A network pads with zeros, as if the image lay on black, so
saturated flat colours come out up to 34 levels (of 255) wrong at the border. With this much mirror image the border is
no worse than the inside (``tests/upscale/test_borders.py``)."""


@dataclass(frozen=True)
class TileBudget:
    """What a tile and a band may cost.

    ``macs``: multiply-accumulates of one tile; bounds how long the engine is busy and how large its activations grow.
    ``pixels``: LR pixels of one tile, for networks so small that ``macs`` does not bind.
    ``tile_bytes``: activations of one tile, where they are known. If a network's tiles would be mostly overlap within
    ``macs``, they may grow up to this. Such a tile takes seconds, so the scheduler runs one at a time.
    ``band_bytes``: bytes of one band's HR rows; bounds a request's memory, whatever its width.
    """

    macs: int = 50_000_000_000
    pixels: int = 114_688
    tile_bytes: int = 1792 * 2**20
    band_bytes: int = 24 * 2**20

    def area(self, macs: int, pixel_bytes: int) -> int:
        """LR pixels of an ordinary tile. ``pixel_bytes``: of activations, 0 if unknown."""
        fitting = self.tile_bytes // (LANES * pixel_bytes) if pixel_bytes else self.pixels
        return max(1, min(self.pixels, self.macs // max(1, macs), fitting))

    def largest_area(self, macs: int, pixel_bytes: int) -> int:
        """LR pixels of the largest tile that is allowed in order to reduce overlap."""
        usual = self.area(macs, pixel_bytes)
        return max(usual, self.tile_bytes // pixel_bytes) if pixel_bytes and macs > DEAR else usual


@dataclass(frozen=True)
class Span:
    """One tile along one axis, LR pixels: the window ``[start, stop)`` and the core ``[core_start, core_stop)``.

    The image begins at 0; before it and after its end, a window covers the mirror image.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class Plan:
    """The tiles of one image: the product of ``rows`` and ``columns``. ``blend`` is shared by neighbouring cores;
    ``mirrored``: LR pixels of mirror image before the image; beyond its end up to ``alignment`` - 1 more."""

    height: int
    width: int
    blend: int
    mirrored: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def tiles(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def tile_pixels(self) -> int:
        """LR pixels of one window."""
        return (self.rows[0].stop - self.rows[0].start) * (self.columns[0].stop - self.columns[0].start)

    @property
    def computed_pixels(self) -> int:
        """LR pixels of all windows; divided by ``width * height``, how much is computed in excess."""
        return self.tiles * self.tile_pixels

    @property
    def band_rows(self) -> int:
        """LR rows of the tallest band that is pasted at a time."""
        return max(row.core_stop - row.core_start for row in self.rows)


def plan_tiles(
    height: int, width: int, tile: tuple[int, int], context: int, blend: int, alignment: int = 1, macs: int = 0
) -> Plan:
    """Tiles for an image of ``height`` x ``width``, windows no larger than ``tile`` (rows, columns).

    An image that fits one tile with its mirror image gets exactly one, of that size.
    """
    rows = spans(height, tile[0], context, blend, alignment, macs)
    columns = spans(width, tile[1], context, blend, alignment, macs)
    return Plan(height, width, blend, mirrored_beyond(context, alignment, macs), rows, columns)


def mirrored_beyond(context: int, alignment: int = 1, macs: int = 0) -> int:
    """LR pixels of mirror image beyond each border, for a network of that context and cost."""
    most = MOST_MIRRORED if macs <= DEAR else MOST_MIRRORED // 2
    return cells(min(context, most), alignment) * alignment


def cells(pixels: int, alignment: int) -> int:
    """The number of cells that cover ``pixels``."""
    return -(-pixels // alignment)


@dataclass(frozen=True)
class Tiling:
    """One way to cut an image: ``down`` times ``across`` windows of ``rows`` x ``columns``."""

    rows: int
    columns: int
    down: int
    across: int

    @property
    def computed(self) -> int:
        """LR pixels of all windows."""
        return self.down * self.across * self.rows * self.columns

    @property
    def cost(self) -> int:
        """In half pixels: those computed plus half a tile, for which one lane waits for the other at the end."""
        return 2 * self.computed + self.rows * self.columns

    @property
    def is_quick(self) -> bool:
        """Whether a band takes at most ``FIRST_BAND`` of the time. Windows are computed two at a time, so one takes as
        long as two, and three as long as four."""
        return self.across + self.across % 2 <= FIRST_BAND * self.down * self.across


def choose_tile(
    size: tuple[int, int],
    scale: int,
    macs: int,
    context: int,
    blend: int,
    budget: TileBudget,
    alignment: int = 1,
    pixel_bytes: int = 0,
) -> tuple[int, int]:
    """The tile (rows, columns) within the budget with which an image of ``size`` is computed soonest.

    That is the one of least ``cost``, mirror image included; ``macs`` are multiply-accumulates per pixel. Of equally
    good tiles the flattest is chosen, because its band is finished first. No band of a large image has more than
    ``FIRST_BAND`` of its rows, so that the first bytes leave soon, nor takes more than that share of the time, if half
    a tile of further pixels suffices for that. The tiles of an expensive network grow by a quarter at a time while they
    overlap much and ``tile_bytes`` allows it: computing pixels several times serves no reader sooner. If ``alignment``
    is not 1, the choice is made in cells.
    """
    if alignment > 1:
        area = alignment**2
        fewer = replace(budget, pixels=budget.pixels // area)
        height, width, context, blend = (cells(length, alignment) for length in (*size, context, blend))
        rows, columns = choose_tile(
            (height, width), scale * alignment, macs * area, context, blend, fewer, pixel_bytes=pixel_bytes * area
        )
        return rows * alignment, columns * alignment
    height, width = size
    beyond = 2 * mirrored_beyond(context, macs=macs)
    shown = height + beyond, width + beyond
    least = least_window(context, blend)
    area = max(least**2, budget.area(macs, pixel_bytes))
    largest = max(area, budget.largest_area(macs, pixel_bytes))
    band = budget.band_bytes // (width * scale**2 * 3)
    best = best_tiling(shown, min(band, int(height * FIRST_BAND)), area, context, blend)
    while area < largest and best.computed > OVERLAP * shown[0] * shown[1]:
        area = min(largest, area * 5 // 4)
        larger = tilings_within(shown, DEAR_BANDS * band, area, context, blend)
        best = min([best, *larger], key=lambda tiling: tiling.computed)
    return best.rows, best.columns


def least_window(context: int, blend: int) -> int:
    """The side of the smallest window, LR pixels."""
    return 2 * context + blend + SMALLEST_CORE


def best_tiling(shown: tuple[int, int], band: int, area: int, context: int, blend: int) -> "Tiling":
    """The tiling of ``tilings_within`` that is computed soonest and yields its first band soon."""
    tilings = tilings_within(shown, band, area, context, blend)
    fewest = min(each.computed for each in tilings)
    quick = [each for each in tilings if each.is_quick or each.rows <= 2 * least_window(context, blend)]
    quick = [each for each in quick if 2 * (each.computed - fewest) <= area]
    return min(quick or tilings, key=lambda tiling: (tiling.cost, tiling.rows, tiling.columns))


def tilings_within(shown: tuple[int, int], band: int, area: int, context: int, blend: int) -> "list[Tiling]":
    """All tilings with windows of at most ``area`` pixels, and bands of ``band`` rows if windows can be that flat; one
    window for the whole image if it is no larger."""
    if shown[0] * shown[1] <= area:
        return [Tiling(*shown, 1, 1)]
    least = least_window(context, blend)
    return list(tilings_of(shown, least, min(max(2 * least, band), area // least), area, 2 * context + blend))


def tilings_of(size: tuple[int, int], least: int, tallest: int, area: int, lost: int) -> Iterator[Tiling]:
    """All ways to cut an image, its mirror image included in ``size``, into tiles of ``least`` to ``tallest`` rows and
    as many columns as ``area`` permits, with windows no larger than needed; for each number of bands also one with a
    window more.

    More windows than necessary are worth a look: sides are rounded up, so they may add up to fewer pixels.
    """
    height, width = size
    most_across = windows_across(width, least, lost)
    for down in range(windows_across(height, tallest, lost), windows_across(height, least, lost) + 1):
        rows = window_size(height, down, lost)
        taller = (
            min(tallest, window_size(height, down - 1, lost) - 1) if down > 1 else tallest
        )  # and still the same number of bands
        fewest, most = (windows_across(width, max(least, area // each), lost) for each in (rows, taller))
        for across in range(fewest, min(max(fewest + 1, most), most_across) + 1):
            yield Tiling(rows, window_size(width, across, lost), down, across)


def windows_across(length: int, largest: int, lost: int) -> int:
    """How many windows of at most ``largest`` cover ``length``; each after the first adds its size less ``lost``."""
    return 1 + max(0, -(-(length - largest) // (largest - lost)))


def window_size(length: int, count: int, lost: int) -> int:
    """The smallest size with which ``count`` windows cover ``length``."""
    return -(-(length + (count - 1) * lost) // count)


def spans(length: int, largest: int, context: int, blend: int, alignment: int = 1, macs: int = 0) -> tuple[Span, ...]:
    """The fewest windows that cover ``length`` and the mirror image at both its ends: all of one size, at most
    ``largest`` and no larger than needed.

    >>> [(s.start, s.stop, s.core_start, s.core_stop) for s in spans(100, 64, context=4, blend=2)]
    [(-4, 55, 0, 51), (45, 104, 49, 100)]
    """
    beyond = mirrored_beyond(context, alignment, macs)
    shown, most = cells(length + 2 * beyond, alignment), largest // alignment  # in cells from here on
    if shown <= most:
        return (Span(-beyond, shown * alignment - beyond, 0, length),)
    lost = 2 * cells(context, alignment) + cells(blend, alignment)
    if most <= lost:
        raise ValueError(f"a tile of {largest} pixels is too small for a context of {context}")
    count = windows_across(shown, most, lost)
    size = window_size(shown, count, lost)
    starts = [round(i * (shown - size) / (count - 1)) * alignment - beyond for i in range(count)]
    size *= alignment
    joints = [(after + before + size) // 2 for before, after in pairwise(starts)]
    fades = [(joint - blend // 2, joint - blend // 2 + blend) for joint in joints]
    core_starts = [0, *(fade[0] for fade in fades)]
    core_stops = [*(fade[1] for fade in fades), length]
    return tuple(
        Span(start, start + size, core_start, core_stop)
        for start, core_start, core_stop in zip(starts, core_starts, core_stops, strict=True)
    )
