"""What a request is reckoned to hold of the memory, against what it holds."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.inference.batching import LANES
from app.inference.job import HEAVY_WINDOW
from app.inference.zoo import ModelFile
from app.upscale.memory import held_bytes, networks_bytes
from app.upscale.parameters import Output
from app.upscale.passes import plan_passes
from app.upscale.pipeline import Work, upscale
from app.upscale.tiler import TileBudget
from harness.fakes import PATIENCE, FakeEngine, make_spec, noise, running
from harness.pictures import encode
from tests.support.profiles import gray_profile
from tests.support.upscale import open_job, prepare

FLAT, SQUARE = (100, 3000), (600, 500)
CASES: dict[str, dict[str, Any]] = {
    "RGB": {"size": FLAT},
    "RGB, square": {"size": SQUARE},
    "noise in 16 bits with alpha": {"size": FLAT, "channels": 4, "depth": 16},
    "16 bits to TIFF": {"size": FLAT, "depth": 16, "format": "tiff"},
    "alpha laid on a colour": {"size": FLAT, "channels": 4, "format": "jpeg"},
    "another curve": {"size": FLAT, "channels": 1, "icc_profile": gray_profile(1.0)},
    "larger": {"size": FLAT, "result": (450, 13_500)},
    "smaller": {"size": FLAT, "result": (350, 10_500), "channels": 4},
    "two networks": {"size": (60, 700), "scales": (4, 2)},
}


def work_on(
    size: tuple[int, int],
    channels: int = 3,
    depth: int = 8,
    format: str = "png",
    result: tuple[int, int] | None = None,
    scales: tuple[int, ...] = (4,),
    **options: object,
) -> Work:
    pixels = noise(*size, channels) if channels > 1 else noise(*size)
    specs, output = [make_spec(scale=scale) for scale in scales], Output(format, depth=depth)
    return prepare(encode(pixels, **options), specs, output, TileBudget(band_bytes=2**20), result)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_request_holds_no_more_than_was_reckoned_and_a_good_part_of_it(case: dict[str, Any]) -> None:
    work = work_on(**case)
    with running(FakeEngine()) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        tracemalloc.start()
        try:
            for piece in upscale(work, job):
                assert len(piece) < held_bytes(work.plan)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    print(f"{most / 1e6:.1f} of {held_bytes(work.plan) / 1e6:.1f} MB")
    assert held_bytes(work.plan) / 8 < most <= held_bytes(work.plan)


def test_only_what_is_encoded_whole_grows_with_the_height() -> None:
    def held(height: int, format: str) -> int:
        return held_bytes(work_on((height, 300), format=format).plan)

    for streamed in ("png", "jpeg", "tiff"):
        assert held(2000, streamed) == pytest.approx(held(1000, streamed), rel=0.05)
    for whole, bytes_a_pixel in (("webp", 44), ("avif", 30)):
        assert held(2000, whole) - held(1000, whole) == pytest.approx(bytes_a_pixel * 16 * 1000 * 300, rel=0.02)


def test_reading_codes_costs_what_the_whole_result_takes() -> None:
    work = work_on((100, 100))
    assert held_bytes(work.plan, read_whole=True) - held_bytes(work.plan) == 16 * 400 * 400


def test_depth_and_alpha_cost_their_samples() -> None:
    plain, deep, both = (work_on(FLAT, channels=c, depth=d) for c, d in ((3, 8), (3, 16), (4, 16)))
    fixed = 12 * 2**20
    assert held_bytes(deep.plan) - fixed == pytest.approx(2 * (held_bytes(plain.plan) - fixed), rel=0.01)
    assert held_bytes(both.plan) - fixed > 4 / 3 * (held_bytes(deep.plan) - fixed)
    assert np.prod(both.plan.passes[0].size) == 16 * np.prod(FLAT)


# -- networks of others ------------------------------------------------------------------------------------------


def test_networks_trained_here_are_counted_with_the_process() -> None:
    assert networks_bytes([make_spec(macs=354_000)], TileBudget()) == 0


@pytest.mark.parametrize("megabytes", [300, 1600])
@pytest.mark.parametrize(("macs", "context"), [(17_500_000, 48), (600_000, 10), (40_000_000, 48)])
def test_imported_networks_take_no_more_than_is_told(macs: int, context: int, megabytes: int) -> None:
    """Of every picture's plan: a dear tile and one beside it, or as many others as there are lanes; and the weights."""
    budget = TileBudget(tile_bytes=megabytes * 10**6)
    file = ModelFile("theirs.onnx", "", 67_000_000)
    spec = replace(make_spec(scale=4, context=context, macs=macs), pixel_bytes=11_800, files={"fp32": file})
    told = networks_bytes([spec], budget)
    for size in ((64, 64), (256, 384), (512, 512), (1024, 768), (300, 3000)):
        (only,) = plan_passes(size, [spec], budget)
        tile = only.plan.tile_pixels * spec.pixel_bytes
        lanes = 1 if only.plan.tile_pixels * macs > HEAVY_WINDOW else LANES
        assert told >= lanes * tile + (1 + LANES) * file.bytes
    assert told <= 2.2 * budget.tile_bytes + 3 * file.bytes + 131**2 * 11_800
