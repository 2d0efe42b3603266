"""Promise 10: who says ready has proven it; and a process that runs for long does not grow."""

import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.torture.attacks import Attack, attacks
from benchmarks.torture.hostile import assault
from benchmarks.torture.result import Result
from harness import MODELS
from harness.pictures import crop
from harness.server import quick_server, running_server
from harness.startup import BROKEN, SPOILED, refused_start

MOST_GROWTH = 1.0  # MB a thousand requests
SETTLED = 1 / 3  # of the soak, after which growth counts
SAMPLES = 60


def starts() -> dict[str, str]:
    """What should keep it from starting, and what did come of it: "refused", or what was wrong with the refusal."""
    found = {}
    for kind, (spoil, parts) in SPOILED.items():
        with tempfile.TemporaryDirectory(prefix="enlarger-models-") as folder:
            models = Path(shutil.copytree(MODELS, Path(folder) / "models"))
            spoil(models)
            found[kind] = judged(*refused_start(models=str(models)), parts)
    found["a GPU that is not there"] = judged(*refused_start(provider="cuda", cuda_visible_devices="-1"), ("cuda",))
    try:
        with running_server(("-c", BROKEN)):
            found["a network that computes black"] = "it serves"
    except RuntimeError as error:
        said = "its output is not the image that it was given" in str(error)
        found["a network that computes black"] = "refused" if said else str(error)[-200:]
    return found


def judged(status: int, output: str, parts: tuple[str, ...]) -> str:
    return "refused" if status == 2 and all(part in output for part in parts) else f"{status}: {output[-200:]}"


def measure() -> Result:
    found = starts()
    refused = sum(end == "refused" for end in found.values())
    figure = f"{len(found)} kinds of false start: {refused} refused with one line, none ever opened its port"
    return Result(10, "ready means proven", figure, refused == len(found), dict(found))


def everyday(seed: int) -> Iterator[Attack]:
    """What a public service sees: pictures of some sizes and formats, and a third of it hostile."""
    random = np.random.default_rng(seed)
    pictures = [crop(48 * (n + 1), 64 * (n + 1), format) for n in range(3) for format in ("PNG", "JPEG", "WEBP")]
    hostile = attacks(10**9, seed)
    while True:
        if random.random() < 1 / 3:
            yield next(hostile)
        else:
            data = pictures[random.integers(len(pictures))]
            form = ("png", "jpeg", "webp", "tiff")[random.integers(4)]
            scale = str(random.choice((2, 2.5, 4)))
            yield Attack("picture", data, {"model": "bicubic", "scale": scale, "format": form})


def measure_soak(minutes: float, most_growth: float = MOST_GROWTH) -> Result:
    """Growth is the slope of a straight line through the memory after the first third, by least squares."""
    traffic = everyday(10)
    count, points = 0, []
    with quick_server() as server:
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            until = time.monotonic() + 60 * minutes / SAMPLES
            tally = assault(server, itertools.takewhile(lambda _, until=until: time.monotonic() < until, traffic))
            count += sum(tally.answers.values())
            points.append((count, server.memory() / 1e6))
        alive, files = server.process.poll() is None, server.open_files()
    late = points[int(SETTLED * len(points)) :]
    growth = 1000 * float(np.polyfit(*np.array(late, float).T, 1)[0])
    figure = (
        f"{minutes:g} minutes, {count:,} requests: {growth:+.3f} MB a thousand; {points[0][1]:.0f} MB after the first "
        f"{minutes / SAMPLES * 60:.0f} s, {points[-1][1]:.0f} MB in the end"
    )
    details: dict[str, object] = {"points": points, "open files": files}
    return Result(10, "soak: growth < 1 MB a thousand requests", figure, alive and growth < most_growth, details)
