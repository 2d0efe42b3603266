"""The whole way of a picture, as one generator: the API, the command line and the evaluation all walk it."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.decoder import SourceImage
from app.encoders import FORMATS, Encoder, Picture, create_encoder
from app.record import StageClock
from app.resampler import Resampler
from app.scheduler import Job, Scheduler
from app.stitcher import Stitcher
from app.tiler import Plan, TileBudget, choose_tile, plan_tiles
from app.zoo import ModelSpec

Pixels = NDArray[np.uint8]
Size = tuple[int, int]  # height, width

BLEND = 2  # LR pixels over which neighbouring tiles fade into each other; the context already makes them nearly equal
AHEAD_BYTES = 8 * 2**20  # HR pixels computed ahead of those that are waited for
ALPHA_ROWS = 64  # LR rows of the alpha plane that are resampled at a time


@dataclass(frozen=True)
class Output:
    """What is asked for beside the network. ``quality`` 1 to 100; ``background`` fills what JPEG cannot leave open."""

    format: str = "png"
    quality: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    metadata: bool = True


@dataclass(frozen=True)
class Pass:
    """One network over a whole picture. The first pass sees the source, a second one what the first has made."""

    spec: ModelSpec
    plan: Plan

    @property
    def size(self) -> Size:
        return self.plan.height * self.spec.scale, self.plan.width * self.spec.scale


@dataclass(frozen=True)
class Work:
    """A picture ready to be enlarged: decoded, planned, and its output known to fit its format."""

    source: SourceImage
    passes: tuple[Pass, ...]
    output: Output
    picture: Picture
    encoder: Encoder


def plan_passes(size: Size, specs: Sequence[ModelSpec], budget: TileBudget) -> tuple[Pass, ...]:
    """The tiles of each network in turn, for a picture of ``size``."""
    passes: list[Pass] = []
    for spec in specs:
        tile = choose_tile(size, spec.scale, spec.macs, spec.context, BLEND, budget)
        passes.append(Pass(spec, plan_tiles(*size, tile, spec.context, BLEND)))
        size = passes[-1].size
    return tuple(passes)


def prepare(
    source: SourceImage, specs: Sequence[ModelSpec], output: Output, budget: TileBudget, size: Size | None = None
) -> Work:
    """Plans the work; whatever the output format cannot hold is refused here, before anything is computed.

    ``size`` is the result's; without one it is what the networks give.
    """
    passes = plan_passes((source.height, source.width), specs, budget)
    height, width = size or passes[-1].size
    colours = 1 if source.gray else 3
    transparent = source.alpha is not None and FORMATS[output.format].alpha
    picture = Picture(
        width=width,
        height=height,
        channels=colours + transparent,
        icc_profile=source.icc_profile,  # a profile says what the numbers mean: it is kept even without metadata
        exif=source.exif if output.metadata else None,
        dpi=source.dpi if output.metadata else None,
    )
    return Work(source, passes, output, picture, create_encoder(output.format, picture, output.quality))


def open_job(work: Work, scheduler: Scheduler, seconds: float, clock: StageClock | None = None) -> Job:
    """Admits the work, or raises ``OverloadedError``; it must be done within ``seconds``. The caller closes the job."""
    pixels = [(each.spec, each.plan.computed_pixels) for each in work.passes]
    return scheduler.open(pixels, time.monotonic() + seconds, clock)


def upscale(work: Work, job: Job) -> Iterator[bytes]:
    """The enlarged picture's file, piece by piece: the first piece comes when the first band of rows is finished.

    A few windows are computed while a band is encoded, and none beyond that before the next piece is asked for.
    Raises ``DeadlineError``, ``CancelledError`` or ``ComputeError``; then what was given so far is no whole file.
    """
    alpha = AlphaRows(work.source.alpha, work.picture) if work.source.alpha is not None else None
    header = work.encoder.begin()
    for rows in enlarged_rows(work, job):
        rows = with_source_channels(rows, alpha.take(len(rows)) if alpha else None, work)
        with job.clock.stage("encode"):
            piece = header + work.encoder.write(rows)
        del rows  # a band is let go before the next one is stitched
        yield piece
        header = b""
    yield work.encoder.finish()


def enlarged_rows(work: Work, job: Job) -> Iterator[Pixels]:
    """The result's rows in bands, uint8 ``[n, W, 3]``: through each network in turn, then to the size asked for."""
    source: RowSource = work.source
    for each in work.passes:
        bands = run_pass(each, source, job)
        source = PassedRows(bands)
    size = work.picture.height, work.picture.width
    if size == work.passes[-1].size:
        yield from bands
        return
    resampler = Resampler(work.passes[-1].size, size, channels=3)
    for band in bands:
        rows = resampler.feed(band)
        if len(rows):
            yield rows


