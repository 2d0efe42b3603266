"""The whole way of a picture with a network that repeats pixels, so that every byte of the result is known."""

import io
import time
import tracemalloc
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.errors import CancelledError, ComputeError, DeadlineError, OutputTooLargeError, OverloadedError
from app.images.channels import lay_on, luma
from app.images.encoders import Options
from app.images.resampler import Resampler
from app.inference.job import Job
from app.inference.zoo import ModelSpec
from app.upscale import pipeline as upscaler_module
from app.upscale.parameters import Output
from app.upscale.pipeline import Work, upscale
from app.upscale.tiler import Plan, TileBudget
from harness.fakes import PATIENCE, FakeEngine, Pixels, make_spec, nearest, noise, running, wait_until
from harness.pictures import decoded, encode
from tests.support.upscale import open_job, prepare

BUDGET = TileBudget(pixels=1)  # the smallest tiles there are: 40 x 40, of which at least 32 x 32 are kept
SHAPES = {"gray": (), "gray and alpha": (2,), "RGB": (3,), "RGB and alpha": (4,)}
SIZES = [(1, 1), (31, 40), (90, 7), (7, 100), (95, 131)]


def work_on(
    pixels: Pixels,
    scale: int = 2,
    output: Output | None = None,
    then: tuple[int, ...] = (),
    size: tuple[int, int] | None = None,
    **options: object,
) -> Work:
    """Work for networks of ``scale`` and ``then`` in turn; ``options`` are those of the input's encoder."""
    return prepare(
        encode(pixels, **options), [make_spec(scale=each) for each in (scale, *then)], output or Output(), BUDGET, size
    )


def plan_of(work: Work) -> Plan:
    (only,) = work.plan.passes
    return only.plan


def run(work: Work, engine: FakeEngine | None = None) -> bytes:
    with running(engine or FakeEngine()) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        return b"".join(upscale(work, job))


# -- pixels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", ["gray", "RGB"])
def test_an_opaque_picture_comes_out_exactly_enlarged(kind: str, scale: int, size: tuple[int, int]) -> None:
    pixels = noise(*size, *SHAPES[kind])
    np.testing.assert_array_equal(decoded(run(work_on(pixels, scale))), nearest(pixels, scale))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", ["gray and alpha", "RGB and alpha"])
def test_a_transparent_picture_keeps_its_colour_and_gets_its_alpha_enlarged_likewise(
    kind: str, scale: int, size: tuple[int, int]
) -> None:
    pixels = noise(*size, *SHAPES[kind])
    pixels[..., -1] = np.where(noise(*size, seed=1) < 100, pixels[..., -1], 255)
    result, colours = decoded(run(work_on(pixels, scale))), pixels.shape[2] - 1
    visible = nearest(pixels[..., -1] > 0, scale)
    np.testing.assert_array_equal(result[..., :colours][visible], nearest(pixels[..., :colours], scale)[visible])
    np.testing.assert_array_equal(result[..., -1], nearest(pixels[..., -1], scale))


def test_two_networks_in_turn_multiply_their_scales() -> None:
    pixels = noise(90, 131, 4)
    pixels[..., 3] = 255
    work = work_on(pixels, 2, then=(4,))
    assert [each.plan.tiles > 4 for each in work.plan.passes] == [True, True]
    np.testing.assert_array_equal(decoded(run(work)), nearest(pixels, 8))


@pytest.mark.parametrize("size", [(190, 262), (189, 261), (143, 197), (100, 300), (1, 1)], ids=str)
def test_any_size_is_the_networks_result_resampled(size: tuple[int, int]) -> None:
    pixels = noise(95, 131, 3)
    result = decoded(run(work_on(pixels, 2, size=size)))
    whole = Resampler((190, 262), size, channels=3).feed(nearest(pixels, 2))
    nearly_equal(result, whole)


def nearly_equal(one: Pixels, other: Pixels) -> None:
    """Of the same shape, and no sample more than one level apart: the two round in another order."""
    assert one.shape == other.shape
    assert np.abs(one.astype(np.int16) - other).max() <= 1


