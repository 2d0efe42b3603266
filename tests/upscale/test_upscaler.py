"""The three verbs: everything decided from the header, once; then pixels; then the file."""

import io
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import TooManyPixelsError, UnfitFormatError, UnknownModelError
from app.images import decoder, formats
from app.images.formats import DecodeLimits
from app.inference.engine import Backend, Network
from app.inference.providers import GpuOptions
from app.inference.runtimes.onnx_runtime import OnnxRuntime
from app.inference.scheduler import Scheduler
from app.inference.zoo import Zoo
from app.upscale import plan as plan_module
from app.upscale import upscaler as upscaler_module
from app.upscale.parameters import UpscaleParameters
from app.upscale.plan import fitting
from app.upscale.tiler import TileBudget
from app.upscale.upscaler import Upscaler
from harness import MODELS, ROOT
from harness.fakes import FakeEngine, make_spec, nearest, noise, running
from harness.pictures import decoded, encode

ASKED = UpscaleParameters(scale=2, format="png")


def upscaler_before(scheduler: Scheduler, precision: str = "fp32", limits: DecodeLimits | None = None) -> Upscaler:
    spec = make_spec()
    network = Network(
        spec, Backend(OnnxRuntime("cpu", GpuOptions()), precision), "CPUExecutionProvider", precision, 1e-6
    )
    return Upscaler(Zoo(Path("."), spec.name, (spec,)), scheduler, {spec.title: network}, limits, TileBudget(pixels=1))


def test_an_image_is_planned_decoded_and_run() -> None:
    pixels = noise(50, 70, 3)
    with running(FakeEngine()) as scheduler:
        upscaler = upscaler_before(scheduler)
        image = upscaler.open(encode(pixels))
        plan = upscaler.plan(image, ASKED)
        assert plan.size == (100, 140)
        assert plan.tiles > 1
        assert upscaler.seconds(plan) > 0
        pieces = list(upscaler.run(upscaler.decode(image, plan)))
        assert len(pieces) > 2, "it comes band by band"
        assert scheduler.jobs() == 0
    np.testing.assert_array_equal(decoded(b"".join(pieces)), nearest(pixels, 2))


def test_one_header_is_read_and_one_plan_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(module: object, name: str) -> None:
        function = getattr(module, name)

        def counting(*arguments: object, **options: object) -> object:
            calls.append(name)
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    for module in (upscaler_module, decoder, formats):
        counted(module, "read_container")
    counted(plan_module, "plan_passes")
    with running(FakeEngine()) as scheduler:
        upscaler = upscaler_before(scheduler)
        image = upscaler.open(encode(noise(8, 8, 3)))
        b"".join(upscaler.run(upscaler.decode(image, upscaler.plan(image, ASKED))))
    assert calls == ["read_container", "plan_passes"]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (UpscaleParameters(model="unknown"), UnknownModelError),
        (UpscaleParameters(scale=2, format="jpeg", depth="16"), UnfitFormatError),
    ],
    ids=["model", "depth"],
)
def test_what_cannot_be_done_is_refused_by_the_plan(asked: UpscaleParameters, error: type[Exception]) -> None:
    with running(engine := FakeEngine()) as scheduler:
        upscaler = upscaler_before(scheduler)
        with pytest.raises(error):
            upscaler.plan(upscaler.open(encode(noise(8, 8, 3))), asked)
    assert not engine.batches


def test_a_picture_over_the_limits_is_refused_when_it_is_opened() -> None:
    with running(FakeEngine()) as scheduler, pytest.raises(TooManyPixelsError):
        upscaler_before(scheduler, limits=DecodeLimits(max_pixels=63)).open(encode(noise(8, 8, 3)))


def test_a_network_of_8_bits_is_not_asked_for_16_by_anyone() -> None:
    deep = encode(noise(8, 8).astype(np.uint16) * 257)
    with running(FakeEngine()) as scheduler:
        upscaler = upscaler_before(scheduler, "int8")
        image = upscaler.open(deep)
        with pytest.raises(UnfitFormatError) as refused:
            upscaler.plan(image, ASKED)
        assert (refused.value.limit, refused.value.actual) == (8, 16)
        shallow = upscaler.plan(image, UpscaleParameters(scale=2, format="png", depth="8"))
        assert shallow.picture.depth == 8


@pytest.mark.parametrize(("formats", "expected"), [((), "webp"), (("jpeg", "png"), "jpeg"), (("avif",), "avif")])
def test_the_first_format_that_can_hold_the_result_is_taken(formats: tuple[str, ...], expected: str) -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = upscaler_before(scheduler)
        image = upscaler.open(encode(noise(8, 8, 3), "WEBP", lossless=True))
        assert upscaler.plan(image, UpscaleParameters(scale=2), formats).output.format == expected
        assert upscaler.plan(image, ASKED, formats).output.format == "png", "the one asked for comes before all"
        wide = upscaler.open(encode(np.zeros((1, 9000), np.uint8), "WEBP"))
        assert upscaler.plan(wide, UpscaleParameters(scale=2), ("webp", "jpeg")).output.format == "jpeg"


def test_the_readmes_program_enlarges_a_picture(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"```python\n(from pathlib.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(program.splitlines()) <= 11
    (tmp_path / "photo.jpg").write_bytes(encode(photo[:40, :60], "JPEG"))
    (tmp_path / "models").symlink_to(MODELS)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("program.py")
    with Image.open(io.BytesIO((tmp_path / "big.png").read_bytes())) as image:
        assert image.size == (240, 160)


@pytest.mark.parametrize(("precisions", "macs"), [(("fp32",), 1), (("bf16",), 2), (("bf16", "fp32"), 1), ((), 1)])
def test_what_runs_in_bf16_may_have_tiles_of_twice_the_cost(precisions: tuple[str, ...], macs: int) -> None:
    specs = [make_spec(f"net{number}") for number in range(max(1, len(precisions)))]
    networks = {
        spec.title: Network(spec, Backend(OnnxRuntime("cpu", GpuOptions()), "fp32"), "", precision, 0.0)
        for spec, precision in zip(specs, precisions, strict=False)
    }
    assert fitting(TileBudget(macs=7), specs, networks) == TileBudget(macs=7 * macs)
