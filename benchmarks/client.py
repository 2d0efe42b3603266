"""What the benchmarks of the service share: pictures, and requests that are timed from the outside."""

import http.client
import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np
import skimage.data
from PIL import Image

from harness.server import Server

PATIENCE = 3600.0  # seconds


@dataclass(frozen=True)
class Answer:
    """``seconds`` to the last byte, ``first`` to the first one of the body; ``retry_after`` of a 429; ``whole``: a 200
    that came to its end."""

    status: int
    seconds: float
    first: float
    size: int
    retry_after: float
    whole: bool


def photograph(width: int, height: int) -> Image.Image:
    return Image.fromarray(skimage.data.coffee()).resize((width, height), Image.Resampling.BICUBIC)


def picture(width: int, height: int, format: str = "JPEG", **options: int) -> bytes:
    """A photograph of that size, as a file; by default a JPEG of quality 90."""
    buffer = io.BytesIO()
    photograph(width, height).save(buffer, format, **(options or {"quality": 90}))
    return buffer.getvalue()


def post(server: Server, body: bytes, **parameters: str | int) -> Answer:
    """One request on a connection of its own, its answer read as fast as it comes and thrown away.

    By ``http.client``: an ``httpx.Client`` loads a store of certificates first, 20 ms of a core that many clients at a
    time take from the server beside them.
    """
    started = time.perf_counter()
    first, size = 0.0, 0
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
    try:
        connection.request("POST", f"/upscale?{urlencode(parameters)}", body)
        answer = connection.getresponse()
        while piece := answer.read1(2**20):
            first = first or time.perf_counter() - started
            size += len(piece)
        status, told = answer.status, float(answer.headers.get("Retry-After", "nan"))
    except (http.client.HTTPException, OSError):
        status, told = 0, float("nan")
    finally:
        connection.close()
    return Answer(status, time.perf_counter() - started, first, size, told, status == 200)


def closed_loop(
    server: Server, body: bytes, clients: int, seconds: float, **parameters: str | int
) -> tuple[list[Answer], float]:
    """The answers to so many clients who each ask again as soon as they have one, and the seconds to the last of them.

    After ``seconds`` nobody asks any more.
    """
    started = time.perf_counter()

    def ask() -> list[Answer]:
        answers = [post(server, body, **parameters)]
        while time.perf_counter() < started + seconds:
            answers.append(post(server, body, **parameters))
        return answers

    with ThreadPoolExecutor(clients) as pool:
        answers = [answer for future in [pool.submit(ask) for _ in range(clients)] for answer in future.result()]
    return answers, time.perf_counter() - started


def percentile(values: list[float], share: int) -> float:
    return float(np.percentile(values, share)) if values else float("nan")
