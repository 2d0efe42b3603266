"""ONNX Runtime: every precision for which there is a file, on a CPU or a GPU."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import onnxruntime as ort

from app.errors import OutOfMemoryError
from app.images.pixels import Pixels
from app.inference.binding import BoundSession, enlarged, run_into
from app.inference.providers import RUN_ERRORS, GpuOptions, create_session, is_out_of_memory
from app.inference.pruning import with_one_output
from app.inference.runtimes.base import ALL_OUTPUTS, OUTPUTS, Face, Source, Strengths, Value
from app.inference.stopping import giving_up

PRECISIONS = {  # what a provider runs; "auto" takes the first that a network has
    "cpu": ("fp32", "int8", "fp16"),  # fp16 only to measure it: a CPU casts back and forth, which is slower
    "cuda": ("fp16", "fp32"),
    "tensorrt": ("fp16", "fp32"),
}


class OnnxRuntime:
    """``name`` is the execution provider: "cpu", "cuda" or "tensorrt"."""

    errors = RUN_ERRORS
    depths = tuple(OUTPUTS)

    def __init__(self, name: str, gpu: GpuOptions) -> None:
        self.name, self._gpu = name, gpu
        self.precisions = PRECISIONS[name]
        self.on_gpu = name != "cpu"

    def load(self, source: Source, threads: int, callers: int = 1) -> "OnnxSession":
        return OnnxSession(source, self.name, threads, callers, self._gpu)

    def load_plain(self, data: bytes, path: str, threads: int) -> ort.InferenceSession:
        """An ONNX Runtime session of a file with any other face."""
        return create_session(data, path, self.name, threads, gpu=self._gpu)


class OnnxSession:
    """One session per caller, made on first use: they wait only for their own threads.

    If there are no threads to wait for, callers share one session.
    """

    def __init__(self, source: Source, name: str, threads: int, callers: int, gpu: GpuOptions) -> None:
        data = source.data if source.output == ALL_OUTPUTS else with_one_output(source.data, source.output)
        self._create = partial(create_session, data, source.path, name, threads, source.precision, gpu)
        self._shared = threads == 1 and callers > 1
        self.sessions = [self._create()]
        self._free, self._changed = list(self.sessions), threading.Lock()
        self._bound = BoundSession(self.sessions[0], source.scale) if name != "cpu" else None
        self.provider: str = self.sessions[0].get_providers()[0]
        self.precision, self._title, self._scale = source.precision, source.title, source.scale

    @property
    def face(self) -> Face:
        session = self.sessions[0]
        inputs, outputs = (
            tuple(Value(each.name, each.type, tuple(each.shape)) for each in values)
            for values in (session.get_inputs(), session.get_outputs())
        )
        return Face(inputs, outputs, session.get_modelmeta().custom_metadata_map)

    def run(self, batch: Pixels, strength: Strengths | None = None) -> Pixels:
        output = OUTPUTS[batch.dtype.name]
        try:
            if self._bound:
                return self._bound.run(output, batch, run_options(), strength)
            image = batch.astype(np.float32)
            image /= np.iinfo(batch.dtype).max
            upscaled: Pixels = np.empty(enlarged(batch.shape, self._scale), batch.dtype)
            options = run_options()
            with self._free_session() as session, giving_up(partial(setattr, options, "terminate", True), RUN_ERRORS):
                run_into(upscaled, session, output, image, options, strength)
            return upscaled
        except RUN_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(f"There is not enough memory for {self._title} at the moment.") from error

    @contextmanager
    def _free_session(self) -> Iterator[ort.InferenceSession]:
        if self._shared:
            yield self.sessions[0]
            return
        with self._changed:
            session = self._free.pop() if self._free else None
        if session is None:
            self.sessions.append(session := self._create())
        try:
            yield session
        finally:
            self._free.append(session)

    def release(self) -> None:
        if self._bound:
            self._bound.release()


def run_options() -> ort.RunOptions:
    """Of one run."""
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True  # a wish; ORT 1.31 ignores it: both outputs run
    options.log_severity_level = 4  # what fails is told by its exception
    return options
