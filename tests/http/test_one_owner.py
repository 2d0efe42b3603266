"""Whatever fails in a request, and wherever: its job, its slots and its bytes are given back.

A fault is injected at every line that runs between the first byte of a request and the last of its answer.
"""

import asyncio
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from app.http import upscale as routes
from app.http.access_log import AccessLog
from app.http.limits import ConcurrencyLimit, ConcurrencyLimiter, Lease
from app.http.problems import add_error_handlers, on_enlarger_error
from app.http.service import Service
from app.http.streaming import PictureResponse
from app.settings import Settings
from app.telemetry.in_flight import InFlightTracker
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Propagator
from app.upscale.upscaler import Upscaler
from harness import MODELS
from harness.pictures import encode

STEPS: tuple[CodeType, ...] = tuple(
    step.__code__
    for step in (
        routes.post_upscale,
        routes.picture_headers,
        routes.opened,
        *(
            each
            for _, each in inspect.getmembers(PictureResponse, inspect.isfunction)
            if each.__module__ == PictureResponse.__module__
        ),
        Lease.own,
        Lease.grow,
        Lease.take,
    )
)


class InjectedError(Exception):
    pass


@contextmanager
def fault_at(number: int) -> Iterator[list[str]]:
    """Raises at the line of that number, of all that run in ``STEPS``; the list then tells which one it was."""
    passed, hit = 0, []

    def at_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal passed
        if event == "line":
            passed += 1
            if passed == number:
                hit.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
                raise InjectedError(hit[0])
        return at_line

    def at_call(frame: FrameType, event: str, argument: Any) -> Any:
        return at_line if frame.f_code in STEPS else None

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        yield hit
    finally:
        sys.settrace(before)


class Watched:
    """The API before one network, with the middlewares that a request passes."""

    def __init__(self, upscaler: Upscaler) -> None:
        self.upscaler = upscaler
        app = FastAPI()
        app.include_router(routes.router)
        add_error_handlers(app)
        app.state.service = Service(Settings(), upscaler, ready=True)
        self.limiter = ConcurrencyLimiter(limit=2, slot_bytes=2**28, most_bytes=2**20)
        self.app = AccessLog(
            ConcurrencyLimit(app, self.limiter, on_enlarger_error),
            metrics=Metrics(),
            tracer=Propagator(),
            in_flight=InFlightTracker(),
        )

    def ask(self, image: bytes, **parameters: str) -> httpx.Response:
        """A fault that is no error of ours ends as a 500, or as a transfer without its end."""

        async def post() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post("/upscale", content=image, params=parameters)

        return asyncio.run(post())

    @property
    def left(self) -> tuple[int, int, int]:
        """Jobs, slots and bytes of bodies that nobody has given back."""
        return self.upscaler.scheduler.jobs(), self.limiter._taken, self.limiter._received


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with Upscaler.load(MODELS, "bicubic", provider="cpu") as upscaler:
        yield Watched(upscaler)


@pytest.mark.parametrize("parameters", [{}, {"decode": "true"}, {"format": "webp"}], ids=["streamed", "read", "whole"])
def test_a_fault_at_any_step_leaves_nothing_behind(watched: Watched, parameters: dict[str, str]) -> None:
    image = encode(np.zeros((9, 7, 3), np.uint8))
    places: list[str] = []
    for number in range(1, 1000):
        with fault_at(number) as hit:
            answer = watched.ask(image, model="bicubic", **parameters)
        assert watched.left == (0, 0, 0), f"left behind by a fault at {hit}"
        if not hit:
            assert answer.status_code == 200
            break
        places += hit
    names = {place.split(":")[0] for place in places}
    assert {"post_upscale", "picture_headers", "__init__", "__call__", "_send_all", "_next_piece"} <= names
    assert len(places) > 50


@pytest.mark.parametrize("body", [b"", b"no picture", encode(np.zeros((9, 7, 3), np.uint8))[:40]])
def test_what_is_refused_leaves_nothing_behind(watched: Watched, body: bytes) -> None:
    answer = watched.ask(body, model="bicubic")
    assert 400 <= answer.status_code < 500
    assert watched.left == (0, 0, 0)
