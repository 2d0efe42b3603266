"""Promise 8, and what belongs to it: replicas that are replaced, killed or ended under load."""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from benchmarks.client import picture, post
from benchmarks.torture.result import Result
from harness.balancer import restarted_in_turn
from harness.pictures import crop, encode
from harness.server import BICUBIC, quick_server
from harness.supervised import Supervised
from harness.zoo import small_zoo

MOST_DOWN = 5.0  # seconds until a killed worker's successor answers
PATIENCE = 60.0  # seconds
IN_FLIGHT = 6  # pictures at the moment of SIGTERM


def measure(rounds: int) -> Result:
    models = small_zoo("bicubic")
    with tempfile.TemporaryDirectory(prefix="enlarger-nginx-") as folder:
        started = time.perf_counter()
        seen = restarted_in_turn(Path(folder), crop(40, 60), rounds, models=str(models))
        seconds = time.perf_counter() - started
    figure = (
        f"{rounds} restarts in {seconds:.0f} s, {seen.served:,} pictures: {len(seen.failed)} failed or short; "
        f"{seen.retried} were asked for again at the other replica"
    )
    kept = not seen.failed and seen.retried > 0
    return Result(8, "rolling restarts behind nginx under load", figure, kept, {"failed": seen.failed[:20]})


def measure_kills(rounds: int, most_seconds: float = MOST_DOWN, networks: Sequence[str] = ()) -> Result:
    """kill -9 of a supervised worker, with these networks or the whole zoo, while clients ask: how long nobody answers.

    Each asks with pictures of its own: one that is there at two kills is refused from then on.
    """
    over = threading.Event()
    with tempfile.TemporaryDirectory(prefix="enlarger-kill-") as folder, ThreadPoolExecutor(3) as pool:
        running = Supervised(Path(folder) / "log", sys.executable, "-m", "app.cli", "serve", networks=networks)
        try:
            running.wait_for("ready: ")
            for client in range(3):
                pool.submit(keep_asking, running.url, pictures(client), over)
            own = pictures(3)
            down = [seconds_without(running, own) for _ in range(rounds)]
        finally:
            over.set()
            running.process.terminate()
            status = running.process.wait(timeout=60)
    figure = (
        f"{rounds} times kill -9 under load: back after at most {max(down):.1f} s; SIGTERM then ends it with {status}"
    )
    return Result(
        8, "a killed worker is back in under 5 s", figure, max(down) < most_seconds and status == 0, {"down": down}
    )


def pictures(client: int) -> Iterator[bytes]:
    """Small ones that nobody else has, without end."""
    rng = np.random.default_rng(client)
    while True:
        yield encode(rng.integers(0, 256, (40, 60, 3), np.uint8))


def seconds_without(running: Supervised, own: Iterator[bytes]) -> float:
    """Kills the worker; the seconds until a picture is enlarged again. ``TimeoutError`` if none is within a minute."""
    time.sleep(0.5)
    os.kill(running.worker(), signal.SIGKILL)
    killed = time.perf_counter()
    while not answers(running.url, next(own)):
        if time.perf_counter() - killed > PATIENCE:
            raise TimeoutError(f"no picture was enlarged within {PATIENCE} s of a kill")
    return time.perf_counter() - killed


def answers(url: str, image: bytes) -> bool:
    try:
        return httpx.post(f"{url}/upscale", content=image, params=BICUBIC, timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


def keep_asking(url: str, own: Iterator[bytes], over: threading.Event) -> None:
    while not over.is_set():
        answers(url, next(own))


def measure_sigterm(rounds: int) -> Result:
    """SIGTERM while pictures are computed: each comes whole, and the process ends with 0."""
    image, ends, whole = picture(600, 400), [], 0
    for _ in range(rounds):
        with quick_server(drain_seconds="60") as server, ThreadPoolExecutor(IN_FLIGHT) as pool:
            asked = [pool.submit(post, server, image, **BICUBIC) for _ in range(IN_FLIGHT)]
            server.wait_until(lambda: "enlarger_jobs 0.0" not in metrics(server.url))
            time.sleep(0.2)  # some are computed by then, some still come in
            server.process.send_signal(signal.SIGTERM)
            answered = [future.result() for future in asked]
            whole += sum(answer.whole for answer in answered)
            refused = sum(answer.status == 503 for answer in answered)
            ends.append((server.process.wait(timeout=60), refused))
    cut = rounds * IN_FLIGHT - whole - sum(refused for _, refused in ends)
    figure = (
        f"{rounds} times SIGTERM with {IN_FLIGHT} requests in flight: {whole} whole, {cut} cut; every exit status 0"
    )
    kept = not cut and whole > 0 and all(status == 0 for status, _ in ends)
    return Result(8, "SIGTERM under load: what is in flight finishes", figure, kept, {"status and refused": ends})


def metrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=60).text
