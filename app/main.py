"""Composition root: settings → zoo → engine → scheduler → application, and its life from start to drain."""

import asyncio
import ctypes
import logging
import math
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from app import __version__
from app.errors import StartupError
from app.http import catalogue, generate, health, pages, upscale
from app.http.access_log import AccessLog
from app.http.auth import Authentication
from app.http.limits import ConcurrencyLimit, ConcurrencyLimiter
from app.http.openapi import DESCRIPTION, only
from app.http.preconditions import ContentCoding, check_parameters
from app.http.problems import add_error_handlers, on_enlarger_error
from app.http.protocol import Protocol
from app.http.service import Service
from app.images.formats import DecodeLimits
from app.inference.engine import Engine, SelfTest
from app.inference.providers import RUNTIME_VERSION, GpuOptions
from app.inference.scheduler import OnBatch, nobody
from app.inference.self_test import check_known_tile
from app.inference.zoo import load_zoo
from app.settings import Settings
from app.study.comparison import Study
from app.study.routes import router as study_router
from app.telemetry.in_flight import InFlightTracker
from app.telemetry.logs import configure_logging
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import OpenTelemetry, Propagator
from app.upscale.auto import AUTO
from app.upscale.memory import networks_bytes
from app.upscale.tiler import TileBudget
from app.upscale.upscaler import Upscaler

if TYPE_CHECKING:
    from app.http.job_service import JobService

log = logging.getLogger("enlarger")

ROUTERS = (upscale.router, catalogue.router, health.router, generate.router, pages.router)


def create_engine(settings: Settings, self_test: SelfTest | None = None, *names: str) -> Engine:
    """Every network of the model folder, or those of ``names``: loaded, and self-tested on this provider if asked for.

    Raises ``StartupError``.
    """
    gpu = GpuOptions(settings.advanced.gpu_memory_bytes)
    zoo = load_zoo(settings.models)
    zoo = zoo.only(*names) if names else zoo
    return Engine(zoo, settings.provider, settings.compute_threads, settings.precision, gpu, self_test)


def create_upscaler(settings: Settings, engine: Engine, on_batch: OnBatch = nobody) -> Upscaler:
    advanced = settings.advanced
    if settings.default_model != AUTO:
        engine.zoo.scales(settings.default_model)  # an unknown name stops the start
    limits = DecodeLimits(settings.max_pixels, advanced.max_side)
    budget = TileBudget(pixels=advanced.tile_pixels, tile_bytes=advanced.tile_bytes, band_bytes=advanced.band_bytes)
    return Upscaler.on(engine, limits, budget, settings.max_queue_seconds, on_batch, settings.default_model)


@dataclass(frozen=True)
class Worker:
    """What a supervisor gives its worker: file descriptors, the digests to refuse, and how many workers preceded it."""

    socket: int
    pipe: int
    refused: Sequence[str]
    restarts: int


