"""The shipped networks as the engine runs them, and what it refuses to load."""

import dataclasses
import hashlib
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException

from app.errors import ComputeError, ModelFileError, OutOfMemoryError, ProviderError, SelfTestError
from app.inference import binding as binding_module
from app.inference import providers as providers_module
from app.inference.batching import LANES, MOST_WINDOWS
from app.inference.binding import BoundSession, HostBuffer, page_lock
from app.inference.engine import WARM_UP_SIDE, Backend, Engine
from app.inference.face import check_face
from app.inference.providers import PROVIDERS, TENSORRT, GpuOptions, choose_provider, create_session, provider_options
from app.inference.pruning import with_one_output
from app.inference.runtimes import onnx_runtime
from app.inference.runtimes.base import Session, Source
from app.inference.runtimes.onnx_runtime import OnnxRuntime, OnnxSession
from app.inference.self_test import check_known_tile
from app.inference.zoo import ModelFile, ModelSpec, Zoo, load_zoo
from app.threads import usable_cores
from harness import MODELS
from harness.fakes import PATIENCE, Pixels, make_spec, noise, running

shipped = pytest.mark.parametrize("spec", load_zoo(MODELS).models, ids=lambda spec: spec.title)


# -- what is shipped ---------------------------------------------------------------------------------------------


@shipped
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 17)], ids=str)
def test_windows_come_back_larger_by_the_scale_as_8_bits(
    engine: Engine, spec: ModelSpec, size: tuple[int, int]
) -> None:
    results = engine.run(spec, [noise(*size, 3), noise(*size, 3, seed=1)])
    assert [result.shape for result in results] == [(size[0] * spec.scale, size[1] * spec.scale, 3)] * 2
    assert {result.dtype for result in results} == {np.dtype(np.uint8)}


def test_results_take_none_of_the_arena_that_never_shrinks(engine: Engine) -> None:
    spec = load_zoo(MODELS).find("bicubic", 2)
    for run in (engine.run, engine.run_beside):
        (result,) = run(spec, [noise(40, 56, 3)])
        assert isinstance(result.base, np.ndarray)
        assert result.base.flags.owndata


@shipped
def test_a_batch_gives_what_its_windows_give_alone(engine: Engine, spec: ModelSpec) -> None:
    windows = [noise(24, 31, 3), noise(24, 31, 3, seed=1)]
    for together, window in zip(engine.run(spec, windows), windows, strict=True):
        (alone,) = engine.run(spec, [window])
        assert np.abs(together.astype(int) - alone).max() <= 1


@shipped
def test_the_16_bit_output_is_the_same_picture(engine: Engine, spec: ModelSpec) -> None:
    window = noise(32, 32, 3)
    (deep,) = engine.run(spec, [window.astype(np.uint16) * 257])
    assert deep.dtype == np.uint16
    roundings = 0.5 + 0.5 / 257  # of 255: that of the 8 bits and that of the 16
    assert np.abs(deep / 257 - engine.run(spec, [window])[0]).max() <= roundings + 1e-3


@shipped
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_plain_area_stays_nearly_as_it_is(engine: Engine, spec: ModelSpec, level: int) -> None:
    (result,) = engine.run(spec, [np.full((40, 40, 3), level, np.uint8)])
    inner = result[16 * spec.scale : -16 * spec.scale, 16 * spec.scale : -16 * spec.scale].astype(int)
    assert np.abs(inner - level).max() <= 5


@shipped
def test_what_is_said_of_a_loaded_network_is_true(engine: Engine, spec: ModelSpec) -> None:
    network = engine.network(spec)
    assert network.spec == spec
    assert network.provider == engine.session(spec, network.backend).provider == "CPUExecutionProvider"
    assert network.precision == "fp32"
    assert network.at("uint16") is network
    assert network.seconds_per_pixel > 0


def test_a_run_that_fails_is_a_compute_error_for_whoever_asked_and_for_nobody_after(engine: Engine) -> None:
    spec = next(iter(engine.networks.values())).spec
    with running(engine) as scheduler, scheduler.open([(spec, 2 * 16 * 16)], time.monotonic() + PATIENCE) as job:
        with pytest.raises(ComputeError, match=spec.title):
            job.result(job.submit(spec, noise(16, 16, 4)))
        assert job.result(job.submit(spec, noise(16, 16, 3))).shape == (16 * spec.scale, 16 * spec.scale, 3)


