"""What the routes work with, put together by ``main.py``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from anyio import CapacityLimiter
from fastapi import Request

from app.inference.engine import PictureGenerator
from app.settings import Settings
from app.telemetry.in_flight import Ledger
from app.telemetry.metrics import Metrics
from app.threads import usable_cores
from app.upscale.upscaler import Upscaler


@dataclass
class Service:
    """``ready`` is false until every network has passed its self-test, and while draining."""

    settings: Settings
    upscaler: Upscaler
    generators: Mapping[str, PictureGenerator] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    ready: bool = False
    draining: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    # Images decoded at a time: it takes a core each, and the most memory a request ever takes.
    decoders: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(usable_cores()))
    # One thread per request that is computing or encoding just now; requests that wait for a reader hold none.
    limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(64))
    # Requests that draw at a time: 400 digits take a tenth of a second, so nobody waits long.
    drawing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
