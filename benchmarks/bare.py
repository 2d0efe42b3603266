"""What a session does alone, against which the service is measured."""

import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.inference.engine import Engine
from app.inference.zoo import ModelSpec

TILES, BATCHES = (128, 192, 256, 384, 512), (1, 4, 16)


@dataclass(frozen=True)
class Bare:
    """The best of a session alone: LR pixels a second, in windows of ``side`` x ``side``, ``batch`` at a time."""

    speed: float
    side: int
    batch: int


def bare(engine: Engine, spec: ModelSpec, picture: Image.Image, seconds: float = 2.0) -> Bare:
    """The best of some runs of each tile size and, where the engine makes batches, of each batch within its budget."""
    batches = BATCHES if engine.batch_macs else BATCHES[:1]
    cases = [(side, batch) for side in TILES for batch in batches]
    fitting = [(s, b) for s, b in cases if b == 1 or s * s * b * spec.macs <= engine.batch_macs]
    best = Bare(0.0, 0, 0)
    for side, batch in fitting:
        windows = [np.asarray(picture.resize((side, side)))] * batch
        end = time.perf_counter() + seconds / len(fitting)
        while time.perf_counter() < end:
            started = time.perf_counter()
            engine.run(spec, windows)
            speed = side * side * batch / (time.perf_counter() - started)
            best = max(best, Bare(speed, side, batch), key=lambda each: each.speed)
    return best
