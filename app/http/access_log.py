"""The access log: gives every request an id and a trace, and at its end writes a log line, metrics and a span."""

import logging
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.in_flight import InFlightTracker
from app.telemetry.metrics import Metrics
from app.telemetry.record import Record, current_record
from app.telemetry.tracing import Tracer

log = logging.getLogger("enlarger.requests")

UNKNOWN_ROUTE = "none"
QUIET = ("/healthz", "/readyz", "/metrics")  # requested every few seconds, so logged at level DEBUG


class AccessLog:
    """ASGI middleware that keeps a ``Record`` of each request in ``scope["state"]["record"]``.

    The request's id is the caller's ``X-Request-Id`` if that is valid. Pure ASGI, because Starlette's
    ``BaseHTTPMiddleware`` would hide disconnects from the routes.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer, in_flight: InFlightTracker) -> None:
        self.app, self._metrics, self._tracer, self._in_flight = app, metrics, tracer, in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        span = self._tracer.begin(scope["method"], headers)
        record = Record(request_id_from(headers), span.context)
        scope.setdefault("state", {}).update(record=record, request_id=record.request_id)
        status = 500  # sent outside of this middleware for a bug before the response

        async def send_with_ids(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-Id"] = record.request_id
                answer["traceresponse"] = record.trace.header
            await send(message)

        token = current_record.set(record)
        started = time.perf_counter()
        try:
            await self.app(scope, receive, send_with_ids)
        except Exception:  # a bug: recorded and raised again; `problems.on_bug` answers it, outside of this middleware
            record.code = record.code or "internal_error"
            raise
        finally:
            self._in_flight.end(record)
            seconds = time.perf_counter() - started
            route = route_of(scope)
            self._metrics.observe(record, scope["method"], route, status, seconds)
            write_line(record, scope, status, seconds)
            span.end(attributes_of(record, scope, route, status), failed=status >= 500 or record.outcome == "broken")
            current_record.reset(token)


def route_of(scope: Scope) -> str:
    """The template of the route that has answered, so that invented paths create no new time series."""
    path: str = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
    return path


def write_line(record: Record, scope: Scope, status: int, seconds: float) -> None:
    stages = {name: round(value, 4) for name, value in record.clock.seconds.items()}
    more: dict[str, Any] = {"method": scope["method"], "path": scope["path"], "status": status}
    more |= {"seconds": round(seconds, 4), "outcome": record.outcome, "parent_id": record.trace.parent_id}
    told: dict[str, Any] = {"model": record.model, "code": record.code, "stages": stages}
    told |= {"input_pixels": record.input_pixels, "output_pixels": record.output_pixels}
    more |= {name: value for name, value in told.items() if value}
    level = logging.DEBUG if scope["path"] in QUIET and status == 200 else logging.INFO
    line = "%s %s %d %.3f s id=%s"
    log.log(level, line, scope["method"], scope["path"], status, seconds, record.request_id, extra=more)


def attributes_of(record: Record, scope: Scope, route: str, status: int) -> dict[str, str | int | float]:
    """OpenTelemetry's HTTP conventions, then our own attributes."""
    http: dict[str, str | int | float] = {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "http.route": route,
        "http.response.status_code": status,
    }
    own = {"request_id": record.request_id, "model": record.model, "code": record.code, "outcome": record.outcome}
    stages = {f"enlarger.{name}_seconds": seconds for name, seconds in record.clock.seconds.items()}
    http |= {f"enlarger.{name}": value for name, value in own.items() if value}
    return http | stages


def request_id_from(headers: Headers) -> str:
    told = headers.get("x-request-id", "")
    sane = 0 < len(told) <= 64 and all(c.isascii() and (c.isalnum() or c in "-_.") for c in told)
    return told if sane else uuid.uuid4().hex
