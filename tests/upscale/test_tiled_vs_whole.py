"""The promise of the tiles: what is served differs by at most 1 from the network's own answer to the whole picture,
with its mirror image around it."""

import numpy as np
import pytest
import skimage.data

from app.inference.engine import DEAR_MACS, Engine
from app.inference.scheduler import Scheduler
from app.inference.zoo import ModelSpec, load_zoo
from app.settings import Settings
from app.upscale.parameters import Output
from app.upscale.passes import plan_passes
from app.upscale.pipeline import upscale
from app.upscale.tiler import TileBudget, cells, mirrored_beyond
from harness import MODELS
from harness.fakes import Pixels, noise, running
from harness.pictures import decoded, encode
from tests.support.upscale import open_job, prepare

ALLOWED = 1  # of 255
ASTRONAUT = skimage.data.astronaut()
ADVANCED = Settings().advanced
DEFAULT = TileBudget(pixels=ADVANCED.tile_pixels, band_bytes=ADVANCED.band_bytes)
SMALL = TileBudget(pixels=64 * 64)
CASES = {  # no larger than several tiles need
    "astronaut, default": (ASTRONAUT[:320, 50:430], DEFAULT),
    "noise, small tiles": (noise(120, 160, 3), SMALL),
}
DEAR_CASES = {  # of networks of which a pixel takes microseconds
    "astronaut, small tiles": (ASTRONAUT[50:120, 140:220], SMALL),
    "noise, small tiles": (noise(60, 90, 3), SMALL),
}


def cases(spec: ModelSpec) -> dict[str, tuple[Pixels, TileBudget]]:
    return CASES if spec.macs < DEAR_MACS / 4 else DEAR_CASES


def served(scheduler: Scheduler, spec: ModelSpec, pixels: Pixels, budget: TileBudget) -> Pixels:
    """The picture as the service gives it."""
    work = prepare(encode(pixels), [spec], Output(), budget)
    with open_job(work, scheduler, seconds=600) as job:
        return decoded(b"".join(upscale(work, job)))


def whole_result(engine: Engine, spec: ModelSpec, pixels: Pixels) -> Pixels:
    """What the network makes of the whole picture in its mirror image, in one run."""
    m, (height, width, _) = mirrored_beyond(spec.context, spec.alignment), pixels.shape
    ends = [(m, m + -(length + 2 * m) % spec.alignment) for length in (height, width)]
    (whole,) = engine.run(spec, [np.pad(pixels, (*ends, (0, 0)), "symmetric")])
    s = spec.scale
    return whole[m * s : (m + height) * s, m * s : (m + width) * s]


FILES = [
    pytest.param(spec.at(precision), precision, id=f"{spec.title}-{precision}")
    for spec in load_zoo(MODELS)
    for precision in spec.files
    if precision != "fp16"
]
OPENVINO = "openvino"  # in its own precision on this machine, bf16 where the processor computes it
BY_OPENVINO = ("bicubic", "espcn", "fast", "balanced")
FILES += [
    pytest.param(spec, OPENVINO, id=f"{spec.title}-{OPENVINO}")
    for spec in load_zoo(MODELS)
    if spec.name in BY_OPENVINO and spec.scale == 4
]


@pytest.mark.parametrize(("spec", "precision"), FILES)
def test_a_served_picture_is_that_of_the_network_without_tiles(
    engine_of: dict[str, Engine], spec: ModelSpec, precision: str
) -> None:
    worst, engine = {}, engine_of[precision]
    if precision == OPENVINO:
        assert engine.network(spec).provider == "OpenVINO"
    else:
        assert engine.network(spec).precision == precision
    assert spec in engine.zoo, "the engine plans with the context of the file it runs"
    with running(engine) as scheduler:
        for name, (pixels, budget) in cases(spec).items():
            whole = whole_result(engine, spec, pixels)
            difference = np.abs(served(scheduler, spec, pixels, budget).astype(np.int16) - whole)
            worst[name] = int(difference.max())
            share = np.mean(difference > 0)
            print(f"{spec.title} {name}: worst {worst[name]} of 255, {share:.2e} of samples differ")
    assert max(worst.values()) <= ALLOWED, f"{worst}; is the context of {spec.context} LR pixels enough?"


@pytest.mark.parametrize(("spec", "precision"), FILES)
def test_the_context_is_enough_where_a_tile_has_no_more(
    engine_of: dict[str, Engine], spec: ModelSpec, precision: str
) -> None:
    """Planned windows often have context to spare; here they have exactly the manifest's, in noise and in a picture.
    Like planned ones they are whole cells of a network that works in cells."""
    engine, core, c, s = engine_of[precision], 24, cells(spec.context, spec.alignment) * spec.alignment, spec.scale
    for pixels in (noise(100, 120, 3), ASTRONAUT[:100, 100:220]):
        (whole,) = engine.run(spec, [pixels])
        for place in ((c, c), (40, 60), (50, 33), (100 - core - c, 120 - core - c)):
            top, left = (start - (start - c) % spec.alignment for start in place)
            window = pixels[top - c : top + core + c, left - c : left + core + c]
            (part,) = engine.run(spec, [window])
            kept = part[c * s : (c + core) * s, c * s : (c + core) * s].astype(np.int16)
            expected = whole[top * s : (top + core) * s, left * s : (left + core) * s]
            assert np.abs(kept - expected).max() <= ALLOWED, f"a context of {c} LR pixels is not enough"


@pytest.mark.parametrize(("spec", "precision"), FILES)
def test_the_pictures_need_several_tiles(spec: ModelSpec, precision: str) -> None:
    for case, (pixels, budget) in cases(spec).items():
        (only,) = plan_passes(pixels.shape[:2], [spec], budget)
        assert only.plan.tiles > 1, case
