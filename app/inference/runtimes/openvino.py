"""OpenVINO on a CPU: bf16 if the processor computes it, int8 and fp32; for 8-bit results.

Tiles of any size are computed by a network compiled for all sizes. For a size that keeps coming the network is
compiled again: `fast` is then 1.24 times as fast, its int8 file 1.45 times. Both give the same bytes.
"""

import logging
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import ref

import numpy as np
import openvino

from app.errors import ModelFileError, OutOfMemoryError
from app.images.pixels import Pixels
from app.inference.providers import is_out_of_memory
from app.inference.runtimes.base import OUTPUTS, Face, Source, Strengths, Value
from app.inference.runtimes.channels_last import with_channels_last
from app.inference.stopping import current_stop, giving_up
from app.threads import lower_priority

log = logging.getLogger("enlarger.openvino")

Shape = tuple[int, ...]
ANY_SIZE: Shape = ()
MOST_COMPILED = 8  # networks and sizes in the whole process; each holds its weights and code, 5 to 15 MB
LARGE_MACS = 20_000_000_000  # a tile that takes longer than compiling, and much memory: compiled for immediately
PAYS_AFTER = 4  # times the compile time: compute time with tiles of one size after which it is compiled for that size
MOST_SIZES = 64  # whose compute time a session keeps

KINDS = {"f32": "tensor(float)", "u8": "tensor(uint8)", "u16": "tensor(uint16)"}  # in ONNX's notation
COMPUTED = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}


class OpenVinoRuntime:
    """``name`` is the provider's name in the settings. ``compiles_sizes`` is false once a compilation has failed."""

    name = "openvino"
    depths = ("uint8",)
    errors = (RuntimeError, MemoryError)
    on_gpu = False

    def __init__(self) -> None:
        self._core = openvino.Core()
        self.computes_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precisions = ("bf16", "fp32", "int8") if self.computes_bf16 else ("fp32", "int8")
        self.compiles_sizes = True
        self.cache = CompiledCache(MOST_COMPILED)

    def load(self, source: Source, threads: int, callers: int = 1) -> "OpenVinoSession":
        try:
            return OpenVinoSession(self, source, threads * callers, callers)
        except (RuntimeError, ValueError) as error:
            self.compiles_sizes = False
            raise ModelFileError(f"{source.path}: OpenVINO cannot load it: {error}") from error

    def read(self, source: Source) -> Any:
        return self._core.read_model(source.data)

    def compile(self, model: Any, precision: str, threads: int, streams: int) -> Any:
        """For ``streams`` concurrent runs that share ``threads`` threads. Floats are bf16 if possible, unless fp32
        is requested."""
        half = precision != "fp32" and self.computes_bf16
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # decoders and encoders share the cores
        }
        with ThreadPoolExecutor(
            1, initializer=lower_priority
        ) as maker:  # its threads inherit the priority of the thread that makes it
            return maker.submit(self._core.compile_model, model, "CPU", options).result()


class Compiled:
    """A network compiled for tiles of one shape, or of any; each thread that runs it has an infer request of its
    own."""

    def __init__(self, model: Any, shape: Shape, session: "OpenVinoSession") -> None:
        self.model, self._shape, self._session = model, shape, ref(session)
        self.users, self.holds_memory = 0, False
        self._requests: list[Any] = []

    def run(self, inputs: Sequence[Any], upscaled: Pixels) -> None:
        request, stop = self._requests.pop() if self._requests else self.model.create_infer_request(), current_stop()
        try:
            for index, each in enumerate(inputs):
                request.set_input_tensor(index, openvino.Tensor(each, shared_memory=True))
            with giving_up(request.cancel, (RuntimeError,)):
                request.infer()
            place(request.get_output_tensor().data, upscaled)
        finally:
            if not (stop and stop.is_set):  # one that was canceled when it had just ended would end its next run so
                self._requests.append(request)

    def drop(self) -> None:
        """Its session compiles it again when it is needed."""
        session = self._session()
        if session and session._compiled.get(self._shape) is self:
            del session._compiled[self._shape]