# -- beside one another ------------------------------------------------------------------------------------------


@shipped
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=lambda dtype: dtype.__name__)
def test_windows_beside_one_another_give_what_each_gives_alone(
    engine: Engine, spec: ModelSpec, dtype: type[np.uint8 | np.uint16]
) -> None:
    level = np.iinfo(dtype).max // 255
    windows = [noise(24, 31, 3, seed=seed).astype(dtype) * level for seed in range(4)]
    with ThreadPoolExecutor(LANES) as pool:
        beside = list(pool.map(lambda window: engine.run_beside(spec, [window])[0], windows))
    for window, result in zip(windows, beside, strict=True):
        (alone,) = engine.run(spec, [window])
        assert result.dtype == dtype
        assert np.abs(result.astype(int) - alone).max() <= level


def threads_of(session: Session) -> list[int]:
    """Of each session of ONNX Runtime's that stands behind one of ours."""
    assert isinstance(session, OnnxSession)
    return [each.get_session_options().intra_op_num_threads for each in session.sessions]


def run_at_once(engine: Engine, spec: ModelSpec, count: int) -> None:
    """So many runs beside one another, none of which ends before all have begun."""
    session, together = engine.session(spec, engine.network(spec).backend, beside=True), threading.Barrier(count)

    def run(batch: Pixels) -> None:
        with session._free_session():
            together.wait(PATIENCE)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, [np.zeros((1, 8, 8, 3), np.uint8)] * count))


def test_each_lane_has_half_of_the_threads_and_waits_for_no_others() -> None:
    engine, (spec,) = Engine(small_zoo(), "cpu", threads=5), small_zoo().models
    backend = engine.network(spec).backend
    assert threads_of(engine.session(spec, backend)) == [5]
    assert threads_of(engine.session(spec, backend, beside=True)) == [2]
    run_at_once(engine, spec, LANES)
    run_at_once(engine, spec, LANES)
    assert threads_of(engine.session(spec, backend, beside=True)) == [2, 2]
    assert engine.shares_cores


def test_lanes_of_one_thread_share_a_session() -> None:
    engine, (spec,) = Engine(small_zoo(), "cpu", threads=2), small_zoo().models
    run_at_once(engine, spec, LANES)
    assert threads_of(engine.session(spec, engine.network(spec).backend, beside=True)) == [1]


def test_one_core_is_not_shared() -> None:
    assert not Engine(small_zoo(), "cpu", threads=1).shares_cores


@shipped
def test_the_output_that_nobody_fetches_is_not_computed(spec: ModelSpec) -> None:
    for precision in spec.files:
        data = load_zoo(MODELS).read(spec, precision)
        whole, pruned = onnx.load_from_string(data), onnx.load_from_string(with_one_output(data, "upscaled"))
        assert [output.name for output in pruned.graph.output] == ["upscaled"]
        assert len(pruned.graph.node) < len(whole.graph.node)
        assert not any("upscaled16" in name for node in pruned.graph.node for name in node.output)
        for model in (whole, pruned):
            del model.graph.output[:], model.graph.node[:]
        assert pruned == whole, "nothing else has changed"


def test_what_a_graph_within_a_node_reads_is_computed() -> None:
    def branch(value: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info("result", UINT8, SHAPE)
        return helper.make_graph([helper.make_node("Identity", [value], ["result"])], value, [], [result])

    model = onnx.load_from_string(face())
    cast = next(node for node in model.graph.node if node.output == ["upscaled"])
    cast.output[0] = "within"
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["yes"], ["upscaled"], then_branch=branch("within"), else_branch=branch("within"))
    model.graph.node.extend([yes, choice])
    pruned = with_one_output(model.SerializeToString(), "upscaled")
    assert [node.op_type for node in onnx.load_from_string(pruned).graph.node] == ["Cast", "Constant", "If"]
    image = np.full((1, 2, 2, 3), 7, np.float32)
    np.testing.assert_array_equal(create_session(pruned, "pruned", "cpu", 1).run(None, {"image": image})[0], image)


# -- the provider ------------------------------------------------------------------------------------------------


