"""Promise 4: peak memory stays below what the settings say it may be (``Settings.most_bytes``)."""

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle, islice

import numpy as np

from app.settings import PREFIX, Settings, nested
from benchmarks.client import picture, post
from benchmarks.readers import PACE, RECEIVE_BUFFER
from benchmarks.torture.attacks import bombs
from benchmarks.torture.hostile import assault
from benchmarks.torture.result import Result
from harness.pictures import crop, encode
from harness.server import BICUBIC, Server, head, quick_server

MB = 1_000_000

# Those of deploy/kubernetes, but for room for all the slow readers.
SETTINGS = {
    "max_requests": 56,
    "max_upload_bytes": 64 * 2**20,
    "max_pixels": 20_000_000,
    "band_bytes": 4 * 2**20,
    "threads": 2,
}


def slow_reader(server: Server, image: bytes) -> socket.socket:
    return server.connect(head(len(image), "/upscale?model=bicubic&scale=4&format=png") + image, RECEIVE_BUFFER)


def sip(readers: list[socket.socket], over: threading.Event) -> None:
    while not over.wait(1):
        for reader in readers:
            with suppress(OSError):
                reader.recv(PACE)


def large_pictures() -> list[bytes]:
    """As many pixels as are taken, in the formats that are dearest to decode."""
    noisy = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    plain = np.tile(noisy[:50, :50], (80, 100, 1))  # 20 megapixels that compress well
    return [
        encode(plain, "WEBP", quality=1, method=0),
        encode(plain, "JPEG", quality=5, progressive=True),
        crop(3000, 3000),
    ]


def dear_results(server: Server, each: int) -> Counter[int]:
    """So many at a time of the results that take the most memory, and what became of them: they share all slots."""
    wide, square = crop(600, 4000), np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    asked = [
        (wide, {"depth": 16}),  # twice the bytes
        (wide, {"scale": 7}),  # two networks, and resampled
        (encode(np.dstack([square, square[..., 0]])), {"format": "webp", "lossless": "true"}),  # encoded whole
        (encode(square), {"format": "avif"}),
    ]
    with ThreadPoolExecutor(each * len(asked)) as pool:
        futures = [pool.submit(post, server, image, **BICUBIC | extra) for image, extra in asked * each]
        return Counter(future.result().status for future in futures)


def measure(readers: int, side: int, seconds: float, inputs: int, large: int = 3, dear: int = 10) -> Result:
    settings = {name: str(value) for name, value in SETTINGS.items()}
    patient = {"send_seconds": "3600", "request_deadline_seconds": "3600", "max_queue_seconds": "3600"}
    pictures, body, over = large_pictures()[:large], picture(side, side), threading.Event()
    with quick_server(**settings, **patient) as server:
        idle = server.peak_memory()
        sipping = [slow_reader(server, body) for _ in range(readers)]
        sipper = threading.Thread(target=sip, args=(sipping, over))
        sipper.start()
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(post, server, image, model="bicubic", scale=1, format="png") for image in pictures]
            assault(server, islice(cycle(bombs()), inputs))
            statuses = [future.result().status for future in asked]
        time.sleep(seconds)
        over.set()
        sipper.join()
        for reader in sipping:
            reader.close()
        server.wait_until(lambda: post(server, crop(8, 8), model="bicubic").whole, seconds=60)
        ends = dear_results(server, dear)
        peak = server.peak_memory()
        alive = server.process.poll() is None
    most = Settings(**nested({f"{PREFIX}{name.upper()}": value for name, value in settings.items()})).most_bytes
    figure = (
        f"{readers} slow readers, {inputs} bombs and {len(pictures)} large pictures at a time, then {ends.total()} "
        f"dear results ({ends[200]} whole, {ends[429]} refused): peak {peak / MB:.0f} MB "
        f"(idle {idle / MB:.0f}) of {most / MB:.0f} MB by the formula"
    )
    details: dict[str, object] = {"settings": SETTINGS, "large pictures": statuses, "dear results": dict(ends)}
    kept = alive and peak <= most and ends[200] > 0 and ends[200] + ends[429] == ends.total()
    return Result(4, "peak memory <= the published formula", figure, kept, details)
