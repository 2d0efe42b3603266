"""How fast and how good int8 is beside fp32: ``python -m benchmarks.precisions [MODEL...] [--models DIR] [--data DIR]``

Speed is LR megapixels a second through the engine, in windows of 256 x 256. The two precisions take turns and the best
run of each counts, so that other work on the machine falls on both. With ``--data``, a folder of test sets: the luma
PSNR of int8 less that of fp32, in dB, through the served path.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.inference.engine import Engine
from app.inference.zoo import ModelSpec, Zoo, load_zoo
from app.settings import MODELS
from app.threads import usable_cores
from training.checkpoint import Folders
from training.report.evaluate import TEST_SETS, evaluate, served_path
from training.report.records import Metrics

PRECISIONS = ("fp32", "int8")
SIDE = 256  # LR pixels of a window
SECONDS = 3.0  # for each network and precision


def speeds(engines: dict[str, Engine], spec: ModelSpec) -> dict[str, float]:
    """LR pixels a second of each engine, the best of many runs in turn."""
    window = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    best = dict.fromkeys(engines, float("inf"))
    end = time.perf_counter() + SECONDS * len(engines)
    while time.perf_counter() < end:
        for precision, engine in engines.items():
            started = time.perf_counter()
            engine.run(spec, [window])
            best[precision] = min(best[precision], time.perf_counter() - started)
    return {precision: SIDE**2 / seconds for precision, seconds in best.items()}


def qualities(zoo: Zoo, specs: list[ModelSpec], data: Path) -> dict[str, dict[str, Metrics]]:
    """Figures on every test set there is: by precision, then by the network's title."""
    figures: dict[str, dict[str, Metrics]] = {}
    for precision in PRECISIONS:
        with served_path(zoo, specs, precision) as path:
            figures[precision] = {spec.title: evaluate(spec, path, Folders(data, data)) for spec in specs}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="MODEL", help="name or name-xN (default: all with an int8 file)")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--data", type=Path, help="folder of test sets")
    options = parser.parse_args()

    zoo = load_zoo(options.models)
    wanted = [spec for spec in zoo if not options.names or {spec.name, spec.title} & set(options.names)]
    specs = [spec for spec in wanted if "int8" in spec.files]
    if not specs:
        parser.exit(2, f"no int8 file of {', '.join(options.names) or 'any network'} in {options.models}\n")
    chosen = replace(zoo, models=tuple(specs))
    engines = {precision: Engine(chosen, "cpu", usable_cores(), precision) for precision in PRECISIONS}
    figures = qualities(zoo, specs, options.data) if options.data else {}

    sets = TEST_SETS if figures else ()
    print(f"{'':12} {'fp32 Mpx/s':>11} {'int8 Mpx/s':>11} {'ratio':>6}" + "".join(f" {name:>8}" for name in sets))
    for spec in specs:
        speed = speeds(engines, spec)
        line = f"{spec.title:12} {speed['fp32'] / 1e6:11.2f} {speed['int8'] / 1e6:11.2f} "
        line += f"{speed['int8'] / speed['fp32']:6.2f}"
        for name in sets:
            fp32, int8 = (figures[precision][spec.title].get(name) for precision in PRECISIONS)
            line += f" {int8['psnr_y'] - fp32['psnr_y']:+8.3f}" if fp32 and int8 else f" {'-':>8}"
        print(line)


if __name__ == "__main__":
    main()
