"""A network's second input: given window by window, to each runtime and precision, and shared by a batch."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.errors import InvalidParameterError, ModelFileError
from app.inference import engine as engine_module
from app.inference.batching import Batcher, Window
from app.inference.binding import BoundSession
from app.inference.engine import Engine
from app.inference.runtimes import openvino_runtime
from app.inference.scheduler import Scheduler
from app.inference.self_test import check_known_tile
from app.inference.zoo import ModelSpec, Zoo, load_zoo
from harness.fakes import PATIENCE, Pixels, make_spec
from tests.support.adjustable import adjustable_graph, adjusted, write_adjustable

STRENGTHS = (0.0, 0.25, 0.5, 1.0)
NO_OPENVINO = pytest.mark.skipif(openvino_runtime() is None, reason="OpenVINO, an extra, is not installed")
PROVIDERS = ("cpu", pytest.param("openvino", marks=NO_OPENVINO))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adjustable(tmp_path_factory.mktemp("adjustable"), int8=adjustable_graph(quantised=True))


@pytest.fixture(scope="module")
def windows() -> list[Pixels]:
    return [np.random.default_rng(seed).integers(50, 200, (9, 14, 3), np.uint8) for seed in range(4)]


def check(results: list[Pixels], windows: list[Pixels], strengths: tuple[float, ...]) -> None:
    for result, window, strength in zip(results, windows, strengths, strict=True):
        assert np.abs(result.astype(int) - adjusted(window, strength)).max() <= 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("precision", ["fp32", "auto", "int8"])
def test_each_window_of_a_batch_has_its_own(folder: Path, windows: list[Pixels], provider: str, precision: str) -> None:
    engine = Engine(load_zoo(folder), provider, 2, precision, self_test=check_known_tile)
    spec = engine.zoo.find("adjustable", 2)
    for run in (engine.run, engine.run_beside):
        check(run(spec, windows, STRENGTHS), windows, STRENGTHS)
        check(run(spec, windows[:1], [0.75]), windows[:1], (0.75,))
        check(run(spec, windows), windows, (1.0,) * 4)
    plain = engine.zoo.find("nearest", 2)
    check(engine.run(plain, windows, STRENGTHS), windows, (0.0,) * 4)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_16_bits_have_it_too(folder: Path, windows: list[Pixels], provider: str) -> None:
    engine = Engine(load_zoo(folder), provider, 2)
    deep = engine.run(engine.zoo.find("adjustable", 2), [each.astype(np.uint16) * 257 for each in windows], STRENGTHS)
    check([np.rint(each / 257).astype(np.uint8) for each in deep], windows, STRENGTHS)


def test_openvino_compiled_for_one_size_has_it_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if openvino_runtime() is None:
        pytest.skip("OpenVINO is not installed")
    monkeypatch.setattr("app.inference.runtimes.openvino.PAYS_AFTER", 0)
    engine = Engine(load_zoo(folder), "openvino", 2)
    spec = engine.zoo.find("adjustable", 2)
    window = np.full((8, 12, 3), 100, np.uint8)
    for strength in STRENGTHS:
        check(engine.run(spec, [window], [strength]), [window], (strength,))
    session = engine.session(spec, engine.network(spec).backend)
    assert (1, *window.shape) in session._compiled


def test_through_the_buffers_of_a_gpu(folder: Path, windows: list[Pixels]) -> None:
    engine = Engine(load_zoo(folder), "cpu", 2)
    spec = engine.zoo.find("adjustable", 2)
    bound = BoundSession(engine.session(spec, engine.network(spec).backend).sessions[0], spec.scale)
    check(list(bound.run("upscaled", np.stack(windows), None, np.float32(STRENGTHS))), windows, STRENGTHS)


def test_what_overflowed_is_computed_again_at_the_same_strengths(tmp_path: Path, windows: list[Pixels]) -> None:
    engine = Engine(load_zoo(write_adjustable(tmp_path, fp16=adjustable_graph(gain=0))), "cpu", 2, "fp16")
    spec = engine.zoo.find("adjustable", 2)
    check(engine.run(spec, windows, STRENGTHS), windows, STRENGTHS)
    assert engine.recomputed == {"adjustable-x2": 1}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_file_and_manifest_must_agree(tmp_path: Path, provider: str) -> None:
    with pytest.raises(
        ModelFileError, match=r"adjustable-x2: inputs are .*'strength'.*, not image: float \[N, H, W, 3\],"
    ):
        Engine(load_zoo(write_adjustable(tmp_path, strength=False)), provider, 2)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "nearest"', '"strength": true, "name": "nearest"'))
    with pytest.raises(ModelFileError, match=r"nearest-x2: inputs are .*, not .* and strength: float \[N\],"):
        Engine(load_zoo(tmp_path).only("nearest"), provider, 2)


def test_the_self_test_is_taken_at_both_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tested = []
    monkeypatch.setattr(engine_module, "CPU_SIDE", 16)
    Engine(load_zoo(folder), "cpu", 2, self_test=lambda title, tile, upscaled: tested.append((title, upscaled.std())))
    assert [title for title, _ in tested] == ["adjustable-x2", "adjustable-x2", "nearest-x2"]
    assert tested[0][1] > tested[1][1], "with the checkerboard, and without it"


def test_requests_of_different_strengths_share_a_batch(folder: Path) -> None:
    engine = Engine(load_zoo(folder), "cpu", 2)
    spec = engine.zoo.find("adjustable", 2)
    calls: list[tuple[float, ...]] = []
    gate, reached = threading.Event(), threading.Event()

    def run(spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        calls.append(tuple(strengths))
        reached.set()
        assert gate.wait(PATIENCE)
        return engine.run(spec, windows, strengths)

    window = np.full((8, 8, 3), 120, np.uint8)
    scheduler = Scheduler(run, lambda spec: 1e-6, 60, batch_macs=10**12)
    try:
        jobs = [
            scheduler.open([(spec, 2 * 64)], time.monotonic() + PATIENCE, strength=strength)
            for strength in (0.1, 0.2, 0.6, 0.9)
        ]
        jobs.append(scheduler.open_background([(spec, 64)], strength=0.4))
        futures = [[jobs[0].submit(spec, window)]]
        assert reached.wait(PATIENCE)
        futures += [[job.submit(spec, window) for _ in range(2 if not job.background else 1)] for job in jobs[1:]]
        gate.set()
        for job, own in zip(jobs, futures, strict=True):
            check([each.result(PATIENCE) for each in own], [window] * len(own), (job.strength,) * len(own))
        for job in jobs:
            job.close()
    finally:
        scheduler.close()
    assert calls[0] == (0.1,)
    assert {0.2, 0.6, 0.9} <= set(calls[1]), calls


@pytest.mark.parametrize(("most", "error"), [(2, MemoryError), (1, RuntimeError)], ids=["halves", "one by one"])
def test_a_batch_that_fails_is_computed_in_parts(folder: Path, most: int, error: type[Exception]) -> None:
    engine = Engine(load_zoo(folder), "cpu", 2)
    spec = engine.zoo.find("adjustable", 2)

    def run(spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        if len(windows) > most:
            raise error
        return engine.run(spec, windows, strengths)

    window = np.full((8, 8, 3), 120, np.uint8)
    results = Batcher(run, 10**12).compute(spec, [Window(window, strength) for strength in STRENGTHS])
    check(results, [window] * 4, STRENGTHS)


def test_a_network_at_a_scale_without_one_refuses_it() -> None:
    own = replace(make_spec("own", 2), strength=True), make_spec("own", 4)
    zoo = Zoo(Path(), "own", own)
    assert [zoo.strength(own[:1], asked) for asked in (None, 0.0, 0.3)] == [1.0, 0.0, 0.3]
    assert zoo.strength(own, None) == 1.0
    with pytest.raises(InvalidParameterError, match=r"^strength: own-x4 has none; networks that have one: own-x2\.$"):
        zoo.strength(own, 0.3)
    with pytest.raises(InvalidParameterError, match=r"networks that have one: none\.$"):
        Zoo(Path(), "own", own[1:]).strength(own[1:], 0.0)
