"""OpenVINO behind the engine's interface: what it computes, what it says of itself, what it keeps, what it leaves.

It computes bf16 where the processor does (AVX-512 BF16, AMX), else float32: the tests hold on both, and print which.
"""

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from app.errors import ModelFileError, OutOfMemoryError
from app.inference.batching import LANES
from app.inference.engine import Engine
from app.inference.runtimes.base import Source
from app.inference.runtimes.channels_last import with_channels_last
from app.inference.runtimes.openvino import ANY_SIZE, LARGE_MACS, MOST_COMPILED, OpenVinoRuntime, OpenVinoSession, place
from app.inference.zoo import ModelSpec, load_zoo
from app.settings import usable_cores
from harness import MODELS, ROOT
from harness.fakes import PATIENCE, Pixels, noise

ZOO = load_zoo(MODELS)
shipped = pytest.mark.parametrize("spec", ZOO.models, ids=lambda spec: spec.title)
BF16 = 4  # levels of 255 by which a sample may differ from float32's; of photographs, 0.3 on the mean at worst
CHEAP = ("bicubic", "espcn", "fast")


@pytest.fixture(scope="module")
def runtime() -> OpenVinoRuntime:
    made = OpenVinoRuntime()
    print(f"OpenVINO {openvino.__version__} computes {made.precisions[0]} here")
    return made


@pytest.fixture(scope="module")
def openvino_engine() -> Engine:
    """The networks x4, by OpenVINO."""
    return engine_of(*(spec for spec in ZOO if spec.scale == 4))


def engine_of(*specs: ModelSpec, precision: str = "auto") -> Engine:
    return Engine(replace(ZOO, models=specs, generators=()), "openvino", usable_cores(), precision)


def load(runtime: OpenVinoRuntime, spec: ModelSpec, precision: str = "auto", callers: int = 1) -> OpenVinoSession:
    precision = runtime.precisions[0] if precision == "auto" else precision
    data = ZOO.read(spec, "int8" if precision == "int8" else "fp32")
    return runtime.load(Source(spec.title, spec.title, data, spec.scale, precision), 1, callers)


def batch_of(spec: ModelSpec, window: Pixels) -> tuple[np.ndarray, ...]:
    """What a session runs: one window, at full strength where the network takes one."""
    return (window[np.newaxis], np.ones(1, np.float32)) if spec.strength else (window[np.newaxis],)


def photographs(photo: np.ndarray, *size: int) -> list[Pixels]:
    height, width = size
    return [photo[top : top + height, 120 : 120 + width] for top in (0, 90, 180)]


# -- what it computes --------------------------------------------------------------------------------------------


@shipped
def test_in_float32_it_computes_what_onnx_runtime_does(
    runtime: OpenVinoRuntime, engine: Engine, spec: ModelSpec, photo: np.ndarray
) -> None:
    session = load(runtime, spec, "fp32")
    assert (session.provider, session.precision) == ("OpenVINO", "fp32")
    for window in photographs(photo, 32, 41):
        (expected,) = engine.run(spec, [window])
        difference = np.abs(session.run(*batch_of(spec, window))[0].astype(int) - expected)
        assert difference.max() <= 1, "a rounding"
        assert (difference > 0).mean() < 0.05, "where it lies between two levels: often, for weights like 1/4"


@shipped
def test_its_own_precision_is_near_float32(
    runtime: OpenVinoRuntime, engine: Engine, spec: ModelSpec, photo: np.ndarray
) -> None:
    session = load(runtime, spec)
    assert session.precision == ("bf16" if runtime.computes_bf16 else "fp32"), "read back from what was compiled"
    for window in photographs(photo, 32, 41):
        (expected,) = engine.run(spec, [window])
        difference = np.abs(session.run(*batch_of(spec, window))[0].astype(int) - expected)
        print(f"{spec.title} {session.precision}: at most {difference.max()}, mean {difference.mean():.3f} of 255")
        assert difference.max() <= BF16
        assert difference.mean() < 0.5


@pytest.mark.parametrize("spec", [spec for spec in ZOO if "int8" in spec.files], ids=lambda spec: spec.title)
def test_an_int8_file_is_run_in_int8(
    runtime: OpenVinoRuntime, engine: Engine, spec: ModelSpec, photo: np.ndarray
) -> None:
    session = load(runtime, spec, "int8")
    assert session.precision == "int8"
    for window in photographs(photo, 32, 41):
        (expected,) = engine.run(spec, [window])
        error = np.mean((session.run(window[np.newaxis])[0].astype(float) - expected) ** 2)
        assert 10 * np.log10(255**2 / error) > 40  # dB: the loss itself is measured on test sets


