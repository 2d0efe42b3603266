"""From decoded pixels to the enlarged file, as one generator."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from app.images.channels import at_depth, lay_on, luma, widened
from app.images.decoder import SourceImage
from app.images.encoders import FORMATS
from app.images.pixels import Pixels
from app.images.resampler import Resampler
from app.inference.job import Job
from app.upscale.alpha import Regrouped, submit_alpha
from app.upscale.passes import PassedRows, Read, Submit, run_pass, submit_colour
from app.upscale.plan import Plan

STRIP_BYTES = 2**20  # of a band that is brought to its size, depth and channels, and encoded, at a time


@dataclass(frozen=True)
class Work:
    """An image ready to be enlarged: planned and decoded."""

    plan: Plan
    source: SourceImage


def upscale(work: Work, job: Job) -> Iterator[bytes]:
    """The enlarged file, piece by piece: the first piece is yielded when the first band of rows is finished.

    A few windows are computed while a band is encoded, and none beyond that before the next piece is requested. No band
    is held while the consumer has a piece: a loop would hold its last one, ``map`` does not.
    Raises ``DeadlineError``, ``CancelledError`` or ``ComputeError``; what was yielded so far is then not a whole file.
    """
    finish, encoder = finisher(work.plan), work.plan.encoder()
    alpha = Regrouped(alpha_rows(work, job)) if work.source.has_alpha else None

    def encoded_strip(strip: Pixels) -> bytes:
        with job.beside():
            rows = finish(strip)
        if not len(rows):  # of a wide picture made smaller
            return b""
        rows = with_source_channels(rows, alpha.take(len(rows)) if alpha else None, work.plan)
        with job.beside(), job.clock.stage("encode"):
            return encoder.write(rows)

    def encoded(band: Pixels) -> bytes:
        return b"".join(map(encoded_strip, strips(band)))

    bands = colour_bands(work, job)
    yield encoder.begin() + encoded(next(bands))
    yield from map(encoded, bands)
    yield encoder.finish()


def strips(band: Pixels) -> Iterator[Pixels]:
    """A band's rows, a few at a time: processing them on their way into the file takes several times their memory."""
    count = max(1, STRIP_BYTES // band[0].nbytes)
    return (band[top : top + count] for top in range(0, len(band), count))


def colour_bands(work: Work, job: Job) -> Iterator[Pixels]:
    """The colour as the networks enlarge it, in bands ``[n, W, 3]``."""

    def read(top: int, bottom: int) -> Pixels:
        rows, curve = work.source.rows(top, bottom), work.plan.curve
        return curve.towards(rows) if curve else widened(rows, work.plan.picture.depth)

    return enlarged(work.plan, read, submit_colour, job)


def finisher(plan: Plan) -> Callable[[Pixels], Pixels]:
    """From the networks' rows, top to bottom, to the result's colour ``[n, W, 3]`` in the profile's tone curve.

    ``n`` differs where the result is resampled, and may be 0.
    """
    resized, curve = resizer(plan, 3, "lanczos"), plan.curve

    def finish(rows: Pixels) -> Pixels:
        rows = resized(rows)
        return at_depth(curve.back(rows) if curve else rows, plan.picture.depth)

    return finish


def alpha_rows(work: Work, job: Job) -> Iterator[Pixels]:
    """The result's alpha ``[n, W, 1]`` of the result's depth, some rows at a time."""
    depth, resized = work.plan.picture.depth, resizer(work.plan, 1, "bicubic")

    def read(top: int, bottom: int) -> Pixels:
        return widened(work.source.alpha_rows(top, bottom), depth)

    def finish(rows: Pixels) -> Pixels:
        return at_depth(resized(rows), depth)

    return map(finish, chain.from_iterable(map(strips, enlarged(work.plan, read, submit_alpha, job))))


def enlarged(plan: Plan, read: Read, submit: Submit, job: Job) -> Iterator[Pixels]:
    """Through each network in sequence; yields the bands of the last one."""
    for each in plan.passes:
        bands = run_pass(each, read, submit, job)
        read = PassedRows(bands).rows
    return bands


def resizer(plan: Plan, channels: int, kernel: Literal["lanczos", "bicubic"]) -> Callable[[Pixels], Pixels]:
    """From the networks' size to the requested one; the identity where they are equal."""
    size, networks = plan.size, plan.passes[-1].size
    return Resampler(networks, size, channels, kernel).feed if size != networks else lambda rows: rows


def with_source_channels(rows: Pixels, alpha: Pixels | None, plan: Plan) -> Pixels:
    """Result rows ``[n, W, 3]`` with the output's channels: gray, alpha, or alpha composited on a colour."""
    if alpha is not None and not FORMATS[plan.output.format].alpha:
        rows, alpha = lay_on(rows, alpha, plan.output.background), None
    if plan.picture.channels < 3:
        rows = luma(rows)
    if alpha is not None:
        rows = np.concatenate([rows, alpha], axis=2)
    return np.ascontiguousarray(rows)