@pytest.mark.parametrize("size", [None, (70, 97), (400, 550)], ids=["as it is", "smaller", "larger"])
@pytest.mark.parametrize(
    "output", [Output("png"), Output("jpeg"), Output("webp", Options(lossless=True)), Output("tiff")]
)
@pytest.mark.parametrize("kind", ["RGB", "RGB and alpha"])
def test_bands_are_finished_row_by_row_as_well_as_whole(
    kind: str, output: Output, size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, results = noise(95, 131, *SHAPES[kind]), []
    for strip_bytes in (1, 2**30):
        monkeypatch.setattr(upscaler_module, "STRIP_BYTES", strip_bytes)
        results.append(decoded(run(work_on(pixels, output=output, size=size))))
    if output.format == "jpeg" and size:  # what rounds the other way may change a coefficient
        assert np.abs(np.subtract(*results, dtype=np.int16)).mean() < 0.5
    else:
        nearly_equal(*results)


@pytest.mark.parametrize("kind", ["gray and alpha", "RGB and alpha"])
def test_what_jpeg_cannot_leave_open_shows_the_background(kind: str) -> None:
    pixels = np.zeros((95, 131, *SHAPES[kind]), np.uint8)
    pixels[40:, :, -1] = 255  # black below, open above
    result = decoded(run(work_on(pixels, output=Output("jpeg", Options(95), background=(200, 200, 200)))))
    assert result.ndim == (2 if kind == "gray and alpha" else 3)
    assert np.abs(result[:64].astype(int) - 200).max() <= 2
    assert result[96:].max() <= 2


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_every_format_has_the_size_and_nearly_the_pixels(format: str) -> None:
    pixels = np.full((95, 131, 3), (200, 100, 50), np.uint8)
    result = decoded(run(work_on(pixels, scale=3, output=Output(format, Options(100)))))
    assert result.shape == (285, 393, 3)
    assert np.abs(result.astype(int) - pixels[0, 0]).max() <= 3


def test_luma_leaves_equal_channels_as_they_are() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(luma(np.stack([levels] * 3, axis=2))[:, :, 0], levels)


def test_luma_weighs_the_channels_as_bt601() -> None:
    rows = noise(50, 50, 3)
    expected = rows @ np.array([0.299, 0.587, 0.114])
    assert luma(rows).dtype == np.uint8
    assert np.abs(luma(rows)[:, :, 0] - expected).max() <= 1.0


@given(st.integers(0, 255), st.integers(0, 255))
def test_a_colour_laid_on_itself_stays(value: int, opacity: int) -> None:
    rows, alpha = np.full((2, 3, 3), value, np.uint8), np.full((2, 3, 1), opacity, np.uint8)
    np.testing.assert_array_equal(lay_on(rows, alpha, (value, value, value)), rows)


def test_laying_on_a_background_is_exact_to_rounding() -> None:
    rows, alpha, background = noise(100, 100, 3), noise(100, 100, 1, seed=1), (255, 128, 0)
    share = alpha / 255
    expected = rows * share + np.array(background) * (1 - share)
    assert np.abs(lay_on(rows, alpha, background) - expected).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(lay_on(rows, np.full_like(alpha, 255), background), rows)
    assert (lay_on(rows, np.zeros_like(alpha), background) == background).all()


# -- what is decided before anything is computed -----------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_metadata_is_kept_or_stripped_and_the_size_is_announced(keep: bool) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    work = work_on(noise(20, 30, 4), scale=3, output=Output(metadata=keep), exif=exif, dpi=(300, 300))
    assert (work.plan.picture.width, work.plan.picture.height, work.plan.picture.channels) == (90, 60, 4)
    assert bool(work.plan.picture.exif) == bool(work.plan.picture.dpi) == keep


def test_a_result_too_large_for_its_format_is_refused_before_any_compute() -> None:
    with pytest.raises(OutputTooLargeError):
        work_on(np.zeros((1, 8192), np.uint8), scale=2, output=Output("webp"))


def test_the_work_admitted_is_all_the_work_there_is() -> None:
    work, engine = work_on(noise(95, 131, 3)), FakeEngine()
    with running(engine) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        assert job.left.total() == plan_of(work).computed_pixels
        b"".join(upscale(work, job))
        assert job.left.total() == 0
    assert len(engine.computed) == plan_of(work).tiles


def test_an_overloaded_scheduler_refuses_the_work() -> None:
    work = work_on(noise(95, 131, 3))
    with (
        running(FakeEngine(), rate=1e-3, max_seconds=1) as scheduler,
        open_job(work, scheduler, PATIENCE),
        pytest.raises(OverloadedError),
    ):
        open_job(work, scheduler, PATIENCE)


# -- order, laziness and faults ----------------------------------------------------------------------------------


class CountedJob:
    """Passes everything on to a job and counts the windows."""

    def __init__(self, job: Job) -> None:
        self._job, self.submitted = job, 0

    def submit(self, spec: ModelSpec, window: Pixels) -> Future[Pixels]:
        self.submitted += 1
        return self._job.submit(spec, window)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)