@pytest.mark.parametrize("name", ["fast", "srresnet"])
def test_a_size_of_its_own_gives_the_same_bytes_as_any_size(
    runtime: OpenVinoRuntime, name: str, photo: np.ndarray
) -> None:
    spec = ZOO.find(name, 4)
    session, (batch, *_) = load(runtime, spec), [window[np.newaxis] for window in photographs(photo, 24, 31)]
    first = session.run(batch)
    assert set(session._compiled) == {ANY_SIZE}, "a size that comes once is not worth compiling"
    session._seconds[batch.shape] = session._pays_after
    np.testing.assert_array_equal(session.run(batch), first)
    assert set(session._compiled) == {ANY_SIZE, batch.shape}
    other = np.ascontiguousarray(batch[:, :17])
    assert session.run(other).shape == (1, 17 * 4, 31 * 4, 3)
    assert set(session._compiled) == {ANY_SIZE, batch.shape}


def test_a_large_tile_is_compiled_for_at_once(runtime: OpenVinoRuntime) -> None:
    spec = ZOO.find("bicubic", 4)
    source = Source(spec.title, spec.title, ZOO.read(spec, "fp32"), 4, "fp32", macs=LARGE_MACS // 100)
    session = runtime.load(source, 1)
    session.run(noise(1, 9, 9, 3))
    assert set(session._compiled) == {ANY_SIZE}
    session.run(noise(1, 10, 10, 3))
    assert set(session._compiled) == {ANY_SIZE, (1, 10, 10, 3)}


def test_tiles_beside_one_another_give_what_each_gives_alone(openvino_engine: Engine) -> None:
    for name in ("fast", "bicubic"):
        spec = ZOO.find(name, 4)
        windows = [noise(40, 56, 3, seed=seed) for seed in range(6)]
        with ThreadPoolExecutor(LANES) as pool:
            beside = list(pool.map(lambda window, spec=spec: openvino_engine.run_beside(spec, [window])[0], windows))
        for window, result in zip(windows, beside, strict=True):
            np.testing.assert_array_equal(result, openvino_engine.run(spec, [window])[0])


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_runs_of_rows_come_to_their_places(scale: int) -> None:
    phases = noise(2, 5, 7, scale, scale * 3)
    upscaled = np.empty((2, 5 * scale, 7 * scale, 3), np.uint8)
    place(phases, upscaled)
    expected = phases.reshape(2, 5, 7, scale, scale, 3).transpose(0, 1, 3, 2, 4, 5).reshape(upscaled.shape)
    np.testing.assert_array_equal(upscaled, expected)


# -- what the engine makes of it ---------------------------------------------------------------------------------


def test_what_is_said_of_a_network_is_true_for_each_depth(openvino_engine: Engine) -> None:
    for network in openvino_engine.networks.values():
        assert network.provider == "OpenVINO"
        assert network.precision == openvino_engine._further.precisions[0]
        deep = network.at("uint16")
        assert (deep.provider, deep.precision) == ("CPUExecutionProvider", "fp32")
        assert network.at("uint8") is network
        assert network.seconds_per_pixel > 0
    assert openvino_engine.providers == ("CPUExecutionProvider", "OpenVINO")


def test_results_of_16_bits_are_computed_in_float32(openvino_engine: Engine, engine: Engine) -> None:
    spec = ZOO.find("fast", 4)
    window = np.random.default_rng(0).integers(0, 65_536, (24, 31, 3), np.uint16)
    (deep,) = openvino_engine.run(spec, [window])
    assert deep.dtype == np.uint16
    np.testing.assert_array_equal(deep, engine.run(spec, [window])[0])


def test_int8_is_planned_with_the_context_of_its_file() -> None:
    spec = ZOO.find("balanced", 4)
    engine = engine_of(spec, precision="int8")
    network = engine.network(spec)
    assert (network.precision, network.spec.context) == ("int8", spec.files["int8"].context)
    assert network.at("uint16").precision == "int8", "the same file"


def test_a_failing_run_is_told_apart_from_memory_that_is_missing(openvino_engine: Engine) -> None:
    spec = ZOO.find("bicubic", 4)
    session = openvino_engine.session(spec, openvino_engine.network(spec).backend)
    openvino_engine.run(spec, [noise(8, 8, 3)])  # of so many networks it may have been dropped since it was loaded
    compiled = session._compiled[ANY_SIZE]
    working = compiled.model
    for message, error in (("std::bad_alloc", OutOfMemoryError), ("Check 'rank' failed", RuntimeError)):
        compiled.model, compiled._requests = Broken(message), []
        with pytest.raises(error):
            openvino_engine.run(spec, [noise(8, 8, 3)])
    compiled.model, compiled._requests = working, []
    assert openvino_engine.run(spec, [noise(8, 8, 3)])[0].shape == (32, 32, 3)


class Broken:
    """A compiled network none of whose runs succeeds."""

    def __init__(self, message: str) -> None:
        self.message = message

    def create_infer_request(self) -> Any:
        raise RuntimeError(self.message)

    def release_memory(self) -> None: ...


# -- what it keeps -----------------------------------------------------------------------------------------------


def test_the_last_few_networks_and_sizes_are_kept_compiled_and_the_last_one_its_memory() -> None:
    runtime = OpenVinoRuntime()
    session = load(runtime, ZOO.find("bicubic", 4))
    session.run(noise(1, 8, 7, 3))
    shapes = [(1, 8, 8 + number, 3) for number in range(MOST_COMPILED + 3)]
    for shape in shapes:
        session._seconds[shape] = session._pays_after
        session.run(noise(*shape))
        assert len(runtime.cache) <= MOST_COMPILED
        assert [each for each in runtime.cache._all if each.holds_memory] == [session._compiled[shape]]
    assert list(session._compiled) == shapes[-MOST_COMPILED:]
    assert session.run(noise(1, 9, 9, 3)).shape == (1, 36, 36, 3), "for any size, compiled again"
    assert ANY_SIZE in session._compiled
    session.release()
    assert len(runtime.cache) == 0


def test_what_is_running_is_not_taken_away() -> None:
    runtime = OpenVinoRuntime()
    sessions = [load(runtime, ZOO.find("bicubic", scale)) for scale in (2, 3, 4)]
    first = sessions[0]._compiled[ANY_SIZE]
    runtime.cache.begin(first)
    for session in sessions[1:]:
        session.run(noise(1, 8, 8, 3))
    assert first.holds_memory
    assert first in runtime.cache._all
    runtime.cache.end(first)
    sessions[1].run(noise(1, 8, 8, 3))
    assert not first.holds_memory


def test_a_size_that_cannot_be_compiled_is_computed_as_any_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = OpenVinoRuntime()
    session, batch = load(runtime, ZOO.find("bicubic", 2)), noise(1, 9, 8, 3)
    expected = session.run(batch)

    def fail(*_: object) -> None:
        raise RuntimeError("object is not initialized")

    monkeypatch.setattr(runtime, "compile", fail)
    session._seconds[batch.shape] = session._pays_after
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(session.run(batch), expected)
    assert "cannot compile it for tiles of (1, 9, 8, 3): object is not initialized" in caplog.text
    monkeypatch.undo()
    session.run(batch)
    assert set(session._compiled) == {ANY_SIZE}, "after a failure OpenVINO is not tried again: it was seen to crash"


def test_while_one_thread_compiles_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = OpenVinoRuntime()
    session, batch = load(runtime, ZOO.find("bicubic", 2), callers=2), noise(1, 9, 8, 3)
    expected, compiling, go_on = session.run(batch), threading.Event(), threading.Event()
    real = runtime.compile

    def slow(*arguments: Any) -> Any:
        compiling.set()
        assert go_on.wait(PATIENCE)
        return real(*arguments)

    monkeypatch.setattr(runtime, "compile", slow)
    session._seconds[batch.shape] = session._pays_after
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(session.run, batch)
        assert compiling.wait(PATIENCE)
        np.testing.assert_array_equal(session.run(batch), expected)
        assert not waiting.done()
        go_on.set()
        np.testing.assert_array_equal(waiting.result(PATIENCE), expected)
    assert batch.shape in session._compiled


# -- what it refuses ---------------------------------------------------------------------------------------------


def foreign(last: str) -> bytes:
    """A network with the face, as far as names and types go, that does not end as the exported ones do."""
    shape = ["N", "H", "W", 3]
    nodes = [helper.make_node("Cast", ["image"], [name], to=kind) for name, kind in OUTPUTS.items()]
    if last != "Cast":
        nodes[0] = helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["upscaled"])
    constants = [
        helper.make_tensor("step", TensorProto.FLOAT, [], [1 / 255]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
    ]
    results = [helper.make_tensor_value_info(name, kind, shape) for name, kind in OUTPUTS.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "foreign", [image], results, constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())


OUTPUTS = {"upscaled": TensorProto.UINT8, "upscaled16": TensorProto.UINT16}


@pytest.mark.parametrize("data", [b"", b"text", foreign("Cast"), onnx.load(MODELS / "digits.onnx").SerializeToString()])
def test_what_it_cannot_load_is_refused_by_name(runtime: OpenVinoRuntime, data: bytes) -> None:
    with pytest.raises(ModelFileError, match=r"net\.onnx: OpenVINO cannot load it: "):
        runtime.load(Source("net-x1", "net.onnx", data, 1, "fp32"), 1)


def test_a_network_that_ends_otherwise_is_not_rewritten() -> None:
    model = openvino.Core().read_model(foreign("Cast"))
    with pytest.raises(ValueError, match="it does not end in planes that are quantised, but in Parameter"):
        with_channels_last(model, "upscaled", 1)


def test_nothing_is_reported_to_openvinos_makers() -> None:
    program = (
        "import sys, app.inference.runtimes.openvino; from openvino.tools import ovc; "
        "print(type(ovc.telemetry).__module__, [name for name in sys.modules if name.startswith('openvino_tel')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.split("\n")[0] == "openvino.tools.ovc.telemetry_stub ['openvino_telemetry']"
