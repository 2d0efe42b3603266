"""Which runtime computes a network: what there is, what is asked for, what was faster here."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
import numpy as np
import pytest

from app.errors import ModelFileError, ProviderError, SelfTestError
from app.inference import engine as engine_module
from app.inference.engine import Engine, choose_precision
from app.inference.providers import GpuOptions
from app.inference.runtimes import choose_runtimes
from app.inference.runtimes.base import Face, Session, Source
from app.inference.runtimes.onnx_runtime import OnnxRuntime
from app.inference.runtimes.openvino import OpenVinoRuntime
from app.inference.self_test import check_known_tile
from app.inference.zoo import load_zoo
from app.settings import usable_cores
from harness import MODELS
from harness.fakes import Pixels, nearest, noise
from harness.pictures import encode
from harness.server import Server, quick_server

ZOO = load_zoo(MODELS)
SMALL = replace(ZOO, models=(ZOO.find("bicubic", 2),), generators=())


@dataclass
class Repeating:
    """A session that repeats pixels, and takes so many seconds for it."""

    face: Face
    scale: int
    seconds: float
    provider: str = "Repeating"
    precision: str = "bf16"

    def run(self, batch: Pixels, strength: np.ndarray | None = None) -> Pixels:
        time.sleep(self.seconds)
        return np.stack([nearest(window, self.scale) for window in batch])

    def release(self) -> None: ...


class Further:
    """A runtime beside ONNX Runtime, for 8 bits. ``answer`` makes its sessions."""

    name, precisions, depths, errors, on_gpu = "further", ("bf16", "fp32"), ("uint8",), (RuntimeError,), False

    def __init__(self, answer: Callable[[Source], Session]) -> None:
        self.answer = answer

    def load(self, source: Source, threads: int, callers: int = 1) -> Session:
        return self.answer(source)


def engine_beside(
    further: Further, monkeypatch: pytest.MonkeyPatch, provider: str = "auto", slowed: float = 0.0
) -> Engine:
    """An engine with that runtime beside ONNX Runtime, each run of which takes so many seconds more."""
    onnx = OnnxRuntime("cpu", GpuOptions())
    load = onnx.load

    def slow_load(source: Source, threads: int, callers: int = 1) -> Session:
        session = load(source, threads, callers)
        run = session.run

        def slow_run(batch: Pixels, strength: np.ndarray | None = None) -> Pixels:
            time.sleep(slowed)
            return run(batch, strength)

        session.run = slow_run
        return session

    onnx.load = slow_load
    monkeypatch.setattr(engine_module, "choose_runtimes", lambda asked, gpu: (onnx, further))
    return Engine(SMALL, provider, usable_cores(), self_test=check_known_tile)


def repeating(seconds: float = 0.0) -> Callable[[Source], Session]:
    def answer(source: Source) -> Session:
        face = OnnxRuntime("cpu", GpuOptions()).load(source, 1).face
        return Repeating(face, source.scale, seconds)

    return answer


def test_a_network_is_computed_by_what_was_faster_here(monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = SMALL.models
    engine = engine_beside(Further(repeating()), monkeypatch, slowed=0.2)
    network = engine.network(spec)
    assert (network.provider, network.precision) == ("Repeating", "bf16")
    assert (network.at("uint16").provider, network.at("uint16").precision) == ("CPUExecutionProvider", "fp32")
    window = noise(8, 9, 3)
    np.testing.assert_array_equal(engine.run(spec, [window])[0], nearest(window, 2))
    np.testing.assert_array_equal(engine.run_beside(spec, [window])[0], nearest(window, 2))
    assert engine.run(spec, [window.astype(np.uint16) * 257])[0].dtype == np.uint16
    slow = engine_beside(Further(repeating(seconds=0.2)), monkeypatch)
    assert slow.network(spec).provider == "CPUExecutionProvider"
    assert slow.network(spec).deep is None
    assert slow.providers == ("CPUExecutionProvider",)


def test_one_that_is_named_is_taken_although_it_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_beside(Further(repeating(seconds=0.2)), monkeypatch, "openvino")
    assert [network.provider for network in engine.networks.values()] == ["Repeating"]


def failing(source: Source) -> Session:
    raise ModelFileError(f"{source.path}: OpenVINO cannot load it: object is not initialized")


def lying(source: Source) -> Session:
    session = repeating()(source)
    run = session.run
    session.run = lambda batch, strength=None: 255 - run(batch)
    return session


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [(failing, ModelFileError, "object is not initialized"), (lying, SelfTestError, "its output is not the image")],
)
def test_one_that_fails_is_left_out_or_where_it_is_named_stops_the_start(
    answer: Callable[[Source], Session],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        engine = engine_beside(Further(answer), monkeypatch, slowed=0.1)
    assert engine.providers == ("CPUExecutionProvider",)
    assert message in caplog.text
    with pytest.raises(error, match=message):
        engine_beside(Further(answer), monkeypatch, "openvino")


def test_openvino_is_there_where_it_is_installed_and_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {asked: type(choose_runtimes(asked, GpuOptions())[1]) for asked in ("cpu", "auto", "openvino")}
    assert kinds == {"cpu": type(None), "auto": OpenVinoRuntime, "openvino": OpenVinoRuntime}
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "app.inference.runtimes.openvino")
    assert choose_runtimes("auto", GpuOptions())[1] is None
    with pytest.raises(ProviderError, match=r"it is not installed: pip install enlarger\[openvino\]"):
        choose_runtimes("openvino", GpuOptions())


def test_a_precision_is_that_which_is_asked_for_where_there_are_both_kernel_and_file() -> None:
    onnx, further = OnnxRuntime("cpu", GpuOptions()), Further(repeating())
    with_int8, without = ZOO.find("fast", 4), ZOO.find("best", 4)
    asked = ("auto", "fp32", "bf16", "int8", "fp16")
    assert [choose_precision(each, onnx, with_int8) for each in asked] == ["fp32", "fp32", "fp32", "int8", "fp32"]
    assert [choose_precision(each, onnx, without) for each in asked] == ["fp32"] * 5
    assert [choose_precision(each, further, with_int8) for each in asked] == ["bf16", "fp32", "bf16", "fp32", "fp32"]


# -- over HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> "Server":
    with quick_server(provider="openvino") as running:
        yield running


def test_the_service_says_what_runs_for_each_depth(server: Server, photo: np.ndarray) -> None:
    precision = OpenVinoRuntime().precisions[0]
    with server.client() as client:
        ready = client.get("/readyz").json()
        assert ready["providers"] == ["CPUExecutionProvider", "OpenVINO"]
        shallow = post(client, encode(photo[:40, :50]))
        assert told(shallow) == ("OpenVINO", precision)
        deep = post(client, encode(photo[:40, :50]), depth=16)
        assert told(deep) == ("CPUExecutionProvider", "fp32")
        scale = client.get("/models/fast").json()["scales"][0]
        assert (scale["provider"], scale["precision"], scale["max_depth"]) == ("OpenVINO", precision, 16)
        assert f'precision="{precision}",provider="OpenVINO"' in client.get("/metrics").text


def post(client: httpx.Client, body: bytes, **parameters: str | int) -> httpx.Response:
    return client.post("/upscale", content=body, params={"model": "fast", "scale": 2, "format": "png", **parameters})


def told(response: httpx.Response) -> tuple[str, str]:
    assert response.status_code == 200
    return response.headers["Enlarger-Provider"], response.headers["Enlarger-Precision"]


def test_the_same_picture_gives_the_same_bytes_however_often_its_tiles_have_come(
    server: Server, photo: np.ndarray
) -> None:
    """A size of tile is compiled once its tiles have come for a while: nobody sees when."""
    body = encode(photo)
    with server.client() as client:
        answers = {post(client, body).content for _ in range(12)}
    assert len(answers) == 1
