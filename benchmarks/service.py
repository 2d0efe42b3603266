"""The whole service against the bare session: ``python -m benchmarks.service [--model fast] [--picture FILE]``.

For each size a server process of its own enlarges the picture x4 to PNG over HTTP. Printed are the seconds from the
request to the last byte, the share of them before the first byte, the server's peak memory, and the LR pixels a second
as a ratio to the bare session's at its own best tile size, measured just before and just after.
"""

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import skimage.data
from PIL import Image

from app.inference.engine import Engine
from app.inference.zoo import load_zoo
from app.settings import Settings
from app.threads import usable_cores
from benchmarks.bare import bare
from benchmarks.client import post
from benchmarks.machine import machine
from harness.server import Server, running_server

SIZES = [(1024, 1024), (2048, 1500), (2000, 1500), (4000, 3000)]
INPUTS: dict[str, dict[str, int]] = {"png": {"compress_level": 1}, "jpeg": {"quality": 90}}
SCALE = 4
RUNS = 5  # of which the best counts, as of the bare session


@contextmanager
def fresh_server(provider: str) -> Iterator[Server]:
    with running_server(request_deadline_seconds="3600", max_queue_seconds="3600", provider=provider) as server:
        yield server


def size(text: str) -> tuple[int, int]:
    """ "384x256" as (384, 256)."""
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--provider", default="auto", help="of the service; the bare session is ONNX Runtime in fp32")
    parser.add_argument("--input", choices=INPUTS, default="png", help="what the pictures are sent as (default: png)")
    parser.add_argument(
        "--sizes", nargs="+", type=size, default=SIZES, metavar="WxH", help="LR (default: 1024x1024 and three larger)"
    )
    parser.add_argument("--picture", type=Path, help="enlarged or reduced to each size (default: skimage's coffee)")
    options = parser.parse_args()
    picture = Image.open(options.picture) if options.picture else Image.fromarray(skimage.data.coffee())
    picture = picture.convert("RGB")
    spec = load_zoo(Settings().models).find(options.model, SCALE)
    chosen = replace(load_zoo(Settings().models), default=spec.name, models=(spec,), generators=())
    engine = Engine(chosen, "cpu", usable_cores())
    print(f"{spec.title} on {usable_cores()} cores: {machine()}; service by {options.provider}")
    print(
        f"{'LR size':>12}{'seconds':>9}{'first byte':>12}{'peak MB':>9}{'PNG MB':>8}{'Mpx/s':>8}{'bare':>7}{'ratio':>7}"
    )
    for width, height in options.sizes:
        buffer = io.BytesIO()
        picture.resize((width, height), Image.Resampling.BICUBIC).save(buffer, options.input, **INPUTS[options.input])
        before = bare(engine, spec, picture).speed
        with fresh_server(options.provider) as server:
            runs = [
                post(server, buffer.getvalue(), model=options.model, scale=SCALE, format="png")
                for _ in range(RUNS if width < 4000 else 1)
            ]
            peak = server.peak_memory() / 1e6
        alone = (before + bare(engine, spec, picture).speed) / 2
        if not all(run.whole for run in runs):
            raise SystemExit("a request failed")
        first, total, sent = min(((run.first, run.seconds, run.size) for run in runs), key=itemgetter(1))
        speed = width * height / total
        print(
            f"{f'{width}x{height}':>12}{total:9.2f}{first / total:12.0%}{peak:9.0f}{sent / 1e6:8.0f}"
            f"{speed / 1e6:8.2f}{alone / 1e6:7.2f}{speed / alone:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