def run_pass(each: Pass, source: "RowSource", job: Job) -> Iterator[Pixels]:
    """HR rows in bands."""
    stitcher = Stitcher(each.plan, each.spec.scale)
    windows = finished(submitted(each, source, job), windows_ahead(each), job)
    for row in each.plan.rows:
        with job.clock.stage("stitch"):
            band = stitcher.band(row, islice(windows, len(each.plan.columns)))
        yield band


def submitted(each: Pass, source: "RowSource", job: Job) -> Iterator[Future[Pixels]]:
    """Queues one window whenever the next is asked for, left to right, then down."""
    for row in each.plan.rows:
        strip = source.rows(row.start, row.stop)  # [h, width, 3]
        for column in each.plan.columns:
            yield job.submit(each.spec, strip[:, column.start : column.stop])


def windows_ahead(each: Pass) -> int:
    """How many windows are queued behind the one that is waited for: between one and a band of them.

    They keep the engine busy while rows are encoded, which takes a tenth of the time: more would only cost memory.
    """
    window_bytes = each.plan.tile_pixels * each.spec.scale**2 * 3
    return min(len(each.plan.columns), max(1, AHEAD_BYTES // window_bytes))


def finished(queued: Iterator[Future[Pixels]], ahead: int, job: Job) -> Iterator[Pixels]:
    """The HR windows in order, with ``ahead`` more queued behind each; it is let go once it is pasted."""
    waiting = deque(islice(queued, ahead))
    while waiting:
        waiting.extend(islice(queued, 1))
        yield job.result(waiting.popleft())


class RowSource(Protocol):
    """Something that gives rows ``[top, bottom)``, uint8 ``[bottom - top, width, 3]``, from the top down."""

    def rows(self, top: int, bottom: int) -> Pixels: ...


class PassedRows:
    """The bands of one pass as the source of the next; rows above those asked for last are let go."""

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


class AlphaRows:
    """The alpha plane at the result's size, by bicubic, given from the top in as many rows as are asked for."""

    def __init__(self, alpha: Image.Image, picture: Picture) -> None:
        self._alpha, self._fed = alpha, 0
        size = alpha.height, alpha.width
        self._resampler = Resampler(size, (picture.height, picture.width), channels=1, kernel="bicubic")
        self._ready = np.empty((0, picture.width, 1), np.uint8)

    def take(self, count: int) -> Pixels:
        """The next rows, uint8 ``[count, W, 1]``."""
        parts, ready = [self._ready], len(self._ready)
        while ready < count:
            strip = self._alpha.crop((0, self._fed, self._alpha.width, min(self._alpha.height, self._fed + ALPHA_ROWS)))
            self._fed += strip.height
            parts.append(self._resampler.feed(np.asarray(strip)[:, :, np.newaxis]))
            ready += len(parts[-1])
        rows = np.concatenate(parts)
        self._ready = rows[count:].copy()
        return rows[:count]


def with_source_channels(rows: Pixels, alpha: Pixels | None, work: Work) -> Pixels:
    """Result rows, uint8 ``[n, W, 3]``, with the output's channels: gray, alpha, or alpha laid on a colour."""
    if alpha is not None and not FORMATS[work.output.format].alpha:
        rows, alpha = lay_on(rows, alpha, work.output.background), None
    if work.picture.channels < 3:
        rows = luma(rows)
    if alpha is not None:
        rows = np.concatenate([rows, alpha], axis=2)
    return np.ascontiguousarray(rows)


def lay_on(rows: Pixels, alpha: Pixels, background: tuple[int, int, int]) -> Pixels:
    """Straight-alpha ``rows`` over a plain colour, rounded."""
    opaque = alpha.astype(np.uint16)
    mixed = rows * opaque + np.array(background, np.uint16) * (255 - opaque)
    return ((mixed + 127) // 255).astype(np.uint8)


def luma(rows: Pixels) -> Pixels:
    """BT.601 luma of ``[n, W, 3]`` as ``[n, W, 1]``, in 256ths; equal channels stay as they are."""
    total = np.einsum("hwc,c->hw", rows, np.array([77, 150, 29], np.uint16))[:, :, np.newaxis]  # at most 255 * 256
    gray: Pixels = ((total + 128) >> 8).astype(np.uint8)
    return gray
