"""Promise 7: a client who leaves, at whatever moment, frees its compute within one batch."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.torture.result import Result
from harness.pictures import encode
from harness.server import BICUBIC, Server, head, running_server
from harness.watched import HOLD, LITTLE, TARGET, WATCHED, answer, ask, noise, settled, tiles
from harness.zoo import small_zoo

SIZE = 4_000_000  # bytes of the picture that is downloaded, at least
Leave = Callable[[Server, bytes], None]


@dataclass(frozen=True)
class Point:
    """``leave`` comes and goes; while ``held`` the engine does not get past its first tile meanwhile."""

    name: str
    leave: Leave
    held: bool = False


def after_sending(count: Callable[[bytes], int]) -> Leave:
    """Sends so many bytes of the request, and is gone."""

    def leave(server: Server, image: bytes) -> None:
        request = head(len(image), TARGET) + image
        before = tiles(server)
        with server.connect(request[: count(request)]):
            if count(request) >= len(request):
                server.wait_until(lambda: tiles(server) > before or "POST /upscale 499" in server.log())
            else:
                settled(lambda: len(server.log()), 0.1)

    return leave


def behind_another(server: Server, image: bytes) -> None:
    before = tiles(server)
    with ask(server, image), ask(server, image):
        server.wait_until(lambda: tiles(server) > before)
        server.wait_until(lambda: "enlarger_jobs 2.0" in httpx.get(f"{server.url}/metrics").text)


def after_reading(share: float) -> Leave:
    """Takes that share of the picture, slowly, and is gone while the rest is held back by it."""

    def leave(server: Server, image: bytes) -> None:
        with ask(server, noise(3000, 64), receive_buffer=LITTLE) as connection:
            response = answer(connection)
            left = max(1, int(share * SIZE))
            while left > 0:
                piece = response.read1(min(left, 65536))
                assert piece, f"the picture is smaller than {SIZE} bytes"
                left -= len(piece)
            settled(lambda: tiles(server), 0.3)

    return leave


POINTS = (
    Point("in the headers", after_sending(lambda request: 20)),
    Point("before the body", after_sending(lambda request: request.index(b"\r\n\r\n") + 4)),
    Point("in the body", after_sending(lambda request: len(request) // 2)),
    Point("in the first tile", after_sending(len), held=True),
    Point("in the queue", behind_another, held=True),
    Point("at the first byte", after_reading(0)),
    *(Point(f"after {share:.0%}", after_reading(share)) for share in (0.2, 0.4, 0.6, 0.8)),
)


def computed_after(server: Server, gate: Path, point: Point) -> int:
    """Tiles computed for a client after it has left, beyond the one that was being computed."""
    pixels = np.zeros((300, 451, 3), np.uint8)
    pixels[:] = HOLD if point.held else (40, 50, 60)
    if not point.held:
        gate.touch()
    point.leave(server, encode(pixels))
    at_leaving = tiles(server)
    with server.client() as client:  # two rounds of the server's loop: it has seen that the client is gone
        assert [client.get("/healthz").status_code for _ in range(2)] == [200, 200]
    gate.touch()
    server.wait_until(lambda: "enlarger_jobs 0.0" in httpx.get(f"{server.url}/metrics").text)
    small = httpx.post(f"{server.url}/upscale", content=encode(pixels[:20, :20] * 0 + 9), params=BICUBIC, timeout=60)
    assert small.status_code == 200, small.text
    gate.unlink()
    return tiles(server) - 1 - at_leaving  # the small picture's own


def measure(rounds: int) -> Result:
    extra: dict[str, int] = {}
    models = small_zoo("bicubic")
    with tempfile.TemporaryDirectory(prefix="enlarger-gate-") as folder:
        gate = Path(folder) / "open"
        with running_server(("-c", WATCHED, str(gate)), models=str(models), tile_pixels="4096") as server:
            for _ in range(rounds):
                for point in POINTS:
                    extra[point.name] = max(extra.get(point.name, 0), computed_after(server, gate, point))
            with suppress(FileNotFoundError):
                gate.unlink()
    figure = f"{len(POINTS)} points, {rounds} times each: at most {max(extra.values())} tiles computed for who had left"
    return Result(7, "a disconnect frees its compute within one batch", figure, max(extra.values()) <= 1, dict(extra))
