"""What a machine gets through: ``python -m benchmarks.throughput [MODEL...] [--clients 1 8 32] [--sizes 256x256 ...]``

Each network x4, by each runtime and in each precision: LR megapixels a second of the bare session, at its best tile
and batch, and of the service over HTTP, PNG in and out, under so many clients who each ask again as soon as they have
an answer. Beside it, of a picture's answer, the seconds in each stage (windows of different pictures are computed at a
time, so "compute" may add up to more than the answer took); the peak of the server's memory, and of the GPU's if any.

``--peak-tflops`` is the processor's arithmetic limit at that precision; the bare session's share of it is told then.
"""

import argparse
import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from app.inference.engine import Engine
from app.inference.providers import GpuOptions
from app.inference.runtimes import choose_runtimes
from app.inference.runtimes.base import FILES
from app.inference.zoo import ModelSpec, Zoo, load_zoo
from app.settings import MODELS
from app.telemetry.record import STAGES
from app.threads import usable_cores
from benchmarks.bare import Bare, bare
from benchmarks.client import closed_loop, percentile, photograph, picture, post
from benchmarks.machine import machine
from harness.server import Server, running_server

SCALE = 4
SIZES = ("256x256", "1280x720", "2312x1734")
BARE_SECONDS, BARE_SIDE = 4.0, 512  # over all tiles and batches; of the picture they are made of
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
POLL = 0.2  # seconds between two looks at the GPU's memory


class GpuMemory:
    """The most bytes in use on the fullest GPU while it is entered; 0 where there is none."""

    def __init__(self) -> None:
        self.peak, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(POLL):
            try:
                told = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                return
            self.peak = max(self.peak, *(int(line) * 2**20 for line in told.split()))


def stages(log: str, pictures: int) -> dict[str, float]:
    """Mean seconds of a request in each stage, over the last so many in a log of JSON lines."""
    lines = [json.loads(line) for line in log.splitlines() if '"stages"' in line][-pictures:]
    total: Counter[str] = Counter()
    for line in lines:
        total.update(line["stages"])
    return {stage: total[stage] / len(lines) for stage in STAGES}


@contextmanager
def server_of(options: argparse.Namespace, provider: str, precision: str) -> Iterator[Server]:
    settings = {"request_deadline_seconds": "3600", "max_queue_seconds": "3600", "log_format": "json"}
    settings |= {"max_requests": str(max(64, *options.clients)), "provider": provider, "precision": precision}
    with running_server(**settings, models=str(options.models)) as server:
        yield server


def measure(server: Server, spec: ModelSpec, alone: Bare, options: argparse.Namespace) -> None:
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        body, pixels = picture(width, height, "PNG", compress_level=1), width * height
        asked = {"model": spec.name, "scale": SCALE, "format": "png"}
        post(server, body, **asked)  # loads the network
        for clients in options.clients:
            with GpuMemory() as gpu:
                answers, seconds = closed_loop(server, body, clients, options.seconds, **asked)
            if not all(answer.whole for answer in answers):
                raise SystemExit("a request failed")
            speed = pixels * len(answers) / seconds
            took = [answer.seconds for answer in answers]
            memory = f"{server.peak_memory() / 1e6:9.0f}{gpu.peak / 1e6:9.0f}"
            parts = "".join(f"{mean:9.3f}" for mean in stages(server.log(), len(answers)).values())
            print(
                f"{size:>11}{clients:>8}{speed / 1e6:9.2f}{speed / alone.speed:7.2f}"
                f"{percentile(took, 50):8.2f}{percentile(took, 99):8.2f}{parts}{memory}",
                flush=True,
            )


def ways(zoo: Zoo, options: argparse.Namespace) -> list[tuple[ModelSpec, str, str]]:
    """The networks x4, by which provider and in which precision: what was asked for and is there."""
    specs = [zoo.find(name, SCALE) for name in options.models_asked]
    onnx, further = choose_runtimes(options.provider, GpuOptions())
    runtimes = [each for each in (onnx, further) if each and options.provider in ("auto", each.name)]
    kinds = [(each.name, precision) for each in runtimes for precision in each.precisions]
    asked = [(name, precision) for name, precision in kinds if precision in (options.precisions or (precision,))]
    return [
        (spec, name, precision)
        for spec in specs
        for name, precision in asked
        if FILES.get(precision, precision) in spec.files
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models_asked", nargs="*", metavar="MODEL", default=["fast", "balanced"])
    parser.add_argument("--precisions", nargs="+", metavar="PRECISION", help="fp32, bf16, fp16, int8")
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="in LR pixels")
    parser.add_argument("--seconds", type=float, default=5, help="after which nobody asks any more")
    parser.add_argument("--peak-tflops", type=float, help="of the processor, two operations a multiply-accumulate")
    parser.add_argument("--models", type=Path, default=MODELS)
    options = parser.parse_args()
    zoo = load_zoo(options.models)
    print(f"{usable_cores()} cores: {machine()}")
    for spec, provider, precision in ways(zoo, options):
        chosen = replace(zoo, default=spec.name, models=(spec,), generators=())
        engine = Engine(chosen, provider, usable_cores(), precision)
        alone = bare(engine, spec, photograph(BARE_SIDE, BARE_SIDE), BARE_SECONDS)
        network = engine.network(spec)
        del engine  # what it holds of a GPU
        tflops = 2 * spec.macs * alone.speed / 1e12
        share = f", {tflops / options.peak_tflops:.0%} of the limit" if options.peak_tflops else ""
        print(
            f"{spec.title} in {network.precision} on {network.provider}: {alone.speed / 1e6:.2f} LR Mpx/s bare "
            f"({alone.side} x {alone.side}, {alone.batch} at a time), {tflops:.2f} TFLOP/s{share}"
        )
        print(
            f"{'LR size':>11}{'clients':>8}{'Mpx/s':>9}{'ratio':>7}{'p50 s':>8}{'p99 s':>8}"
            + "".join(f"{stage:>9}" for stage in STAGES)
            + f"{'peak MB':>9}{'GPU MB':>9}"
        )
        with server_of(options, provider, precision) as server:
            measure(server, spec, alone, options)


if __name__ == "__main__":
    main()
