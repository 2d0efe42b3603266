"""The whole way of a picture, as one generator: the API, the command line and the evaluation all walk it."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.decoder import SourceImage
from app.encoders import Encoder, Picture, create_encoder
from app.scheduler import Job, Scheduler
from app.stitcher import Stitcher
from app.tiler import Plan, Span, plan_tiles
from app.zoo import ModelSpec

Pixels = NDArray[np.uint8]

BLEND = 2  # LR pixels over which neighbouring tiles fade into each other; the context already makes them nearly equal


ALPHA_MARGIN = 3  # LR rows; bicubic reaches 2


@dataclass(frozen=True)
class Output:
    """What is asked for beside the network. ``quality`` 1 to 100; ``background`` fills what JPEG cannot leave open."""

    format: str = "png"
    quality: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    metadata: bool = True


@dataclass(frozen=True)
class Work:
    """A picture ready to be enlarged: decoded, planned, and its output known to fit its format."""

    source: SourceImage
    spec: ModelSpec
    output: Output
    plan: Plan
    picture: Picture
    encoder: Encoder


def prepare(source: SourceImage, spec: ModelSpec, output: Output, tile: tuple[int, int]) -> Work:
    """Plans the work; whatever the output format cannot hold is refused here, before anything is computed."""
    plan = plan_tiles(source.height, source.width, tile, spec.context, BLEND)
    colours = 1 if source.gray else 3
    transparent = source.alpha is not None and output.format != "jpeg"
    picture = Picture(
        width=source.width * spec.scale,
        height=source.height * spec.scale,
        channels=colours + transparent,
        icc_profile=source.icc_profile,  # a profile says what the numbers mean: it is kept even without metadata
        exif=source.exif if output.metadata else None,
        dpi=source.dpi if output.metadata else None,
    )
    return Work(source, spec, output, plan, picture, create_encoder(output.format, picture, output.quality))


def open_job(work: Work, scheduler: Scheduler, seconds: float) -> Job:
    """Admits the work, or raises ``OverloadedError``; it must be done within ``seconds``. The caller closes the job."""
    return scheduler.open(work.spec, work.plan.computed_pixels, time.monotonic() + seconds)


def upscale(work: Work, job: Job) -> Iterator[bytes]:
    """The enlarged picture's file, piece by piece: the first piece comes when the first band of rows is finished.

    One band is computed while the one before it is encoded, and none beyond that before the next piece is asked for.
    Raises ``DeadlineError``, ``CancelledError`` or ``ComputeError``; then what was given so far is no whole file.
    """
    plan = work.plan
    stitcher = Stitcher(plan, work.spec.scale)
    header, finished = work.encoder.begin(), 0
    ahead = submit_band(job, work.source, plan, plan.rows[0])
    for index, row in enumerate(plan.rows):
        windows = ahead
        if index + 1 < len(plan.rows):
            ahead = submit_band(job, work.source, plan, plan.rows[index + 1])
        rows = stitcher.band(row, (job.result(window) for window in windows))
        rows, finished = with_source_channels(rows, work, finished), finished + len(rows)
        yield header + work.encoder.write(rows)
        header = b""
    yield work.encoder.finish()


def submit_band(job: Job, source: SourceImage, plan: Plan, row: Span) -> list[Future[Pixels]]:
    """Queues the windows of one band, left to right."""
    strip = source.rows(row.start, row.stop)  # [h, width, 3]
    return [job.submit(strip[:, column.start : column.stop]) for column in plan.columns]


def with_source_channels(rows: Pixels, work: Work, top: int) -> Pixels:
    """HR rows from ``top`` on, uint8 ``[n, W, 3]``, with the channels the output has: gray, alpha, or alpha laid on the
    background."""
    source, picture = work.source, work.picture
    alpha = enlarge_alpha(source.alpha, top, len(rows), work.spec.scale) if source.alpha is not None else None
    if alpha is not None and work.output.format == "jpeg":
        rows = lay_on(rows, alpha, work.output.background)
        alpha = None
    if picture.channels < 3:
        rows = luma(rows)
    if alpha is not None:
        rows = np.concatenate([rows, alpha], axis=2)
    return np.ascontiguousarray(rows)


def enlarge_alpha(alpha: Image.Image, top: int, count: int, scale: int) -> Pixels:
    """HR rows ``[top, top + count)`` of the alpha plane by bicubic, uint8 ``[count, W, 1]``.

    The LR rows are cut with ``ALPHA_MARGIN`` more on both sides, so bands come out as in one piece.
    """
    first = max(0, top // scale - ALPHA_MARGIN)
    last = min(alpha.height, -(-(top + count) // scale) + ALPHA_MARGIN)
    strip = alpha.crop((0, first, alpha.width, last))
    enlarged = strip.resize((strip.width * scale, strip.height * scale), Image.Resampling.BICUBIC)
    offset = top - first * scale
    return np.asarray(enlarged)[offset : offset + count, :, np.newaxis]


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
