"""Borders: no dark or tinted edge. A flat picture stays flat to its last pixel, whatever the network, size and way in.

What a network makes of a flat plane without an end is its own affair (a GAN draws a texture of a few levels on it).
What is asked here is that no pixel at a picture's border is any further from the colour, and no more than 2 levels.
"""

from itertools import product

import numpy as np
import pytest

from app.inference.engine import Engine
from app.inference.scheduler import Scheduler
from app.inference.zoo import ModelSpec, load_zoo
from app.upscale.parameters import Output
from app.upscale.pipeline import upscale
from app.upscale.tiler import MOST_MIRRORED, TileBudget
from harness import MODELS
from harness.fakes import Pixels, running
from harness.pictures import decoded, encode
from tests.support.upscale import open_job, prepare

ALLOWED = 2  # levels of 255
BOLD = [(255, 128, 0), (128, 0, 255), (0, 255, 128), (255, 0, 128), (0, 128, 255), (128, 255, 0), (200, 30, 30)]
COLOURS = [*product((0, 255), repeat=3), *BOLD, (20, 40, 200)]
INSIDE = {"srgan-x4-fp32": 4, "qr-x4-fp32": 3, "fast-x4-int8": 3}
"""Networks that are further off than ``ALLOWED`` on a flat plane without an end, and by how much."""
FILES = [
    (spec.at(precision), precision) for spec in load_zoo(MODELS) for precision in spec.files if precision != "fp16"
]


def flat(height: int, width: int, *colour: int) -> Pixels:
    return np.full((height, width, len(colour)), colour, np.uint8)


def served(scheduler: Scheduler, specs: list[ModelSpec], pixels: Pixels, budget: TileBudget) -> Pixels:
    work = prepare(encode(pixels), specs, Output(), budget)
    with open_job(work, scheduler, seconds=600) as job:
        return decoded(b"".join(upscale(work, job)))


def off(result: Pixels, colour: tuple[int, ...]) -> int:
    """By how many levels the worst sample differs from a flat colour."""
    return int(np.abs(result.astype(np.int16) - np.array(colour, np.int16)).max())


@pytest.mark.parametrize(("spec", "precision"), [pytest.param(s, p, id=f"{s.title}-{p}") for s, p in FILES])
def test_a_flat_picture_is_flat_up_to_its_border(engine_of: dict[str, Engine], spec: ModelSpec, precision: str) -> None:
    engine, worst = engine_of[precision], {}
    with running(engine) as scheduler:
        for colour in COLOURS:
            worst[colour] = off(served(scheduler, [spec], flat(7, 26, *colour), TileBudget()), colour)
    print(f"{spec.title} {precision}: {worst}")
    assert max(worst.values()) <= INSIDE.get(f"{spec.title}-{precision}", ALLOWED), worst


@pytest.mark.parametrize(("title", "allowed"), INSIDE.items(), ids=INSIDE)
def test_who_is_let_off_is_so_without_an_end_too(engine_of: dict[str, Engine], title: str, allowed: int) -> None:
    """The list above holds nobody whose border is worse than the middle of a large plane."""
    ((spec, precision),) = [(s, p) for s, p in FILES if f"{s.title}-{p}" == title]
    far, worst = 20 * spec.scale, 0
    for colour in COLOURS:
        (plane,) = engine_of[precision].run(spec, [flat(46, 46, *colour)])
        worst = max(worst, off(plane[far:-far, far:-far], colour))
    assert ALLOWED < worst <= allowed


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 2), (100, 150)], ids=str)
@pytest.mark.parametrize("name", ["fast", "balanced"])
def test_every_size_and_tiling(engine: Engine, name: str, size: tuple[int, int]) -> None:
    spec, colour = engine.zoo.find(name, 4), (255, 0, 255)
    with running(engine) as scheduler:
        result = served(scheduler, [spec], flat(*size, *colour), TileBudget(pixels=64 * 64))
    assert result.shape == (size[0] * 4, size[1] * 4, 3)
    assert off(result, colour) <= ALLOWED


@pytest.mark.parametrize("alpha", [255, 200, 1])
def test_transparency_has_no_edge_either(engine: Engine, alpha: int) -> None:
    pixels = flat(30, 40, 0, 255, 0, alpha)
    pixels[10:20, 15:25, 3] = 0  # or its windows would need no network
    with running(engine) as scheduler:
        result = served(scheduler, [engine.zoo.find("fast", 4)], pixels, TileBudget())
    edges = [result[:8], result[-8:], result[:, :8], result[:, -8:]]
    assert max(off(edge, (0, 255, 0, alpha)) for edge in edges) <= ALLOWED


def test_two_networks_in_turn(engine: Engine) -> None:
    specs, colour = [engine.zoo.find("fast", 2), engine.zoo.find("fast", 4)], (255, 0, 0)
    with running(engine) as scheduler:
        result = served(scheduler, specs, flat(20, 30, *colour), TileBudget(pixels=64 * 64))
    assert result.shape == (160, 240, 3)
    assert off(result, colour) <= ALLOWED


def test_gray_and_deep_pictures(engine: Engine) -> None:
    gray = np.full((20, 30), 250 * 257, np.uint16)
    with running(engine) as scheduler:
        result = served(scheduler, [engine.zoo.find("balanced", 4)], gray, TileBudget())
    assert result.shape == (80, 120)
    assert np.abs(result.astype(np.int32) - 250 * 257).max() <= ALLOWED * 257


@pytest.mark.parametrize("name", ["fast", "balanced"])
def test_a_photograph_s_border_is_as_good_as_its_inside(engine: Engine, photo: Pixels, name: str) -> None:
    """Its error, against the inside's, is that over the networks' zeros and a tenth at most."""
    lr = photo[: 300 // 4 * 4, : 451 // 4 * 4].reshape(75, 4, 112, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    spec = engine.zoo.find(name, 4)
    with running(engine) as scheduler:
        mirrored = served(scheduler, [spec], lr, TileBudget())
    (over_zeros,) = engine.run(spec, [lr])

    def border_error(result: Pixels) -> float:
        error = np.abs(result.astype(np.int16) - photo[:300, :448])
        inner = np.zeros(error.shape[:2], bool)
        inner[4:-4, 4:-4] = True
        return float(error[~inner].mean() / error[inner].mean())

    print(f"{name}: {border_error(mirrored):.3f} of the inside's error; over zeros {border_error(over_zeros):.3f}")
    assert border_error(mirrored) <= 1.1 * border_error(over_zeros)


def test_no_network_is_shown_more_mirror_than_the_cap() -> None:
    assert max(spec.context for spec, _ in FILES) > MOST_MIRRORED, "the cap is tried by one of them"