def test_no_more_than_one_band_is_computed_ahead_of_what_is_asked_for() -> None:
    work = work_on(noise(150, 131, 3))
    bands, columns = len(plan_of(work).rows), len(plan_of(work).columns)
    assert bands > 3
    with running(FakeEngine()) as scheduler, open_job(work, scheduler, PATIENCE) as opened:
        job = CountedJob(opened)
        pieces = upscale(work, job)
        assert job.submitted == 0
        for asked, _ in enumerate(pieces, start=1):
            assert job.submitted == columns * min(asked + 1, bands)
    assert asked == bands + 1, "a piece a band, and the end of the file"


def test_the_first_piece_comes_while_the_second_band_is_still_computed() -> None:
    work = work_on(noise(150, 131, 3))
    engine = FakeEngine(
        before=lambda windows: len(engine.computed) == len(plan_of(work).columns) and engine.gate.clear()
    )
    with running(engine) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        assert next(upscale(work, job)).startswith(b"\x89PNG")
        assert len(engine.computed) <= len(plan_of(work).columns) + 1
        engine.gate.set()


@pytest.mark.parametrize("kind", ["RGB", "RGB and alpha"])
def test_what_was_computed_ahead_can_be_let_go_and_is_computed_again(kind: str) -> None:
    pixels = noise(150, 131, *SHAPES[kind])
    work, engine = work_on(pixels), FakeEngine()
    pictures = 1 + work.source.has_alpha
    with running(engine) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        pieces = upscale(work, job)
        file = next(pieces)
        ahead = len(plan_of(work).columns) * pictures
        wait_until(lambda: len(engine.computed) == 2 * ahead)
        job.let_go()
        job.let_go()  # a reader may stop for long
        file += b"".join(pieces)
        assert len(engine.computed) == plan_of(work).tiles * pictures + ahead
        assert job.left.total() == 0
    np.testing.assert_array_equal(decoded(file), decoded(run(work_on(pixels))))


def test_while_a_reader_stalls_little_more_than_its_piece_is_held() -> None:
    work = work_on(noise(300, 2000, 3), scale=4)
    band = 4 * plan_of(work).rows[0].core_stop * 4 * 2000 * 3  # bytes
    with running(FakeEngine()) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        tracemalloc.start()
        try:
            piece = next(upscale(work, job))
            job.let_go()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert band > 1.5e6
    assert held - len(piece) < band / 2


def test_leaving_early_drops_what_was_not_computed() -> None:
    work = work_on(noise(150, 131, 3))
    columns = len(plan_of(work).columns)
    engine = FakeEngine(before=lambda windows: len(engine.computed) == columns and engine.gate.clear())
    with running(engine) as scheduler:
        with open_job(work, scheduler, PATIENCE) as job:
            pieces = upscale(work, job)
            next(pieces)
            pieces.close()
        engine.gate.set()
        other = work_on(np.full((10, 10, 3), 1, np.uint8))
        with open_job(other, scheduler, PATIENCE) as job:
            b"".join(upscale(other, job))
        assert scheduler.backlog() == 0
    assert len(engine.computed) <= columns + 1 + plan_of(other).tiles, "at most the window that was in the engine"


def test_cancelling_from_another_thread_ends_the_generator() -> None:
    work = work_on(noise(150, 131, 3))
    with running(FakeEngine()) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        pieces = upscale(work, job)
        next(pieces)
        job.cancel()
        with pytest.raises(CancelledError):
            list(pieces)


def test_the_deadline_holds_between_pieces_too() -> None:
    work, engine = work_on(noise(150, 131, 3)), FakeEngine()
    with running(engine) as scheduler, open_job(work, scheduler, PATIENCE) as job:
        pieces = upscale(work, job)
        next(pieces)
        engine.gate.clear()
        job.deadline = time.monotonic() - 1
        with pytest.raises(DeadlineError):
            list(pieces)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
def test_a_fault_in_any_tile_surfaces_and_leaves_no_whole_file(place: float, format: str) -> None:
    work = work_on(noise(300, 131, 3), output=Output(format))
    bad = 1 + round(place * (plan_of(work).tiles - 1))

    def fail(windows: list[Pixels]) -> None:
        if len(engine.computed) == bad:
            raise ValueError("a fault in the network")

    engine, pieces = FakeEngine(before=fail), []
    with running(engine) as scheduler, open_job(work, scheduler, PATIENCE) as job, pytest.raises(ComputeError):
        pieces.extend(upscale(work, job))  # what came before the fault stays in the list
    assert len(pieces) == (bad - 1) // len(plan_of(work).columns), "one for each band before the fault"
    with pytest.raises((OSError, SyntaxError)), Image.open(io.BytesIO(b"".join(pieces))) as image:
        image.load()
