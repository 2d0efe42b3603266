"""What the benchmarks of the service share: pictures, and requests that are timed from the outside."""

import io
import time
from dataclasses import dataclass

import httpx
import numpy as np
import skimage.data
from PIL import Image

from tests.conftest import Server

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


def picture(width: int, height: int) -> bytes:
    """A photograph of that size, as JPEG."""
    image = Image.fromarray(skimage.data.coffee()).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def post(server: Server, body: bytes, **parameters: str | int) -> Answer:
    """One request on a connection of its own, its answer read as fast as it comes and thrown away."""
    started = time.perf_counter()
    first, size, whole = 0.0, 0, False
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        try:
            with client.stream("POST", "/upscale", params=parameters, content=body) as answer:
                for piece in answer.iter_raw():
                    first = first or time.perf_counter() - started
                    size += len(piece)
                whole = answer.status_code == 200
            status, told = answer.status_code, float(answer.headers.get("Retry-After", "nan"))
        except httpx.HTTPError:
            status, told = 0, float("nan")
    return Answer(status, time.perf_counter() - started, first, size, told, whole)


def percentile(values: list[float], share: int) -> float:
    return float(np.percentile(values, share)) if values else float("nan")
