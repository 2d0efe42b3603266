"""What the routes work with, put together by ``main.py``."""

from dataclasses import dataclass, field
from typing import Protocol

from anyio import CapacityLimiter
from fastapi import Request, Response

from app.http.limits import Room
from app.http.parameters import UpscaleParameters
from app.http.prefer import Preference
from app.http.upload import Upload
from app.images.decoder import DecodeLimits
from app.inference.scheduler import Scheduler
from app.inference.zoo import ModelFile, Zoo
from app.settings import Settings, usable_cores
from app.telemetry.in_flight import Ledger


@dataclass(frozen=True)
class Loaded:
    """What the engine really runs for a network."""

    precision: str
    file: ModelFile
    provider: str


class Defer(Protocol):
    """Answers a ``POST /upscale`` by a job, if it takes longer than its sender wants to wait."""

    async def __call__(
        self, request: Request, upload: Upload, parameters: UpscaleParameters, preference: Preference
    ) -> Response: ...


@dataclass
class Service:
    """``ready`` is false until everything is proven and while draining."""

    settings: Settings
    zoo: Zoo
    scheduler: Scheduler
    loaded: dict[str, Loaded]  # by the network's title
    room: Room
    ready: bool = False
    draining: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    # Pictures decoded at a time: it takes a core each, and the most memory a request ever takes.
    decoders: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(usable_cores()))
    # One thread a request that is computing or encoding just now; requests that wait for a reader hold none.
    limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(64))

    defer: Defer | None = None  # where there are jobs

    @property
    def limits(self) -> DecodeLimits:
        return DecodeLimits(self.settings.max_pixels, self.settings.max_side)

    @property
    def precisions(self) -> dict[str, str]:
        """By the network's title."""
        return {title: loaded.precision for title, loaded in self.loaded.items()}


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
