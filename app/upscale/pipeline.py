"""The whole way of a picture, as one generator: the API, the command line and the evaluation all walk it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import UnfitFormatError
from app.images.channels import at_depth, lay_on, luma, widened
from app.images.decoder import SourceImage
from app.images.encoders import FORMATS, Encoder, Options, Picture, create_encoder
from app.images.formats import enlarged_xmp
from app.images.resampler import Resampler
from app.images.tone import ToneCurve, far_curve
from app.inference.job import Job
from app.inference.scheduler import Scheduler
from app.inference.zoo import ModelSpec
from app.telemetry.record import StageClock
from app.upscale.alpha import Regrouped, submit_alpha
from app.upscale.passes import Pass, PassedRows, Read, Size, Submit, load_of, plan_passes, run_pass, submit_colour
from app.upscale.tiler import TileBudget

Pixels = NDArray[np.uint8 | np.uint16]

DEFAULTS = Options()
STRIP_BYTES = 2**20  # of a band that is brought to its size, depth and channels, and encoded, at a time


@dataclass(frozen=True)
class Output:
    """What is asked for beside the network. ``background`` fills what JPEG cannot leave open; ``depth``: bits a sample,
    or None for the source's."""

    format: str = "png"
    options: Options = DEFAULTS
    background: tuple[int, int, int] = (255, 255, 255)
    metadata: bool = True
    depth: Literal[8, 16] | None = None


@dataclass(frozen=True)
class Work:
    """A picture ready to be enlarged: decoded, planned, and its output known to fit its format."""

    source: SourceImage
    passes: tuple[Pass, ...]
    output: Output
    picture: Picture
    encoder: Encoder
    curve: ToneCurve | None


def prepare(
    source: SourceImage, specs: Sequence[ModelSpec], output: Output, budget: TileBudget, size: Size | None = None
) -> Work:
    """Plans the work; whatever the output format cannot hold is refused here, before anything is computed.

    ``size`` is the result's; without one it is what the networks give.
    """
    passes = plan_passes((source.height, source.width), specs, budget)
    picture = picture_of(source, output, size or passes[-1].size)
    encoder = create_encoder(output.format, picture, output.options)
    return Work(source, passes, output, picture, encoder, far_curve(source.icc_profile))


def picture_of(source: SourceImage, output: Output, size: Size) -> Picture:
    """The result as its encoder is to know it."""
    return Picture(
        width=size[1],
        height=size[0],
        channels=(1 if source.gray else 3) + (source.has_alpha and FORMATS[output.format].alpha),
        depth=output.depth or source.depth,
        icc_profile=source.icc_profile,  # a profile says what the numbers mean: it is kept even without metadata
        exif=source.exif if output.metadata else None,
        dpi=source.dpi if output.metadata else None,
        xmp=enlarged_xmp(source.xmp if output.metadata else None),
    )


def check_depth(work: Work, precisions: Mapping[str, str]) -> None:
    """Raises ``UnfitFormatError`` where 16 bits are to come out of a network that is run in 8 (``int8``)."""
    coarse = [each.spec.title for each in work.passes if precisions.get(each.spec.title) == "int8"]
    if work.picture.depth > 8 and coarse:
        detail = f"{coarse[0]} is run in int8 here, which holds 8 bits a sample; ask for depth=8 or another model."
        raise UnfitFormatError(detail, limit=8, actual=work.picture.depth)


def open_job(work: Work, scheduler: Scheduler, seconds: float, clock: StageClock | None = None) -> Job:
    """Admits the work, or raises ``OverloadedError``; it must be done within ``seconds``. The caller closes the job."""
    return scheduler.open(load_of(work.passes, work.source.has_alpha), time.monotonic() + seconds, clock)


