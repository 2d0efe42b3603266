"""Promise 9: what goes wrong with one tile of a shared batch stays with its request."""

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from benchmarks.torture.result import Result
from harness.pictures import encode
from harness.server import Server, running_server
from harness.watched import FAIL, HOLD, WATCHED
from harness.zoo import small_zoo

MATES = 7  # beside the poisoned one: a batch of eight
SIDE = 48  # LR pixels: one tile
ASKED = {"model": "espcn", "scale": "2", "format": "png"}

# The watched service with the batches of a GPU: a CPU makes batches of one, two at a time where it has two cores.
BATCHING = f"""
from app.inference.engine import Engine
Engine.batch_macs = property(lambda engine: 10**9, lambda engine, macs: None)
{WATCHED.replace("windows[0][-1, -1]", "poisoned(windows)[-1, -1]")}
""".replace(
    "def watch(",
    """def poisoned(windows):
    marked = [w for w in windows if tuple(w[-1, -1].tolist()) in ((1, 2, 3), (3, 2, 1), (2, 3, 1))]
    print("batch of", len(windows), bool(marked), flush=True)
    return (marked or windows)[0]

def watch(""",
)


def tile(seed: int, colour: tuple[int, int, int] | None = None) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    if colour:
        pixels[-SIDE // 2 :, -SIDE // 2 :] = colour  # so that the mirror image beyond the corner has it too
    return encode(pixels)


def ask(server: Server, image: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/upscale", content=image, params=ASKED, timeout=120)


def one_batch(server: Server, gate: Path, number: int, solo: list[bytes]) -> tuple[int, int]:
    """How many mates' bytes differ from those of their solo runs, and the poisoned request's status."""
    with ThreadPoolExecutor(MATES + 2) as pool:
        before = server.log().count("batch of")
        first = pool.submit(ask, server, tile(0, HOLD))  # while it is held, the others gather
        server.wait_until(lambda: server.log().count("batch of") > before)
        asked = [pool.submit(ask, server, tile(seed)) for seed in range(1, MATES + 1)]
        asked.insert(number % (MATES + 1), pool.submit(ask, server, tile(99, FAIL)))
        server.wait_until(lambda: f"enlarger_jobs {MATES + 2}.0" in httpx.get(f"{server.url}/metrics").text, 60)
        gate.touch()
        first.result()
        answers = [future.result() for future in asked]
        gate.unlink()
    poisoned = answers.pop(number % (MATES + 1))
    return sum(answer.content != alone for answer, alone in zip(answers, solo, strict=True)), poisoned.status_code


def measure(batches: int) -> Result:
    models = small_zoo("espcn")
    with tempfile.TemporaryDirectory(prefix="enlarger-gate-") as folder:
        gate = Path(folder) / "open"
        with running_server(("-c", BATCHING, str(gate)), models=str(models), threads="1") as server:
            solo = [ask(server, tile(seed)).content for seed in range(1, MATES + 1)]
            seen = [one_batch(server, gate, number, solo) for number in range(batches)]
            shared = [int(size) for size in re.findall(r"batch of (\d+) True", server.log()) if int(size) > 1]
    different, statuses = sum(wrong for wrong, _ in seen), {status for _, status in seen}
    figure = (
        f"{len(shared)} batches of up to {max(shared, default=0)} with a poisoned tile: {different} of "
        f"{MATES * batches} mates differ from their solo runs; the poisoned one got {', '.join(map(str, statuses))}"
    )
    kept = not different and statuses == {503} and len(shared) >= batches / 2
    return Result(9, "a poisoned tile: batch-mates byte-identical", figure, kept, {"batches": shared[:50]})