class CompiledCache:
    """Everything compiled in this process: the ``most`` recently used ones, of which idle ones hold no activations.

    Otherwise each network ever used would keep those of its tiles: 25 to 90 MB per thread.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._all: OrderedDict[Compiled, None] = OrderedDict()  # the most recently used one is last

    def __len__(self) -> int:
        return len(self._all)

    def begin(self, compiled: Compiled) -> None:
        with self._lock:
            compiled.users, compiled.holds_memory = compiled.users + 1, True
            self._all[compiled] = None
            self._all.move_to_end(compiled)
            idle = [each for each in self._all if not each.users]
            for each in idle:
                if each.holds_memory:
                    each.model.release_memory()
                    each.holds_memory = False
            for each in idle[: max(0, len(self._all) - self._most)]:
                del self._all[each]
                each.drop()

    def end(self, compiled: Compiled) -> None:
        with self._lock:
            compiled.users -= 1

    def forget(self, compiled: Compiled) -> None:
        with self._lock:
            self._all.pop(compiled, None)


class OpenVinoSession:
    """Compiled for tiles of any size when it is made, and for one size once such tiles have kept coming."""

    provider = "OpenVINO"

    def __init__(self, runtime: OpenVinoRuntime, source: Source, threads: int, streams: int) -> None:
        self._runtime, self._source, self._threads, self._streams = runtime, source, threads, streams
        model = runtime.read(source)
        self.face = face_of(model)
        self._model = with_channels_last(model, OUTPUTS["uint8"], source.scale)
        self._compiling = threading.Lock()
        self._compiled: dict[Shape, Compiled] = {}
        self._seconds: OrderedDict[Shape, float] = OrderedDict()  # compute time by tile size
        started = time.perf_counter()
        self.precision = precision_of(self._compile(ANY_SIZE).model)
        self._pays_after = PAYS_AFTER * (time.perf_counter() - started)

    def run(self, batch: Pixels, strength: Strengths | None = None) -> Pixels:
        count, height, width, channels = batch.shape
        scale, title = self._source.scale, self._source.title
        upscaled: Pixels = np.empty((count, height * scale, width * scale, channels), np.uint8)
        if (strength is None) == (len(self.face.inputs) > 1):
            raise ValueError(f"{title}: a strength belongs to a network that has one")  # else it would read garbage
        compiled = self._compiled_for(batch.shape)
        self._runtime.cache.begin(compiled)
        started = time.perf_counter()
        try:
            compiled.run([np.ascontiguousarray(batch), *([] if strength is None else [strength])], upscaled)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(f"There is not enough memory for {title} at the moment.") from error
        finally:
            self._runtime.cache.end(compiled)
        self._seconds[batch.shape] = self._seconds.pop(batch.shape, 0.0) + time.perf_counter() - started
        while len(self._seconds) > MOST_SIZES:
            self._seconds.popitem(last=False)
        return upscaled

    def _compiled_for(self, shape: Shape) -> Compiled:
        """The network compiled for tiles of that shape, or for any while the shape is new or another thread is
        compiling."""
        if (own := self._compiled.get(shape)) is not None:
            return own
        large = self._source.macs * math.prod(shape[:3]) >= LARGE_MACS
        pays = large or self._seconds.get(shape, 0.0) >= self._pays_after
        if pays and self._runtime.compiles_sizes and self._compiling.acquire(blocking=False):
            try:
                return self._compile(shape)
            except RuntimeError as error:
                self._runtime.compiles_sizes = False
                log.warning("%s: OpenVINO cannot compile it for tiles of %s: %s", self._source.title, shape, error)
            finally:
                self._compiling.release()
        for_any = None if large else self._compiled.get(ANY_SIZE)
        if for_any is not None:
            return for_any
        with self._compiling:
            return self._compiled.get(shape) or self._compiled.get(ANY_SIZE) or self._compile(ANY_SIZE)

    def _compile(self, shape: Shape) -> Compiled:
        model = self._model
        if shape:
            model = model.clone()
            image, *strength = model.inputs
            model.reshape({image: list(shape), **{each: [shape[0]] for each in strength}})
        made = self._runtime.compile(model, self._source.precision, self._threads, self._streams)
        self._compiled[shape] = compiled = Compiled(made, shape, self)
        return compiled

    def release(self) -> None:
        for compiled in list(self._compiled.values()):
            self._runtime.cache.forget(compiled)


def place(result: Pixels, upscaled: Pixels) -> None:
    """Copies runs of HR rows ``[N, h, w, s, s * 3]``, or pixels, into place in ``upscaled`` ``[N, h * s, w * s,
    3]``.

    A run moves as one element, in a third of the time that its bytes would take one by one.
    """
    if result.ndim == 4:
        upscaled[...] = result
        return
    count, height, width, scale, samples = result.shape
    run = np.dtype((np.void, samples * result.itemsize))
    rows = upscaled.reshape(count, height, scale, width * samples).view(run)
    rows[...] = result.reshape(count, height, width, scale * samples).view(run).transpose(0, 1, 3, 2)


def face_of(model: Any) -> Face:
    """The face of a network as read from its file."""
    inputs, outputs = (
        tuple(
            Value(
                value.get_any_name(),
                KINDS.get(kind := value.get_element_type().get_type_name(), kind),
                tuple(size.get_length() if size.is_static else None for size in value.get_partial_shape()),
            )
            for value in values
        )
        for values in (model.inputs, model.outputs)
    )
    info = model.get_rt_info()
    told = info["framework"] if "framework" in info else {}  # noqa: SIM401 - it is no dict
    return Face(inputs, outputs, {key: str(told[key].value) for key in told})


def precision_of(compiled: Any) -> str:
    """The precision of most of the convolutions, or else of all layers, of a compiled network."""
    layers = [layer.get_rt_info() for layer in compiled.get_runtime_model().get_ops()]
    kinds = [(str(layer["layerType"].value), str(layer["runtimePrecision"].value)) for layer in layers]
    convolutions = Counter(precision for layer, precision in kinds if layer == "Convolution")
    ((most, _),) = (convolutions or Counter(precision for _, precision in kinds)).most_common(1)
    return COMPUTED.get(most, most)