def upscale(work: Work, job: Job) -> Iterator[bytes]:
    """The enlarged picture's file, piece by piece: the first piece comes when the first band of rows is finished.

    A few windows are computed while a band is encoded, and none beyond that before the next piece is asked for. While
    a piece is with its reader no band is held here: a loop would hold its last one, ``map`` does not.
    Raises ``DeadlineError``, ``CancelledError`` or ``ComputeError``; then what was given so far is no whole file.
    """
    finish = finisher(work)
    alpha = Regrouped(alpha_rows(work, job)) if work.source.has_alpha else None

    def encoded_strip(strip: Pixels) -> bytes:
        rows = finish(strip)
        if not len(rows):  # of a wide picture made smaller
            return b""
        rows = with_source_channels(rows, alpha.take(len(rows)) if alpha else None, work)
        with job.clock.stage("encode"):
            return work.encoder.write(rows)

    def encoded(band: Pixels) -> bytes:
        return b"".join(map(encoded_strip, strips(band)))

    bands = colour_bands(work, job)
    yield work.encoder.begin() + encoded(next(bands))
    yield from map(encoded, bands)
    yield work.encoder.finish()


def strips(band: Pixels) -> Iterator[Pixels]:
    """A band's rows, some at a time: what is made of them on their way into the file takes several times as much."""
    count = max(1, STRIP_BYTES // band[0].nbytes)
    return (band[top : top + count] for top in range(0, len(band), count))


def colour_bands(work: Work, job: Job) -> Iterator[Pixels]:
    """What the networks make of the colour, in bands ``[n, W, 3]``."""

    def read(top: int, bottom: int) -> Pixels:
        rows = work.source.rows(top, bottom)
        return work.curve.towards(rows) if work.curve else widened(rows, work.picture.depth)

    return enlarged(work, read, submit_colour, job)


def finisher(work: Work) -> Callable[[Pixels], Pixels]:
    """From the networks' rows, given from the top, to the result's colour ``[n, W, 3]``, in the profile's numbers.

    ``n`` is another where the size is, and may be 0.
    """
    resized, curve = resizer(work, 3, "lanczos"), work.curve

    def finish(rows: Pixels) -> Pixels:
        rows = resized(rows)
        return at_depth(curve.back(rows) if curve else rows, work.picture.depth)

    return finish


def alpha_rows(work: Work, job: Job) -> Iterator[Pixels]:
    """The result's alpha ``[n, W, 1]`` of the result's depth, some rows at a time."""
    depth, resized = work.picture.depth, resizer(work, 1, "bicubic")

    def read(top: int, bottom: int) -> Pixels:
        return widened(work.source.alpha_rows(top, bottom), depth)

    def finish(rows: Pixels) -> Pixels:
        return at_depth(resized(rows), depth)

    return map(finish, chain.from_iterable(map(strips, enlarged(work, read, submit_alpha, job))))


def enlarged(work: Work, read: Read, submit: Submit, job: Job) -> Iterator[Pixels]:
    """Through each network in turn, in bands of the last one's."""
    for each in work.passes:
        bands = run_pass(each, read, submit, job)
        read = PassedRows(bands).rows
    return bands


def resizer(work: Work, channels: int, kernel: Literal["lanczos", "bicubic"]) -> Callable[[Pixels], Pixels]:
    """From the networks' size to the one asked for; nothing to do where that is the same."""
    size, networks = (work.picture.height, work.picture.width), work.passes[-1].size
    return Resampler(networks, size, channels, kernel).feed if size != networks else lambda rows: rows


def with_source_channels(rows: Pixels, alpha: Pixels | None, work: Work) -> Pixels:
    """Result rows ``[n, W, 3]`` with the output's channels: gray, alpha, or alpha laid on a colour."""
    if alpha is not None and not FORMATS[work.output.format].alpha:
        rows, alpha = lay_on(rows, alpha, work.output.background), None
    if work.picture.channels < 3:
        rows = luma(rows)
    if alpha is not None:
        rows = np.concatenate([rows, alpha], axis=2)
    return np.ascontiguousarray(rows)
