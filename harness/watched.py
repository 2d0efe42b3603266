"""A service whose engine says each tile and does what a picture's own colours tell it: wait, fail, give nonsense."""

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.client import HTTPResponse
from pathlib import Path

import httpx
import numpy as np

from harness.pictures import encode
from harness.server import BICUBIC, Server, head, quick_server

# The service, its engine watched: it says each tile, and the picture itself tells what is to go wrong with one, by the
# colour of the tile's last pixel.
WATCHED = """
import sys, time
from pathlib import Path
from app.inference.engine import Engine
from app.main import serve
from app.settings import Settings

gate = Path(sys.argv[1])

def watch(run):
    def watched(engine, spec, windows, strengths):
        sys.stdout.write("tile\\n")  # one call, for two threads
        sys.stdout.flush()
        match tuple(windows[0][-1, -1].tolist()):
            case (1, 2, 3):
                while not gate.exists():
                    time.sleep(0.01)
            case (3, 2, 1):
                raise RuntimeError("the GPU has left")
            case (2, 3, 1):
                return [None for window in windows]  # which nobody downstream expects
        return run(engine, spec, windows, strengths)

    return watched

Engine.run, Engine.run_beside = watch(Engine.run), watch(Engine.run_beside)
serve(Settings(port=0))
"""
HOLD, FAIL, SPOIL = (1, 2, 3), (3, 2, 1), (2, 3, 1)

TARGET = f"/upscale?{httpx.QueryParams(BICUBIC)}"
LITTLE = 4096  # bytes of receive buffer, for readers who are to be waited for


def watched_server(gate: Path, **settings: str) -> AbstractContextManager[Server]:
    """Its tiles are small, so that a photo has several bands."""
    return quick_server(("-c", WATCHED, str(gate)), tile_pixels="4096", **settings)


def marked(photo: np.ndarray, colour: tuple[int, int, int], top: int) -> bytes:
    """The photo with that colour from row ``top`` on: from 0 on all its bands are concerned, from 150 on the lower."""
    pixels = photo.copy()
    pixels[top:] = colour
    return encode(pixels)


def noise(height: int, width: int) -> bytes:
    """A picture whose enlargement fills every buffer on its way."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return encode(pixels, "JPEG", quality=10)


def ask(server: Server, image: bytes, version: str = "1.1", receive_buffer: int = 0) -> socket.socket:
    return server.connect(head(len(image), TARGET, version) + image, receive_buffer)


def open_wide(connection: socket.socket) -> None:
    """Ends the slowness of a reader with a little buffer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)


def answer(connection: socket.socket) -> HTTPResponse:
    """The response as far as its headers; its end closes the connection."""
    response = HTTPResponse(connection)
    response.begin()
    return response


def tiles(server: Server) -> int:
    return server.log().count("tile\n")


def settled(count: Callable[[], int], seconds: float = 0.7) -> int:
    """The count once it has not changed for a while."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.05)
        if (now := count()) != last:
            last, since = now, time.monotonic()
    return last