def test_cuda_asked_for_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers_module, "library_present", lambda name: False)
    with pytest.raises(ProviderError, match="no NVIDIA driver"):
        Engine(load_zoo(MODELS), "cuda", usable_cores())


@pytest.mark.parametrize("driver", [False, True])
@pytest.mark.parametrize("build", [False, True])
def test_auto_takes_cuda_where_there_are_a_driver_and_a_build_for_it(
    driver: bool, build: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = [PROVIDERS["cuda"]] * build + [PROVIDERS["cpu"]]
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    monkeypatch.setattr(providers_module, "library_present", lambda name: driver)
    assert choose_provider("auto") == ("cuda" if driver and build else "cpu")
    assert choose_provider("cpu") == "cpu"


def test_tensorrt_is_taken_only_where_it_is_asked_for_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"libcuda.so.1", TENSORRT}
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(providers_module, "library_present", lambda name: name in there)
    assert choose_provider("auto") == "cuda"
    assert choose_provider("tensorrt") == "tensorrt"
    there.remove(TENSORRT)
    assert choose_provider("cuda") == "cuda"
    with pytest.raises(ProviderError, match=r"ENLARGER_PROVIDER is tensorrt, but there is .* no TensorRT"):
        choose_provider("tensorrt")


def test_what_a_provider_is_told() -> None:
    names = [[name for name, _ in provider_options(provider, "fp32", GpuOptions())] for provider in PROVIDERS]
    assert names == [
        ["CPUExecutionProvider"],
        ["CUDAExecutionProvider"],
        ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
    ]
    ((_, free),) = provider_options("cuda", "fp32", GpuOptions())
    ((_, bounded),) = provider_options("cuda", "fp16", GpuOptions(memory_bytes=2**30))
    assert free == {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    assert bounded == free | {"gpu_mem_limit": str(2**30)}
    for precision, enabled in (("fp32", "0"), ("fp16", "1")):
        assert provider_options("tensorrt", precision, GpuOptions())[0][1]["trt_fp16_enable"] == enabled


def test_a_session_that_fell_back_to_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ort.InferenceSession
    monkeypatch.setattr(
        ort, "InferenceSession", lambda data, options, providers: real(data, options, providers=[PROVIDERS["cpu"]])
    )
    with pytest.raises(ProviderError, match="asked for CUDAExecutionProvider, got CPUExecutionProvider"):
        create_session(face(), "net.onnx", "cuda", usable_cores())


# -- memory ------------------------------------------------------------------------------------------------------

TOLD_BY_ORT = [
    Fail("Failed to allocate memory for requested buffer of size 12582912000"),
    RuntimeError("Error in execution: Failed to allocate memory for requested buffer"),  # so of bound memory
    RuntimeException("CUDA failure 2: out of memory ; GPU=0"),
    EPFail("CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError(),
]


class Failing:
    """A session that raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def io_binding(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", TOLD_BY_ORT, ids=repr)
def test_out_of_memory_is_told_apart_from_other_failures(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    spec = next(iter(engine.networks.values())).spec
    session = engine.session(spec, engine.network(spec).backend)
    working = session._free[:]
    session._free[:] = [Failing(error)]
    with pytest.raises(OutOfMemoryError, match=spec.title):
        engine.run(spec, [noise(8, 8, 3)])
    session._free[:] = [Failing(Fail("Non-zero status code returned while running Conv node"))]
    with pytest.raises(Fail):
        engine.run(spec, [noise(8, 8, 3)])
    session._free[:] = working
    assert len(engine.run(spec, [noise(8, 8, 3)])) == 1


def small_zoo() -> Zoo:
    zoo = load_zoo(MODELS)
    return dataclasses.replace(zoo, models=(zoo.find("bicubic", 2),))


def small_engine() -> Engine:
    return Engine(small_zoo(), "cpu", usable_cores())


def test_a_proven_network_is_let_go_on_a_cpu_and_made_again_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[ort.InferenceSession]] = []
    proven: list[tuple[str, int]] = []

    def watched(*arguments: Any) -> ort.InferenceSession:
        session = create_session(*arguments)
        made.append(weakref.ref(session))
        return session

    def held() -> int:
        return sum(each() is not None for each in made)

    def self_test(title: str, tile: np.ndarray, upscaled: np.ndarray) -> None:
        check_known_tile(title, tile, upscaled)
        proven.append((title, held()))

    monkeypatch.setattr(onnx_runtime, "create_session", watched)
    zoo = load_zoo(MODELS)
    few = dataclasses.replace(zoo, models=tuple(zoo.find(name, 2) for name in ("bicubic", "espcn")), generators=())
    engine = Engine(few, "cpu", usable_cores(), self_test=self_test)
    assert proven == [("bicubic-x2", 1), ("espcn-x2", 1)], "one at a time"
    assert (len(made), held()) == (2, 0)
    spec, window = few.find("espcn", 2), noise(8, 8, 3)
    (result,) = engine.run(spec, [window])
    assert held() == 1
    np.testing.assert_array_equal(result, Engine(few, "cpu", usable_cores()).run(spec, [window])[0])


def test_a_network_that_is_not_proven_stops_the_start() -> None:
    def self_test(title: str, tile: np.ndarray, upscaled: np.ndarray) -> None:
        check_known_tile(title, tile, upscaled // 2)

    with pytest.raises(SelfTestError, match="bicubic-x2: its output is not the image"):
        Engine(small_zoo(), "cpu", usable_cores(), self_test=self_test)


def test_a_gpus_session_that_ran_out_of_memory_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    spec = next(iter(engine.networks.values())).spec
    monkeypatch.setattr(onnx_runtime, "create_session", lambda data, path, *_: create_session(data, path, "cpu", 1))
    monkeypatch.setattr(engine._onnx, "name", "cuda")
    monkeypatch.setattr(engine, "on_gpu", True)
    engine._sessions.clear()
    window, backend = noise(8, 8, 3), engine.network(spec).backend
    (expected,) = engine.run(spec, [window])  # through the buffers that a GPU has
    first = engine.session(spec, backend)

    def fail(*_: object) -> None:
        raise Fail("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(BoundSession, "run", fail)
        with pytest.raises(OutOfMemoryError):
            engine.run(spec, [window])
    np.testing.assert_array_equal(engine.run(spec, [window])[0], expected)
    assert engine.session(spec, backend) is not first


def test_a_gpu_is_warmed_up_at_the_largest_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    spec = next(iter(engine.networks.values())).spec
    sizes: list[int] = []

    def infer(spec: ModelSpec, backend: Backend, batch: Pixels) -> Pixels:
        sizes.append(len(batch))
        if len(batch) > 5:
            raise OutOfMemoryError("no room")
        return batch

    monkeypatch.setattr(engine, "_infer", infer)
    backend = engine.network(spec).backend
    engine._warm_up(spec, backend)
    assert (sizes, engine.batch_macs) == ([], 0), "batches of one on CPU"
    engine.batch_macs = 2 * MOST_WINDOWS * WARM_UP_SIDE**2 * spec.macs
    engine._warm_up(spec, backend)
    assert sizes == [MOST_WINDOWS, MOST_WINDOWS, MOST_WINDOWS // 2, MOST_WINDOWS // 4]


def test_bound_buffers_give_what_a_plain_run_gives_and_are_used_again() -> None:
    engine = small_engine()
    spec = next(iter(engine.networks.values())).spec
    bound = BoundSession(engine.session(spec, engine.network(spec).backend).sessions[0], spec.scale)
    kept = []
    for size, count in (((24, 40), 3), ((9, 8), 1), ((64, 64), 2)):
        windows = [noise(*size, 3, seed=seed) for seed in range(count)]
        kept.append((bound.run("upscaled", np.stack(windows), None), engine.run(spec, windows)))
    for results, expected in kept:  # after all runs: none has written into another's result
        np.testing.assert_array_equal(results, expected)
    deep = noise(8, 8, 3).astype(np.uint16) * 257
    assert bound.run("upscaled16", deep[None], None).dtype == np.uint16
    bound.release()


def test_a_buffer_grows_and_is_not_locked_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding_module, "cuda_runtime", lambda: None)
    buffer = HostBuffer(lock=True)
    small = buffer.array((2, 3), np.dtype(np.float32))
    assert np.shares_memory(small, buffer.array((1, 2), np.dtype(np.float32)))
    assert buffer.array((5, 5), np.dtype(np.uint8)).shape == (5, 5)
    assert not page_lock(np.empty(10, np.uint8))
    buffer.release()


# -- the face ----------------------------------------------------------------------------------------------------

FLOAT, UINT8, UINT16 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.UINT16
SHAPE = ["N", "H", "W", 3]
SPEC = make_spec("tiny", scale=1, context=0)
TOLD = {"name": "tiny", "scale": "1", "context": "0"}
Tensors = dict[str, tuple[int, list[Any]]]


def face(image: Tensors | None = None, outputs: Tensors | None = None, told: dict[str, str] | None = None) -> bytes:
    """The smallest model with the right face at scale 1, as far as it is not told otherwise."""
    image = {"image": (FLOAT, SHAPE)} if image is None else image
    outputs = {"upscaled": (UINT8, SHAPE), "upscaled16": (UINT16, SHAPE)} | (outputs or {})
    nodes = [helper.make_node("Cast", [next(iter(image))], [name], to=kind) for name, (kind, _) in outputs.items()]
    inputs = [helper.make_tensor_value_info(name, *tensor) for name, tensor in image.items()]
    results = [helper.make_tensor_value_info(name, *tensor) for name, tensor in outputs.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    for key, value in (TOLD if told is None else told).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "another input": ({"image": {"input": (FLOAT, SHAPE)}}, "inputs are .*'input'"),
    "two inputs": ({"image": {"image": (FLOAT, SHAPE), "noise": (FLOAT, SHAPE)}}, "inputs are .*'noise'"),
    "integers in": ({"image": {"image": (UINT8, SHAPE)}}, r"inputs are .*tensor\(uint8\)"),
    "planes in": ({"image": {"image": (FLOAT, ["N", 3, "H", "W"])}}, "inputs are"),
    "one channel": ({"image": {"image": (FLOAT, ["N", "H", "W", 1])}}, "inputs are"),
    "no batch": ({"image": {"image": (FLOAT, ["H", "W", 3])}}, "inputs are"),
    "another output": ({"outputs": {"more": (UINT8, SHAPE)}}, "outputs are .*'more'"),
    "floats out": ({"outputs": {"upscaled": (FLOAT, SHAPE)}}, r"outputs are .*tensor\(float\)"),
    "another scale": ({"told": TOLD | {"scale": "2"}}, "its metadata says scale '2', the manifest 1"),
    "another name": ({"told": TOLD | {"name": "huge"}}, "its metadata says name 'huge', the manifest 'tiny'"),
    "another context": ({"told": TOLD | {"context": "9"}}, "its metadata says context '9', the manifest 0"),
    "no metadata": ({"told": {}}, "says name None.* says scale None.* says context None"),
}


def loaded(data: bytes) -> OnnxSession:
    return OnnxRuntime("cpu", GpuOptions()).load(Source(SPEC.title, "net.onnx", data, SPEC.scale, "fp32"), 1)


def test_the_right_face_is_accepted() -> None:
    check_face(loaded(face()).face, SPEC)


@pytest.mark.parametrize(("changes", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_face_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=f"tiny-x1: .*{message}"):
        check_face(loaded(face(**changes)).face, SPEC)


def load_engine(folder: Path, spec: ModelSpec, data: bytes) -> Engine:
    """An engine over a zoo of this one file."""
    (folder / "net.onnx").write_bytes(data)
    file = ModelFile("net.onnx", hashlib.sha256(data).hexdigest(), len(data))
    return Engine(Zoo(folder, spec.name, (dataclasses.replace(spec, files={"fp32": file}),)), "cpu", usable_cores())


def test_an_output_of_another_scale_than_said_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tiny-x2 does not enlarge an image 2 times: .*\{1,64,64,3\}"):
        load_engine(tmp_path, make_spec("tiny", scale=2, context=0), face(told=TOLD | {"scale": "2"}))


@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda data: b"", lambda data: b"text"])
def test_a_file_that_is_no_network_is_refused(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"net\.onnx: ONNX Runtime cannot load it"):
        load_engine(tmp_path, SPEC, change(face()))


def test_a_foreign_face_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="its metadata says context '9'"):
        load_engine(tmp_path, SPEC, face(told=TOLD | {"context": "9"}))
