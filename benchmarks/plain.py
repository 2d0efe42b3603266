"""The service raced against a plain server: ``python -m benchmarks.plain [MODEL] [--sizes 512x512 ...]``

The plain one is what one writes in an afternoon: FastAPI, Pillow in, one ONNX Runtime session in fp32 over the whole
picture with all cores, Pillow's PNG out. Both run the same network and answer the same requests in turn, one at a time.
Printed are the seconds to the last byte (the best of some), the peak memory of each server, and the ratios.
"""

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from starlette.responses import Response

from app.inference.zoo import load_zoo
from app.settings import MODELS
from app.threads import usable_cores
from benchmarks.client import picture, post
from benchmarks.machine import machine
from harness.server import Server, running_server

SCALE = 4
SIZES = ("512x512", "1024x1024", "2048x1500")
RUNS = 5


def plain_app(path: Path) -> FastAPI:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    app = FastAPI()

    def enlarge(body: bytes) -> bytes:
        pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"), np.float32)[np.newaxis] / 255
        (upscaled,) = session.run(["upscaled"], {"image": pixels})
        result = io.BytesIO()
        Image.fromarray(upscaled[0]).save(result, "PNG")
        return result.getvalue()

    @app.post("/upscale")
    async def post_upscale(request: Request) -> Response:
        return Response(await run_in_threadpool(enlarge, await request.body()), media_type="image/png")

    return app


@contextmanager
def both(model: str, provider: str) -> Iterator[dict[str, Server]]:
    patience = {"request_deadline_seconds": "3600", "max_queue_seconds": "3600"}
    plain = ("-m", "benchmarks.plain", model, "--serve")
    with running_server(plain) as other, running_server(provider=provider, **patience) as service:
        yield {"plain": other, "service": service}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="fast")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="in LR pixels")
    parser.add_argument("--provider", default="auto", help="of the service")
    parser.add_argument("--serve", action="store_true", help="be the plain server")
    options = parser.parse_args()
    zoo = load_zoo(MODELS)
    spec = zoo.find(options.model, SCALE)
    if options.serve:
        uvicorn.run(plain_app(zoo.folder / spec.files["fp32"].path), port=0)
        return
    print(f"{spec.title} on {usable_cores()} cores: {machine()}; service by {options.provider}")
    print(f"{'LR size':>12}{'plain s':>9}{'service s':>11}{'ratio':>7}{'plain MB':>10}{'service MB':>12}{'ratio':>7}")
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        body = picture(width, height, "PNG", compress_level=1)
        with both(options.model, options.provider) as servers:
            seconds = dict.fromkeys(servers, float("inf"))
            for _ in range(RUNS):
                for name, server in servers.items():
                    answer = post(server, body, model=options.model, scale=SCALE, format="png")
                    if not answer.whole:
                        raise SystemExit(f"a request to the {name} server failed")
                    seconds[name] = min(seconds[name], answer.seconds)
            memory = {name: server.peak_memory() / 1e6 for name, server in servers.items()}
        print(
            f"{size:>12}{seconds['plain']:9.2f}{seconds['service']:11.2f}{seconds['plain'] / seconds['service']:7.2f}"
            f"{memory['plain']:10.0f}{memory['service']:12.0f}{memory['service'] / memory['plain']:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