def create_app(settings: Settings, worker: Worker | None = None) -> FastAPI:
    """The application. Models are loaded here, before a port is opened, so that a bad one stops the start."""
    engine = create_engine(settings, check_known_tile)
    metrics = Metrics()
    upscaler = create_upscaler(settings, engine, metrics.observe_batch)
    in_flight = InFlightTracker(worker.pipe, worker.refused) if worker else InFlightTracker()
    concurrency = ConcurrencyLimiter(settings.max_requests, settings.slot_bytes, settings.max_upload_bytes)
    service = Service(settings, upscaler, engine.generators, metrics, in_flight=in_flight, concurrency=concurrency)
    describe(service, metrics, worker.restarts if worker else 0)
    tracer = OpenTelemetry(__version__) if settings.tracing else Propagator()

    jobs = create_jobs(settings) if settings.jobs.location else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if jobs:
            await asyncio.to_thread(jobs.start, service, asyncio.get_running_loop())
        service.ready = True
        in_flight.ready()
        most = (settings.most_bytes + networks_bytes(engine.zoo, upscaler.budget)) / 1e6
        on = ", ".join(engine.providers)
        log.info("ready: %d networks on %s, memory at most %.0f MB", len(upscaler.networks), on, most)
        yield
        service.ready = False
        if jobs:
            await asyncio.to_thread(jobs.close)
        upscaler.close()
        tracer.close()

    app = FastAPI(
        title="Enlarger",
        version=__version__,
        description=DESCRIPTION,
        responses=only(500),
        lifespan=lifespan,
        dependencies=[Depends(check_parameters)],
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/page", pages.files)
    if settings.study.folder:
        app.state.study = Study(settings.study, upscaler, settings.request_deadline_seconds)
        app.include_router(study_router)
    if jobs:
        jobs.add_to(app, service)
    add_error_handlers(app)
    app.add_middleware(
        ConcurrencyLimit,
        limiter=concurrency,
        refuse=on_enlarger_error,
    )
    app.add_middleware(ContentCoding, refuse=on_enlarger_error)
    app.add_middleware(
        Authentication, keys=settings.api_keys, refuse=on_enlarger_error, invitation=settings.study.invitation
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(AccessLog, metrics=metrics, tracer=tracer, in_flight=in_flight)
    return app


def create_jobs(settings: Settings) -> "JobService":
    """Loaded here and not before: who keeps no jobs has none of their libraries in memory, or installed."""
    try:
        from app.http.job_service import JobService
    except ModuleNotFoundError as error:
        raise StartupError(f"ENLARGER_JOBS needs {error.name}: pip install enlarger[jobs]") from error
    return JobService(settings)


def describe(service: Service, metrics: Metrics, restarts: int) -> None:
    """Reports what does not change while the process lives, and sets up what is read on demand."""
    metrics.describe_build(__version__, RUNTIME_VERSION)
    for title, network in service.upscaler.networks.items():
        metrics.describe_network(title, network.precision, network.provider)
    scheduler = service.upscaler.scheduler
    metrics.watch(scheduler.backlog, scheduler.jobs, lambda: service.ready and not service.draining, lambda: restarts)


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT readiness is withdrawn and new images are refused at once; those in flight may finish.

    After SIGTERM the port stays open for ``drain_delay_seconds``, and every response closes its connection: a
    balancer then learns of it from a 503, not from a connection that is refused or breaks under its request. A
    second signal ends the delay.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._exit_at = math.inf  # on the clock of time.monotonic

    def handle_exit(self, sig: int, frame: object) -> None:
        if sig == signal.SIGTERM and not self._service.draining:
            self._exit_at = time.monotonic() + self._service.settings.drain_delay_seconds
        else:
            self._exit_at = 0
        self._service.draining = True
        self._service.upscaler.scheduler.refuse_new()
        # Not uvicorn's handlers: they would raise the signal again at the end, and the exit status would be -15.
        self.force_exit = self.force_exit or (self.should_exit and sig == signal.SIGINT)

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self._exit_at
        return await super().on_tick(counter)


def return_freed_memory() -> None:
    """Makes glibc return free memory to the system now, and large blocks as soon as they are freed.

    Its own threshold rises to 32 MiB with the blocks it sees, so bands leave holes: 10 to 20 MB per process. Fifteen
    networks, loaded, self-tested and released, leave 35 MB in small pieces.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc, not musl or macOS
        mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
        libc.mallopt(mmap_threshold, 2**20)
        libc.malloc_trim(0)


def serve(settings: Settings, worker: Worker | None = None) -> None:
    """Runs until a signal; returns when every request in flight is done or ``drain_seconds`` are over."""
    return_freed_memory()
    configure_logging(settings.log_format)
    app = create_app(settings, worker)
    return_freed_memory()
    service: Service = app.state.service
    protocol = partial(Protocol, header_seconds=settings.advanced.body_seconds, draining=lambda: service.draining)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,  # our access log writes the line, with the id
        server_header=False,
        timeout_keep_alive=75,  # longer than a balancer's idle timeout, else it would use closed connections
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    # The supervisor's socket, if there is one; a backlog of uvicorn's own would be lost with a worker.
    sockets = [socket.socket(fileno=worker.socket)] if worker else None
    DrainingServer(config, service).run(sockets)
