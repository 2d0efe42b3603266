"""What batches are worth: ``python -m benchmarks.batching [--jobs 16]``

Many small pictures at once, through the scheduler, with batches of one and with batches under the engine's budget. On
an engine that takes as long as a GPU would (``LAUNCH`` a call, ``PIXEL`` a LR pixel, and no less than ``LEAST`` pixels'
time, because a small window leaves most of a GPU idle), and on the GPU where there is one.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from app.inference.batching import RunBatch
from app.inference.engine import GPU_BATCH_MACS, Engine
from app.inference.providers import choose_provider
from app.inference.scheduler import Scheduler
from app.inference.zoo import ModelSpec, load_zoo
from app.settings import MODELS
from app.threads import usable_cores
from harness.fakes import Pixels, make_spec, nearest

LAUNCH, PIXEL, LEAST = 2e-3, 20e-9, 500_000  # seconds, seconds, LR pixels
SIDE, WINDOWS = 128, 8  # LR pixels of a window, windows of a picture
FAST_MACS = 70_000  # a LR pixel


def pretend(spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
    time.sleep(LAUNCH + PIXEL * max(LEAST, sum(window[..., 0].size for window in windows)))
    return [nearest(window, 1) for window in windows]


def windows_a_second(run: RunBatch, spec: ModelSpec, batch_macs: int, jobs: int) -> float:
    scheduler = Scheduler(run, lambda _: 1e-8, 3600, batch_macs)
    window = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)

    def enlarge(_: int) -> None:
        with scheduler.open([(spec, WINDOWS * SIDE**2)], time.monotonic() + 3600) as job:
            for future in [job.submit(spec, window) for _ in range(WINDOWS)]:
                job.result(future)

    started = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(enlarge, range(4 * jobs)))
    seconds = time.perf_counter() - started
    scheduler.close()
    return 4 * jobs * WINDOWS / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16, help="pictures at once")
    parser.add_argument("--model", default="fast", help="for the GPU")
    options = parser.parse_args()
    engines = {"pretended GPU": (pretend, make_spec(scale=1, macs=FAST_MACS), GPU_BATCH_MACS)}
    if choose_provider("auto") == "cuda":
        zoo = load_zoo(MODELS)
        spec = zoo.find(options.model, 4)
        engine = Engine(replace(zoo, default=spec.name, models=(spec,)), "cuda", usable_cores())
        engines["GPU"] = (engine.run, spec, engine.batch_macs)
    for name, (run, spec, batch_macs) in engines.items():
        single = windows_a_second(run, spec, 0, options.jobs)
        batched = windows_a_second(run, spec, batch_macs, options.jobs)
        print(f"{name}: {single:.0f} windows/s alone, {batched:.0f} in batches, ratio {batched / single:.1f}")


if __name__ == "__main__":
    main()
