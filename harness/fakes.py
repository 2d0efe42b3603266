"""A network that only repeats pixels: exact and instant, and it can be watched, held and broken."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from app.inference.engine import Engine
from app.inference.scheduler import Scheduler
from app.inference.zoo import ModelSpec

Pixels = NDArray[np.uint8]
PATIENCE = 120.0  # seconds until a test that waits for a thread gives up


def make_spec(name: str = "nearest", scale: int = 2, context: int = 3, macs: int = 1) -> ModelSpec:
    return ModelSpec(
        name=name,
        scale=scale,
        architecture="nearest",
        context=context,
        parameters=0,
        macs=macs,
        summary="each pixel repeated",
        licence="Apache-2.0",
        recipe="",
        training={},
        files={},
    )


def nearest(pixels: Pixels, scale: int) -> Pixels:
    """Each pixel ``scale`` times in both directions: ``[h, w, ...]`` to ``[h * scale, w * scale, ...]``."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class FakeEngine:
    """``run`` is a ``run_batch`` for the scheduler.

    ``batches`` records the calls, each window by its first sample. While ``gate`` is cleared a call waits after setting
    ``reached``. ``before`` is called with the windows of each batch and may raise.
    """

    def __init__(self, before: Callable[[list[Pixels]], object] = lambda windows: None) -> None:
        self.batches: list[list[int]] = []
        self.kinds: list[set[tuple[int, ...]]] = []
        self.gate, self.reached = threading.Event(), threading.Event()
        self.gate.set()
        self._before = before

    @property
    def computed(self) -> list[int]:
        """First samples of all windows so far, in the order of their computation."""
        return [sample for batch in self.batches for sample in batch]

    def run(self, spec: ModelSpec, windows: list[Pixels], strengths: Sequence[float] = ()) -> list[Pixels]:
        self.batches.append([int(window[0, 0, 0]) for window in windows])
        self.kinds.append({(spec.scale, *window.shape) for window in windows})
        self.reached.set()
        assert self.gate.wait(PATIENCE), "nobody opened the gate"
        self._before(windows)
        return [nearest(window, spec.scale) for window in windows]


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


@contextmanager
def running(
    engine: FakeEngine | Engine, rate: float = 1e-6, max_seconds: float = 60, batch_macs: int = 0
) -> Iterator[Scheduler]:
    """A scheduler over an engine; ``rate`` is the first estimate of seconds a pixel, for every network."""
    scheduler = Scheduler(engine.run, lambda spec: rate, max_seconds, batch_macs)
    try:
        yield scheduler
    finally:
        if isinstance(engine, FakeEngine):
            engine.gate.set()
        scheduler.close()
