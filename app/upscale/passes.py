"""One network over a whole image: queues its windows and passes on its rows; and one network after another."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from app.images.pixels import Pixels, Size
from app.inference.batching import LANES
from app.inference.job import Ahead, Job
from app.inference.zoo import ModelSpec
from app.upscale.stitcher import Stitcher
from app.upscale.tiler import Plan, Span, TileBudget, choose_tile, plan_tiles

Read = Callable[[int, int], Pixels]
"""Rows ``[top, bottom)`` of an image, ``[bottom - top, width, C]``, requested from the top down."""

Submit = Callable[[ModelSpec, Pixels, Job], Callable[[], Pixels]]

BLEND = 2  # LR pixels of cross-fade between neighbouring tiles, which the context already makes nearly equal
AHEAD_BYTES = 8 * 2**20  # HR pixels computed ahead of the awaited ones


@dataclass(frozen=True)
class Pass:
    """One network over a whole image. The first pass reads the source, a second one the result of the first."""

    spec: ModelSpec
    plan: Plan

    @property
    def size(self) -> Size:
        return self.plan.height * self.spec.scale, self.plan.width * self.spec.scale


def plan_passes(size: Size, specs: Sequence[ModelSpec], budget: TileBudget) -> tuple[Pass, ...]:
    """The tiles of each network in sequence, for an image of ``size``."""
    passes: list[Pass] = []
    for spec in specs:
        tile = choose_tile(size, spec.scale, spec.macs, spec.context, BLEND, budget, spec.alignment, spec.pixel_bytes)
        passes.append(Pass(spec, plan_tiles(*size, tile, spec.context, BLEND, spec.alignment, spec.macs)))
        size = passes[-1].size
    return tuple(passes)


def load_of(passes: Sequence[Pass], has_alpha: bool) -> list[tuple[ModelSpec, int]]:
    """LR pixels that each network will be shown; alpha counts as an image of its own."""
    return [(each.spec, (1 + has_alpha) * each.plan.computed_pixels) for each in passes]


def run_pass(each: Pass, read: Read, submit: Submit, job: Job) -> Iterator[Pixels]:
    """HR rows in bands. None is kept here once it has been passed on: a slow reader may not ask for the next one for
    long."""
    stitcher = Stitcher(each.plan, each.spec.scale)
    windows = finished(submitted(each, read, submit, job), windows_ahead(each))

    def stitched(row: Span) -> Pixels:
        with job.clock.stage("stitch"):
            return stitcher.band(row, islice(windows, len(each.plan.columns)))

    return map(stitched, each.plan.rows)


def submitted(each: Pass, read: Read, submit: Submit, job: Job) -> Iterator[Ahead]:
    """Queues one window per iteration, left to right, then down."""
    beyond = each.plan.mirrored
    for row in each.plan.rows:
        strip = mirrored_strip(each.plan, row, read)
        for column in each.plan.columns:
            window = strip[:, column.start + beyond : column.stop + beyond]
            yield job.ahead(each.spec, each.plan.tile_pixels, partial(submit, each.spec, window, job))


def mirrored_strip(plan: Plan, row: Span, read: Read) -> Pixels:
    """The source rows of one row of windows, from the left end of the first to the right end of the last: ``[h, w,
    C]``.

    The image is extended by its mirror image, including the outermost pixel (NumPy's "symmetric"), as in the
    reductions that the networks were trained on. Mean error of the outer four rows and columns on B100 x4, where the
    inside has 8.94 (``fast``) and 8.78 (``balanced``): 8.03 and 7.90; mirrored without the outermost pixel 9.20 and
    9.20; that pixel repeated 8.58 and 8.67; with the networks' zero padding 8.02 and 7.83, but with tinted edges. More
    in ``docs/models.md``.
    """
    rows = read(max(0, row.start), min(row.stop, plan.height))
    above, below = max(0, -row.start), max(0, row.stop - plan.height)
    return np.pad(rows, ((above, below), (plan.mirrored, plan.columns[-1].stop - plan.width), (0, 0)), "symmetric")


def windows_ahead(each: Pass) -> int:
    """How many windows are queued behind the awaited one: one per lane, and of small windows up to a band.

    They keep the engine busy while rows are encoded, which takes a tenth of the time; more would only cost memory.
    With one window for two lanes, one lane waits for the encoder and the other finishes last, alone (4 %).
    """
    window_bytes = each.plan.tile_pixels * each.spec.scale**2 * 3
    return max(LANES, min(len(each.plan.columns), AHEAD_BYTES // window_bytes))


def finished(queued: Iterator[Ahead], ahead: int) -> Iterator[Pixels]:
    """The HR windows in order, with ``ahead`` more queued behind each; each is released once it is pasted."""
    waiting = deque(islice(queued, ahead))
    while waiting:
        waiting.extend(islice(queued, 1))
        yield waiting.popleft().result()


def submit_colour(spec: ModelSpec, window: Pixels, job: Job) -> Callable[[], Pixels]:
    """Queues one LR window ``[h, w, 3]``; the returned call waits for the HR window."""
    return partial(job.result, job.submit(spec, window))


class PassedRows:
    """The bands of one pass as the source of the next; rows above those requested last are released."""

    def __init__(self, bands: Iterator[Pixels]) -> None:
        self._bands, self._top = bands, 0
        self._held: Pixels | None = None

    def rows(self, top: int, bottom: int) -> Pixels:
        held = next(self._bands) if self._held is None else self._held[top - self._top :]
        parts, count = [held], len(held)
        while top + count < bottom:
            parts.append(next(self._bands))
            count += len(parts[-1])
        self._held, self._top = np.concatenate(parts), top
        return self._held[: bottom - top]
