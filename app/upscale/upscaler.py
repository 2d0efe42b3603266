"""The one way to enlarge an image, for the API, the command line, the study, the evaluation and Python users alike.

with Upscaler.load(Path("models")) as upscaler:
    image = upscaler.open(Path("photo.jpg").read_bytes())
    plan = upscaler.plan(image, UpscaleParameters(scale=4, format="png"))
    work = upscaler.decode(image, plan)
    Path("big.png").write_bytes(b"".join(upscaler.run(work)))
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from app.images.decoder import decode_container
from app.images.encoders import FORMATS
from app.images.formats import Container, DecodeLimits, read_container
from app.inference.engine import Engine, Network
from app.inference.job import Job
from app.inference.scheduler import OnBatch, Scheduler, nobody
from app.inference.zoo import Zoo, load_zoo
from app.telemetry.record import StageClock
from app.upscale.parameters import UpscaleParameters
from app.upscale.pipeline import Work, upscale
from app.upscale.plan import Plan, make_plan
from app.upscale.tiler import TileBudget

DEFAULT_FORMAT = "png"
NO_DEADLINE = 365 * 24 * 3600.0  # seconds


class Upscaler:
    """The networks, their queue, and the limits on images. Made once and used from any thread.

    ``networks``: what runs each network of the zoo, by its title.
    """

    def __init__(
        self,
        zoo: Zoo,
        scheduler: Scheduler,
        networks: Mapping[str, Network],
        limits: DecodeLimits | None = None,
        budget: TileBudget | None = None,
    ) -> None:
        self.zoo, self.scheduler, self.networks = zoo, scheduler, networks
        self.limits, self.budget = limits or DecodeLimits(), budget or TileBudget()

    @classmethod
    def on(
        cls,
        engine: Engine,
        limits: DecodeLimits | None = None,
        budget: TileBudget | None = None,
        max_queue_seconds: float = math.inf,
        on_batch: OnBatch = nobody,
    ) -> Self:
        """An upscaler with its own queue in front of an engine."""
        scheduler = Scheduler(
            run_batch=engine.run,
            seconds_per_pixel=lambda spec: engine.network(spec).seconds_per_pixel,
            max_seconds=max_queue_seconds,
            batch_macs=engine.batch_macs,
            on_batch=on_batch,
            run_beside=engine.run_beside if engine.shares_cores else None,
        )
        return cls(engine.zoo, scheduler, engine.networks, limits, budget)

    @classmethod
    def load(cls, models: Path, *names: str, provider: str = "auto", precision: str = "auto", threads: int = 0) -> Self:
        """Loads the networks of a model folder, or those of these ``names``; raises ``StartupError``.

        ``provider``, ``precision`` and ``threads`` are as in the settings of the same names.
        """
        zoo = load_zoo(models)
        if names:
            zoo = zoo.only(*names)
        return cls.on(Engine(zoo, provider, threads, precision))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the queue and cancels what has not been computed."""
        self.scheduler.close()

    def open(self, data: bytes) -> Container:
        """Parses a file up to its pixels, with every limit checked; the input of the other verbs."""
        return read_container(data, self.limits)

    def plan(self, image: Container, parameters: UpscaleParameters, formats: Sequence[str] = ()) -> Plan:
        """Decides everything from the header; no pixel is decoded. Raises the error of whatever is impossible.

        ``formats``: the formats to try if the parameters name none; the first that can hold the result is used.
        Default: the image's own, then PNG.
        """
        header = image.header
        size = parameters.result_size(header.height, header.width)
        specs = self.zoo.passes(parameters.model, size[0] / header.height, size[1] / header.width)
        own = [name for name in (header.format, DEFAULT_FORMAT) if name in FORMATS]
        candidates = [parameters.format] if parameters.format else formats or own
        strength = self.zoo.strength(specs, parameters.strength)
        return make_plan(image, specs, map(parameters.output, candidates), self.budget, size, self.networks, strength)

    def seconds(self, plan: Plan) -> float:
        """The networks' time on an idle engine; an upper bound, because uniform parts of alpha are skipped."""
        return sum(self.scheduler.estimate(spec, pixels) for spec, pixels in plan.load)

    def admit(self, plan: Plan, seconds: float = NO_DEADLINE, clock: StageClock | None = None) -> Job:
        """A place in the queue, to be finished within ``seconds``; ``OverloadedError`` if the queue is too long.

        The caller closes the job. ``clock`` receives the time of its stages.
        """
        return self.scheduler.open(plan.load, time.monotonic() + seconds, clock, plan.strength)

    def admit_background(self, plan: Plan, clock: StageClock | None = None) -> Job:
        """A place behind all requests, for background work; the caller closes the job."""
        return self.scheduler.open_background(plan.load, clock, plan.strength)

    def decode(self, image: Container, plan: Plan) -> Work:
        """Decodes the pixels. Keeps no reference to the file."""
        return Work(plan, decode_container(image))

    def run(self, work: Work, job: Job | None = None) -> Iterator[bytes]:
        """The enlarged file, piece by piece, as it is computed; the first piece comes with the first finished band
        of rows.

        Without a ``job`` it is admitted here, without a deadline. Raises ``DeadlineError``, ``CancelledError`` or
        ``ComputeError``; the pieces yielded so far are then not a complete file.
        """
        if job is not None:
            return upscale(work, job)
        return self._run_alone(work)

    def _run_alone(self, work: Work) -> Iterator[bytes]:
        with self.admit(work.plan) as job:
            yield from upscale(work, job)
