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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from app.errors import EnlargerError
from app.images.decoder import SourceImage, decode_container
from app.images.encoders import FORMATS
from app.images.formats import Container, DecodeLimits, read_container
from app.images.traits import traits_of
from app.inference.engine import Engine, Network
from app.inference.job import Job
from app.inference.scheduler import OnBatch, Scheduler, nobody
from app.inference.zoo import Zoo, load_zoo
from app.telemetry.record import StageClock
from app.upscale.auto import AUTO, CLEAN, Choice, candidates, choose
from app.upscale.parameters import UpscaleParameters
from app.upscale.pipeline import Work, upscale
from app.upscale.plan import Plan, make_plan
from app.upscale.tiler import TileBudget

DEFAULT_FORMAT = "png"
NO_DEADLINE = 365 * 24 * 3600.0  # seconds


class Upscaler:
    """The networks, their queue, and the limits on images. Made once and used from any thread.

    ``networks``: what runs each network of the zoo, by its title. ``default``: the model if none is asked for, ``auto``
    or a network's name.
    """

    def __init__(
        self,
        zoo: Zoo,
        scheduler: Scheduler,
        networks: Mapping[str, Network],
        limits: DecodeLimits | None = None,
        budget: TileBudget | None = None,
        default: str = AUTO,
    ) -> None:
        self.zoo, self.scheduler, self.networks, self.default = zoo, scheduler, networks, default
        self.limits, self.budget = limits or DecodeLimits(), budget or TileBudget()

    @classmethod
    def on(
        cls,
        engine: Engine,
        limits: DecodeLimits | None = None,
        budget: TileBudget | None = None,
        max_queue_seconds: float = math.inf,
        on_batch: OnBatch = nobody,
        default: str = AUTO,
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
        return cls(engine.zoo, scheduler, engine.networks, limits, budget, default)

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

        ``model=auto`` is planned for each network that it may take; ``decode`` or ``look`` decides between them.
        """
        name = parameters.model or self.default
        if name != AUTO:
            return self._plan(image, parameters, name, formats)
        plans = self._rivals(image, parameters, formats)
        if len({plan.specs[0].name for plan in plans.values()}) == 1:
            name = self.zoo.default
            choice = Choice(name, "the only network to choose from at this scale")
            return replace(plans[CLEAN], choice=choice)
        dearest = max(plans.values(), key=self.seconds)
        return replace(dearest, rivals=plans, fits_strength=parameters.strength is None)

    def _plan(self, image: Container, parameters: UpscaleParameters, name: str, formats: Sequence[str]) -> Plan:
        header = image.header
        size = parameters.result_size(header.height, header.width)
        specs = self.zoo.passes(name, size[0] / header.height, size[1] / header.width)
        own = [name for name in (header.format, DEFAULT_FORMAT) if name in FORMATS]
        outputs = [parameters.format] if parameters.format else formats or own
        strength = self.zoo.strength(specs, parameters.strength)
        return make_plan(image, specs, map(parameters.output, outputs), self.budget, size, self.networks, strength)

    def _rivals(self, image: Container, parameters: UpscaleParameters, formats: Sequence[str]) -> dict[str, Plan]:
        """The plan for each kind of image. A network that lacks a scale of the default network's, or cannot do what is
        asked for, is replaced by that one. A strength goes to those that have one."""
        without = parameters.model_copy(update={"strength": None})

        def planned(name: str) -> Plan:
            plan = self._plan(image, without, name, formats)
            return plan if parameters.strength is None else replace(plan, strength=parameters.strength)

        standard = planned(self.zoo.default)
        plans = {}
        for kind, name in candidates(self.zoo).items():
            plans[kind] = standard
            if name != self.zoo.default:
                with suppress(EnlargerError):
                    plan = planned(name)
                    plans[kind] = plan if scales_of(plan) == scales_of(standard) else standard
        return plans

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

    def decode(self, image: Container, plan: Plan, job: Job | None = None) -> Work:
        """Decodes the pixels; ``auto`` looks at them, so the work may have another plan, for which the ``job`` then
        has its load. Keeps no reference to the file."""
        source = decode_container(image)
        chosen = settled(plan, image, source)
        if job:
            job.strength = chosen.strength
            if chosen.load != plan.load:
                job.exchange(plan.load, chosen.load)
        return Work(chosen, source)

    def look(self, image: Container, plan: Plan) -> Plan:
        """The plan that ``decode`` will give the work; decodes the pixels if ``auto`` has to see them."""
        return settled(plan, image, decode_container(image)) if plan.rivals else plan

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


def settled(plan: Plan, image: Container, source: SourceImage) -> Plan:
    """The plan for what the pixels show, if ``auto`` has still to decide."""
    if not plan.rivals:
        return plan
    networks = {kind: rival.specs[0].name for kind, rival in plan.rivals.items()}
    choice = choose(traits_of(image, source), networks)
    chosen = plan.rivals[choice.kind or CLEAN]
    fitting = choice.strength if plan.fits_strength and chosen.has_strength else None
    return replace(chosen, choice=choice, strength=chosen.strength if fitting is None else fitting)


def scales_of(plan: Plan) -> tuple[int, ...]:
    return tuple(sorted(spec.scale for spec in plan.specs))
