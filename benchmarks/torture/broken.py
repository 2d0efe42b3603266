"""Promise 3: a picture that is not whole never ends like one, whatever broke it and whoever is between."""

import http.client
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.torture.result import Result
from harness.balancer import Balancer, balancer
from harness.pictures import encode
from harness.server import Server, head, running_server
from harness.watched import FAIL, HOLD, SPOIL, WATCHED, answer
from harness.zoo import small_zoo

HEIGHT, WIDTH = 512, 64  # LR pixels: eight bands of one tile each
PLACES = range(200, 448)  # the row at which a fault begins: in a later band than the first
FORMATS = ("png", "jpeg", "tiff")  # those that are streamed
CLIENTS = 3
KILLED_EVERY = 25  # of so many faults one is a process killed in the middle of a picture


def faulty(colour: tuple[int, int, int], row: int) -> bytes:
    pixels = np.random.default_rng(row).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    pixels[row:] = colour
    return encode(pixels)


def ending(place: Server | Balancer, image: bytes, format: str, meanwhile: Callable[[], object] = lambda: None) -> str:
    """How an answer ended: "clean" where any client would take it for whole; "refused" where it never began.

    ``meanwhile`` is called when the first bytes of the picture are here.
    """
    target = f"/upscale?model=bicubic&scale=4&format={format}"
    with place.connect(head(len(image), target) + image) as connection:
        try:
            response = answer(connection)
            if response.status != 200:
                return "refused"
            start = response.read1(65536)
            meanwhile()
            while response.read1(65536):
                pass
        except (http.client.HTTPException, OSError):
            return "broken"
    # read1 says nothing of an end that came too soon: what is left to read does
    return "clean" if response.isclosed() and start else "broken"


def one_fault(place: Server | Balancer, number: int) -> str:
    choice = random.Random(number)
    image = faulty(choice.choice((FAIL, SPOIL)), choice.choice(PLACES))
    return ending(place, image, choice.choice(FORMATS))


def one_kill(number: int, models: str, through: bool) -> str:
    """A server of its own, killed while a picture is half sent."""
    with tempfile.TemporaryDirectory(prefix="enlarger-kill-") as name:
        folder = Path(name)
        program = ("-c", WATCHED, str(folder / "gate"))
        with running_server(program, models=models, tile_pixels="4096") as server:

            def kill() -> None:
                os.kill(server.process.pid, signal.SIGKILL)

            image = faulty(HOLD, PLACES[number % len(PLACES)])
            if not through:
                return ending(server, image, "png", kill)
            with balancer(folder, [server.address[1]]) as front:
                return ending(front, image, "png", kill)


def measure(faults: int) -> Result:
    kills = faults // KILLED_EVERY
    started = time.perf_counter()
    models = small_zoo("bicubic")
    with tempfile.TemporaryDirectory(prefix="enlarger-nginx-") as folder:
        program = ("-c", WATCHED, f"{folder}/gate")
        with (
            running_server(program, models=str(models), tile_pixels="4096") as server,
            balancer(Path(folder), [server.address[1]]) as front,
            ThreadPoolExecutor(CLIENTS) as pool,
        ):
            places: tuple[Server | Balancer, ...] = (server, front)
            thrown = list(pool.map(lambda n: one_fault(places[n % 2], n), range(faults - kills)))
            whole = Counter(ending(place, faulty((9, 9, 9), 448), "png") for place in places)
        killed = [one_kill(number, str(models), bool(number % 2)) for number in range(kills)]
    endings = Counter([*thrown, *killed])
    figure = (
        f"{faults} faults ({kills} of them kill -9), half through nginx: {endings['clean']} clean endings, "
        f"{endings['broken']} broken transfers, {endings['refused']} never began"
    )
    kept = endings == {"broken": faults} and whole == {"clean": 2}
    details: dict[str, object] = {"seconds": round(time.perf_counter() - started), "without a fault": dict(whole)}
    return Result(3, "faults in the middle of a picture: no clean ending", figure, kept, details)
