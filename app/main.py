"""Composition root: settings → zoo → engine → scheduler → application, and its life from start to drain."""

import asyncio
import ctypes
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import __version__
from app.api import PAGE, Loaded, RequestIds, Service, add_error_handlers, router
from app.drawing import Drawing, add_drawing
from app.engine import Engine
from app.scheduler import Scheduler
from app.settings import Settings, usable_cores
from app.zoo import Zoo, load_zoo

log = logging.getLogger("enlarger")


def create_engine(settings: Settings) -> tuple[Zoo, Engine]:
    """The zoo with every network loaded and proven, or a ``StartupError``."""
    zoo = load_zoo(settings.models)
    return zoo, Engine(zoo, settings.provider, settings.threads or usable_cores(), settings.precision)


def create_scheduler(settings: Settings, engine: Engine) -> Scheduler:
    return Scheduler(
        run_batch=engine.run,
        seconds_per_pixel=lambda spec: engine.network(spec).seconds_per_pixel,
        max_seconds=settings.max_queue_seconds,
    )


def create_app(settings: Settings) -> FastAPI:
    """The application; loading happens here, before a port is opened, so a bad model stops the start."""
    zoo, engine = create_engine(settings)
    scheduler = create_scheduler(settings, engine)
    loaded = {
        network.spec.title: Loaded(network.precision, network.spec.files[network.precision], network.provider)
        for network in engine.networks.values()
    }
    service = Service(settings, zoo, scheduler, loaded)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.ready = True
        log.info("ready: %d networks on %s", len(loaded), engine.provider)
        yield
        service.ready = False
        scheduler.close()

    app = FastAPI(title="Enlarger", version=__version__, description=__doc__, lifespan=lifespan)
    app.state.service = service
    app.include_router(router)
    add_drawing(app, Drawing(zoo, scheduler, engine.generators))
    app.mount("/page", StaticFiles(directory=PAGE.parent))
    add_error_handlers(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(RequestIds)
    return app


class Protocol(HttpToolsProtocol):
    """uvicorn's, with two things it lacks: a limit to the time that a request's headers take, and ``state["cut"]``, by
    which a response drops its connection at once; closing it would wait for a reader who does not read."""

    def __init__(self, *arguments: Any, header_seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._header_seconds = header_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._hurry = self.loop.call_later(self._header_seconds, transport.abort)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["cut"] = self.transport.abort
        self._hurry.cancel()
        self._hurry = self.loop.call_later(self._header_seconds, self.transport.abort)

    def on_headers_complete(self) -> None:
        self._hurry.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hurry.cancel()
        super().connection_lost(exc)


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT: readiness is withdrawn and new pictures refused at once, those in flight may finish."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: object) -> None:
        self._service.draining = True
        self._service.scheduler.refuse_new()
        # Not by uvicorn's own: it would raise the signal again at the end, and the exit status would be -15.
        self.force_exit = self.force_exit or (self.should_exit and sig == signal.SIGINT)
        self.should_exit = True


def return_freed_memory() -> None:
    """Has glibc give large blocks back to the system as soon as they are freed.

    Its own threshold rises to 32 MiB with the blocks it sees, and bands then leave holes: 10 to 20 MB of a process.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's, not musl's or macOS'
        mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
        libc.mallopt(mmap_threshold, 2**20)


def serve(settings: Settings) -> None:
    """Runs until a signal; returns when every request in flight is done or ``drain_seconds`` are over."""
    return_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=partial(Protocol, header_seconds=settings.body_seconds),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,  # RequestIds writes the line, with the id
        server_header=False,
        timeout_keep_alive=75,  # longer than a balancer's idle time, else it meets closed connections
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    DrainingServer(config, app.state.service).run()
