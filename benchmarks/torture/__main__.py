"""The ten promises with their figures: ``python -m benchmarks.torture [--short] [--json FILE] [PROMISE...]``."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.torture import broken, disconnects, documented, hostile, memory, overload, poison, readiness, restarts
from benchmarks.torture.result import Result
from training.hardware import machine

Measures = dict[int, list[Callable[[], Result]]]


def full(soak_minutes: float) -> Measures:
    return {
        1: [partial(hostile.measure, inputs=100_000), partial(hostile.measure_headers, lies=5000)],
        2: [partial(documented.measure, inputs=10_000, examples=300)],
        3: [partial(broken.measure, faults=1000)],
        4: [partial(memory.measure, readers=50, side=1024, seconds=20, inputs=200)],
        5: [partial(overload.measure_goodput, seconds=12)],
        6: [partial(overload.measure_outcomes, accepted=10_000)],
        7: [partial(disconnects.measure, rounds=10)],
        8: [
            partial(restarts.measure, rounds=100),
            partial(restarts.measure_kills, rounds=10),
            partial(restarts.measure_sigterm, rounds=5),
        ],
        9: [partial(poison.measure, batches=100)],
        10: [readiness.measure, partial(readiness.measure_soak, minutes=soak_minutes)],
    }


def short() -> Measures:
    """With small counts, and no promise of seconds: who else is on the machine?

    Restarts behind nginx and false starts are not here: tests/deploy/test_nginx.py and tests/test_startup.py have them.
    """
    return {
        1: [
            partial(hostile.measure, inputs=500, most_seconds=float("inf")),
            partial(hostile.measure_headers, lies=200, most_ms=float("inf")),
        ],
        2: [partial(documented.measure, inputs=200, examples=2)],
        3: [partial(broken.measure, faults=30)],
        4: [partial(memory.measure, readers=20, side=256, seconds=1, inputs=50, large=1, dear=1)],
        # With a queue so short that the second request is one too many, however slow the machine is.
        5: [
            partial(overload.measure_goodput, seconds=2, rounds=1, least=0, queue_seconds=0.05, most_queue=float("inf"))
        ],
        6: [partial(overload.measure_outcomes, accepted=100, late=float("inf"))],
        7: [partial(disconnects.measure, rounds=1)],
        8: [
            partial(restarts.measure_kills, rounds=1, most_seconds=float("inf"), networks=("bicubic",)),
            partial(restarts.measure_sigterm, rounds=1),
        ],
        9: [partial(poison.measure, batches=3)],
        10: [partial(readiness.measure_soak, minutes=0.1, most_growth=float("inf"))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("promises", type=int, nargs="*", metavar="PROMISE", help="1 to 10; all if left out")
    parser.add_argument("--short", action="store_true", help="small counts, and nothing that depends on the machine")
    parser.add_argument("--soak-minutes", type=float, default=30)
    parser.add_argument("--json", type=Path, help="write all figures and their details there")
    options = parser.parse_args()
    measures = short() if options.short else full(options.soak_minutes)
    results = []
    for promise in options.promises or measures:
        for measure in measures.get(promise, []):
            started = time.monotonic()
            result = measure()
            results.append(result)
            kept = "kept  " if result.kept else "BROKEN"
            print(f"{result.promise:2} {kept} {result.title} ({time.monotonic() - started:.0f} s)", flush=True)
            print(f"          {result.figure}", flush=True)
    if options.json:
        told = {"machine": machine(), "results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.exit(not all(result.kept for result in results))


if __name__ == "__main__":
    main()
