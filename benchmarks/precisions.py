"""How fast and how good each runtime and precision is beside ONNX Runtime's fp32:
``python -m benchmarks.precisions [MODEL...] [--models DIR] [--data DIR]``

Speed is LR megapixels a second through the engine, in windows of 256 x 256. All take turns and the best run of each
counts, so that other work on the machine falls on each. With ``--data``, a folder of test sets: the luma PSNR less that
of ONNX Runtime's fp32, in dB, through the served path. OpenVINO is measured where it is installed.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.inference.engine import Engine
from app.inference.providers import GpuOptions
from app.inference.runtimes import OPENVINO, choose_runtimes
from app.inference.runtimes.base import FILES
from app.inference.zoo import ModelSpec, Zoo, load_zoo
from app.settings import MODELS
from app.threads import usable_cores
from benchmarks.machine import machine
from training.checkpoint import Folders
from training.report.evaluate import TEST_SETS, evaluate, served_path
from training.report.records import Metrics

Way = tuple[str, str]  # provider, precision

BASE: Way = ("cpu", "fp32")
ONNX_RUNTIME: tuple[Way, ...] = (BASE, ("cpu", "int8"))
SIDE = 256  # LR pixels of a window
SECONDS = 3.0  # for each network and way


def ways() -> Iterator[Way]:
    yield from ONNX_RUNTIME
    _, further = choose_runtimes("auto", GpuOptions())
    if further is not None:
        yield from ((OPENVINO, precision) for precision in further.precisions)


def speeds(engines: dict[Way, Engine], spec: ModelSpec) -> dict[Way, float]:
    """LR pixels a second of each engine, the best of many runs in turn."""
    window = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    best = dict.fromkeys(engines, float("inf"))
    end = time.perf_counter() + SECONDS * len(engines)
    while time.perf_counter() < end:
        for way, engine in engines.items():
            started = time.perf_counter()
            engine.run(spec, [window])
            best[way] = min(best[way], time.perf_counter() - started)
    return {way: SIDE**2 / seconds for way, seconds in best.items()}


def quality(zoo: Zoo, spec: ModelSpec, way: Way, data: Path) -> Metrics:
    """Figures on every test set there is."""
    provider, precision = way
    with served_path(zoo, [spec], precision, provider) as path:
        return evaluate(spec, path, Folders(data, data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="MODEL", help="name or name-xN (default: all)")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--data", type=Path, help="folder of test sets")
    options = parser.parse_args()

    zoo = load_zoo(options.models)
    specs = [spec for spec in zoo if not options.names or {spec.name, spec.title} & set(options.names)]
    if not specs:
        parser.exit(2, f"no network {', '.join(options.names)} in {options.models}\n")
    sets = TEST_SETS if options.data else ()
    print(f"{usable_cores()} cores: {machine()}")
    print(f"{'':12} {'':9}{'':5}{'LR Mpx/s':>9} {'ratio':>6}" + "".join(f" {name:>8}" for name in sets))
    for spec in specs:
        chosen = replace(zoo, default=spec.name, models=(spec,), generators=())
        there = [way for way in ways() if FILES.get(way[1], way[1]) in spec.files]
        engines = {way: Engine(chosen, way[0], usable_cores(), way[1]) for way in there}
        speed = speeds(engines, spec)
        figures = {way: quality(chosen, spec, way, options.data) for way in there} if options.data else {}
        for provider, precision in there:
            way = provider, precision
            line = f"{spec.title:12} {provider:9}{precision:5}{speed[way] / 1e6:9.2f} {speed[way] / speed[BASE]:6.2f}"
            for name in sets:
                base, own = figures[BASE].get(name), figures[way].get(name)
                line += f" {own['psnr_y'] - base['psnr_y']:+8.3f}" if base and own else f" {'-':>8}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
