"""The promise of the tiles: what is served differs from the network's own answer to the whole picture by at most 1."""

import numpy as np
import pytest
import skimage.data

from app.decoder import DecodeLimits, decode
from app.engine import Engine
from app.scheduler import Scheduler
from app.settings import Settings
from app.upscaler import BLEND, Output, open_job, prepare, upscale
from app.zoo import ModelSpec, load_zoo
from tests.conftest import MODELS, decoded, encode
from tests.fakes import Pixels, noise, running

SETTINGS = Settings()
ALLOWED = 1  # of 255
PICTURES = {
    "chelsea": skimage.data.chelsea(),  # [300, 451, 3]
    "coffee": skimage.data.coffee(),  # [400, 600, 3]
}
TO_CROP = {"astronaut, tight": skimage.data.astronaut(), "noise, tight": noise(512, 512, 3)}  # [512, 512, 3]


def tight(pixels: Pixels, context: int) -> Pixels:
    """As much as whole tiles cover that overlap no more than they must; elsewhere they have context to spare."""
    lost = 2 * context + BLEND
    height, width = (
        (length - lost) // (largest - lost) * (largest - lost) + lost
        for length, largest in zip(pixels.shape, (SETTINGS.band, SETTINGS.tile), strict=False)
    )
    return pixels[:height, :width]


def served(scheduler: Scheduler, spec: ModelSpec, pixels: Pixels) -> Pixels:
    """The picture as the service gives it, at the settings' own tile and band."""
    work = prepare(decode(encode(pixels), DecodeLimits()), spec, Output(), (SETTINGS.band, SETTINGS.tile))
    assert len(work.plan.rows) > 1
    assert len(work.plan.columns) > 1
    with open_job(work, scheduler, seconds=600) as job:
        return decoded(b"".join(upscale(work, job)))


@pytest.mark.parametrize("spec", load_zoo(MODELS).models, ids=lambda spec: spec.title)
def test_a_served_picture_is_that_of_the_network_without_tiles(engine: Engine, spec: ModelSpec) -> None:
    pictures = PICTURES | {name: tight(pixels, spec.context) for name, pixels in TO_CROP.items()}
    worst = {}
    with running(engine) as scheduler:
        for name, pixels in pictures.items():
            (whole,) = engine.run(spec, [pixels])
            difference = np.abs(served(scheduler, spec, pixels).astype(np.int16) - whole)
            worst[name] = int(difference.max())
            print(
                f"{spec.title} {name}: worst {worst[name]} of 255, {np.mean(difference > 0):.2e} of the samples differ"
            )
    assert max(worst.values()) <= ALLOWED, f"{worst}; is the context of {spec.context} LR pixels enough?"
