"""The record of one request: ids, time per stage, outcome; the source of its log line, metrics and span."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from app.telemetry.tracing import TraceContext

STAGES = ("receive", "decode", "queue", "compute", "stitch", "encode", "send")
WAIT = "wait"  # of a request's thread for its windows: already reported as "queue" and "compute"

Outcome = Literal["answered", "cancelled", "too_slow", "broken"]
"""``cancelled``: the client disconnected. ``too_slow``: it was disconnected. ``broken``: a fault after the 200."""


class StageClock:
    """Seconds that a request has spent in each stage. A nested stage does not count towards the outer one.

    ``stage`` is for one thread at a time, ``add`` for any.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] += elapsed - self._inner
            self._inner = outer + elapsed

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] += seconds


@dataclass
class Record:
    """One request, filled in on its way. ``code``: of the problem document it was answered with; pixels are LR and
    HR."""

    request_id: str
    trace: TraceContext
    clock: StageClock = field(default_factory=StageClock)
    model: str = ""
    code: str = ""
    outcome: Outcome = "answered"
    input_pixels: int = 0
    output_pixels: int = 0


current_record: ContextVar[Record | None] = ContextVar("current_record", default=None)
"""The request on which this task, or the thread it waits for, is working."""


def record_of(scope: Mapping[str, Any]) -> Record:
    """The record that ``access_log.py`` has put into an ASGI scope."""
    record: Record = scope["state"]["record"]
    return record
