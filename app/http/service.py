"""Everything the routes work with, assembled by ``main.py``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from anyio import CapacityLimiter
from fastapi import Request, Response

from app.http.limits import ConcurrencyLimiter
from app.http.prefer import Preference
from app.http.upload import Upload
from app.inference.engine import PictureGenerator
from app.settings import Settings
from app.telemetry.in_flight import InFlightTracker
from app.telemetry.metrics import Metrics
from app.upscale.parameters import UpscaleParameters
from app.upscale.plan import Plan
from app.upscale.upscaler import Upscaler


class Defer(Protocol):
    """Answers a ``POST /upscale`` by a job, if it takes longer than its sender wants to wait."""

    async def __call__(
        self, request: Request, upload: Upload, parameters: UpscaleParameters, plan: Plan, preference: Preference
    ) -> Response: ...


@dataclass
class Service:
    """``ready`` is false until every network has passed its self-test, and while draining."""

    settings: Settings
    upscaler: Upscaler
    generators: Mapping[str, PictureGenerator] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    concurrency: ConcurrencyLimiter = field(default_factory=lambda: ConcurrencyLimiter(64, 2**27, 2**28))
    ready: bool = False
    draining: bool = False
    in_flight: InFlightTracker = field(default_factory=InFlightTracker)
    defer: Defer | None = None  # if there are jobs

    def __post_init__(self) -> None:
        # Images decoded at a time: decoding takes a core each, and more memory than any other stage.
        self.decoders = CapacityLimiter(self.settings.compute_threads)
        # One thread per request that is computing or encoding; requests that wait for a reader hold none.
        self.limiter = CapacityLimiter(self.settings.max_requests)
        # Generate requests at a time: 400 digits take a tenth of a second, so nobody waits long.
        self.drawing = CapacityLimiter(1)


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
