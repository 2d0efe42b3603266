"""The parts of an upscaler, for tests that choose the networks and the tiles themselves."""

import time
from collections.abc import Sequence

from app.images.decoder import decode_container
from app.images.formats import DecodeLimits, read_container
from app.images.pixels import Size
from app.inference.job import Job
from app.inference.scheduler import Scheduler
from app.inference.zoo import ModelSpec
from app.upscale.parameters import Output
from app.upscale.pipeline import Work
from app.upscale.plan import make_plan
from app.upscale.tiler import TileBudget


def prepare(
    data: bytes, specs: Sequence[ModelSpec], output: Output, budget: TileBudget, size: Size | None = None
) -> Work:
    """A file, planned for these networks in turn and decoded; ``size`` of the result, or what the networks give."""
    image = read_container(data, DecodeLimits())
    return Work(make_plan(image, specs, [output], budget, size), decode_container(image))


def open_job(work: Work, scheduler: Scheduler, seconds: float) -> Job:
    return scheduler.open(work.plan.load, time.monotonic() + seconds)
