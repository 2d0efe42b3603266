"""W3C trace context: the caller's trace, passed on to the log, to the response and, on request, to OpenTelemetry.

https://www.w3.org/TR/trace-context/; ``traceresponse`` is in its level 3 draft.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from app.errors import StartupError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

# version "-" trace-id "-" parent-id "-" flags; a later version may have more fields, version ff is invalid.
TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True)
class TraceContext:
    """A span: lower-case hex of 16 bytes, 8 bytes and 1 byte. ``parent_id`` is empty if the trace began here."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: str = "00"

    @property
    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def child_of(traceparent: str) -> TraceContext:
    """A new span under the caller's; of a new trace if the header is missing or malformed."""
    found = TRACEPARENT.fullmatch(traceparent)
    if found:
        version, trace_id, parent_id, flags, rest = found.groups()
        if int(trace_id, 16) and int(parent_id, 16) and not (version == "00" and rest):
            return TraceContext(trace_id, secrets.token_hex(8), parent_id, flags)
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8))


class Tracer(Protocol):
    """Begins one span per request; ``Attributes`` are given at its end."""

    def begin(self, name: str, headers: Mapping[str, str]) -> "RequestSpan": ...

    def close(self) -> None:
        """Sends whatever has not been sent."""


class RequestSpan(Protocol):
    @property
    def context(self) -> TraceContext: ...

    def end(self, attributes: Mapping[str, str | int | float], failed: bool) -> None: ...


class Propagator:
    """No tracing of our own, only ids for the log and the response."""

    def begin(self, name: str, headers: Mapping[str, str]) -> "PropagatedSpan":
        return PropagatedSpan(child_of(headers.get("traceparent", "")))

    def close(self) -> None:
        """There is nothing to send."""


@dataclass(frozen=True)
class PropagatedSpan:
    context: TraceContext

    def end(self, attributes: Mapping[str, str | int | float], failed: bool) -> None:
        """There is nothing to record."""


class OpenTelemetry:
    """Spans sent to wherever the ``OTEL_*`` variables say, by OTLP over HTTP."""

    def __init__(self, version: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise StartupError("ENLARGER_TRACING needs the extra: pip install 'enlarger[otel]'.") from error
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence over these.
        resource = Resource.create({"service.name": "enlarger", "service.version": version})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("enlarger", version)

    def begin(self, name: str, headers: Mapping[str, str]) -> "OpenTelemetrySpan":
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        caller = TraceContextTextMapPropagator().extract(headers)
        span = self._tracer.start_span(name, context=caller, kind=SpanKind.SERVER)
        return OpenTelemetrySpan(span, child_of(headers.get("traceparent", "")).parent_id)

    def close(self) -> None:
        self._provider.shutdown()


class OpenTelemetrySpan:
    def __init__(self, span: "Span", parent_id: str) -> None:
        self._span = span
        own = span.get_span_context()
        ids = f"{own.trace_id:032x}", f"{own.span_id:016x}"
        self.context = TraceContext(*ids, parent_id, f"{int(own.trace_flags):02x}")

    def end(self, attributes: Mapping[str, str | int | float], failed: bool) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
