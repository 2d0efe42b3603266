"""Every network of the zoo, loaded and proven: a batch of LR tiles in, HR tiles out, in the best precision there is."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.errors import ModelFileError, OutOfMemoryError
from app.inference.batching import LANES, MOST_WINDOWS
from app.inference.binding import BoundSession, enlarged, run_into
from app.inference.guard import is_poisoned
from app.inference.providers import RUN_ERRORS, GpuOptions, choose_provider, create_session, is_out_of_memory
from app.inference.pruning import with_one_output
from app.inference.self_test import proving_tile
from app.inference.zoo import GeneratorSpec, ModelFile, ModelSpec, Zoo
from app.pixels import Pixels
from app.threads import usable_cores

log = logging.getLogger("enlarger.engine")
Latents = NDArray[np.float32]


Prove = Callable[[str, Pixels, Pixels], None]
"""Raises unless a network, called by its title, has made of a tile uint8 ``[h, w, 3]`` what it should have."""

OUTPUTS = {"uint8": "upscaled", "uint16": "upscaled16"}  # what a run fetches, by the depth of what it is shown
PRECISIONS = {  # what a provider runs; "auto" takes the first a network has
    "cpu": ("fp32", "int8", "fp16"),  # fp16 for its figures alone: a CPU casts to and fro, which is slower
    "cuda": ("fp16", "fp32"),
    "tensorrt": ("fp16", "fp32"),
}
FACE_OUTPUTS = {"upscaled": "tensor(uint8)", "upscaled16": "tensor(uint16)"}
RUNTIME_VERSION: str = ort.__version__
WARM_UP_SIDE = 128  # LR pixels
CPU_SIDE = 64  # the same on a CPU, for a quick start: a pixel takes up to a tenth longer than in a whole tile there
DEAR_SIDE, DEAR_MACS = 32, 500_000  # and of a network that computes more than that for one LR pixel
BATCH_MACS = {"cpu": 0}  # of one call; a CPU gains nothing by batches
GPU_BATCH_MACS = 400_000_000_000  # eight of the largest tiles: some milliseconds, and a few GiB of activations
WARM_UP_PICTURES = 16
ALL_CORES = 0  # the lane of a run that has the machine for itself; those beside one another have lanes 1, 2...
BOTH = ""  # outputs


@dataclass(frozen=True)
class Network:
    """A loaded network: its face is checked, it has run, and ``seconds_per_pixel`` (LR) was measured."""

    spec: ModelSpec
    precision: str
    provider: str
    seconds_per_pixel: float

    @property
    def file(self) -> ModelFile:
        """The file that runs."""
        return self.spec.files[self.precision]

    @property
    def max_depth(self) -> int:
        """Bits per sample that it can tell apart: ``int8`` holds the input in steps of 1/255."""
        return 8 if self.precision == "int8" else 16


@dataclass(frozen=True)
class PictureGenerator:
    """A loaded generator: its face is checked, it has run, and ``seconds_per_picture`` was measured."""

    spec: GeneratorSpec
    provider: str
    session: ort.InferenceSession
    seconds_per_picture: float

    def run(self, latents: Latents) -> Pixels:
        """float32 ``[N, latent]`` to uint8 ``[N, height, width, channels]``."""
        pictures: Pixels = self.session.run(["pictures"], {"latents": latents})[0]
        return pictures


class Key(NamedTuple):
    """Which session: of which file, with how many cores, able to give which output."""

    title: str
    precision: str
    lane: int = ALL_CORES
    output: str = BOTH


class Engine:
    """Every network of a zoo, loaded on one provider ("cpu", "cuda" or "tensorrt"); it has run there.

    ``precision`` is asked for, not demanded: a network's own says what it really has, see ``choose_precision``.
    ``zoo`` is what it was made of, each network as it is run here: with the context of the file that was chosen.
    ``threads``: 0 means every core that this process may use.
    ``batch_macs`` is what one call of ``run`` may cost, multiply-accumulates. ``recomputed`` counts, by network, the
    batches that overflowed in float16 and were computed again in float32. One thread at a time may ``run``, and
    ``LANES`` may ``run_beside`` one another, where ``shares_cores``.

    With ``prove`` each network has to pass that before the next one is loaded, and on a CPU its session is let go then:
    it is made again, in 5 to 40 ms, when a picture asks for it, and what nobody asks for takes no memory. On a GPU
    making one is dear.

    A run on all cores waits, after every layer, for the core that was late: for one that encodes, above all. Two runs
    with half of the cores each wait for nobody. Measured on 2 cores, `fast`: 1.08 times the pixels a second, and 1.15
    times while a third thread encodes. Sharing one pool of threads they would lose a tenth instead.
    """

    def __init__(
        self,
        zoo: Zoo,
        provider: str,
        threads: int,
        precision: str = "auto",
        gpu: GpuOptions | None = None,
        prove: Prove | None = None,
    ) -> None:
        self.provider, self.precision = choose_provider(provider), precision
        self.batch_macs = BATCH_MACS.get(self.provider, GPU_BATCH_MACS)
        self.recomputed: Counter[str] = Counter()
        self._prove = prove
        self._threads = threads or usable_cores()
        self._lane_threads = self._threads // LANES
        self.shares_cores = self.provider == "cpu" and self._threads >= LANES
        self._free_lanes = list(range(1, 1 + LANES))
        self.zoo, self._gpu = zoo, gpu or GpuOptions()
        self._options = ort.RunOptions()
        self._options.only_execute_path_to_fetches = True  # a request; ORT 1.31 ignores it: both outputs run
        self._making = threading.Lock()
        self._sessions: dict[Key, ort.InferenceSession] = {}
        self._bound: dict[Key, BoundSession] = {}
        self.networks = {spec.title: self._load(spec) for spec in zoo}
        self.zoo = replace(zoo, models=tuple(network.spec for network in self.networks.values()))
        self.generators = {spec.name: self._load_generator(spec) for spec in zoo.generators}

    def _load(self, spec: ModelSpec) -> Network:
        precision = choose_precision(self.precision, self.provider, spec)
        spec = spec.at(precision)
        if precision == "fp16" and "fp32" in spec.files:
            self.zoo.read(spec, "fp32")  # proven now, loaded when a picture needs it
        provider = self.session(spec, precision).get_providers()[0]
        tile, run = proving_tile(self.proof_side(spec)), self._guarded if self._prove else self._infer
        try:
            self._warm_up(spec, precision)
            self._infer(spec, precision, tile[np.newaxis])  # allocates and tunes; only the second run is timed
            started = time.perf_counter()
            upscaled = run(spec, precision, tile[np.newaxis])
            seconds = time.perf_counter() - started
        except RUN_ERRORS as error:  # also where the output does not fit the memory it is to be written to
            raise ModelFileError(f"{spec.title} does not enlarge a picture {spec.scale} times: {error}") from error
        if self._prove:
            self._prove(spec.title, tile, upscaled[0])
            if self.provider == "cpu":
                self._sessions.clear()
        return Network(spec, precision, provider, seconds / tile[..., 0].size)

    def proof_side(self, spec: ModelSpec) -> int:
        """LR pixels along the side of the tile on which a network is timed, and proven, at the start."""
        if self.provider != "cpu":
            return WARM_UP_SIDE
        return CPU_SIDE if spec.macs <= DEAR_MACS else DEAR_SIDE

    def _warm_up(self, spec: ModelSpec, precision: str) -> None:
        """On a GPU: one run at the largest batch, so that memory grows now; where it does not suffice, by half less."""
        while count := min(MOST_WINDOWS, self.batch_macs // (WARM_UP_SIDE**2 * max(1, spec.macs))):
            try:
                self._infer(spec, precision, np.zeros((count, WARM_UP_SIDE, WARM_UP_SIDE, 3), np.uint8))
            except OutOfMemoryError:
                self.batch_macs //= 2
            else:
                return

    def session(
        self, spec: ModelSpec, precision: str, lane: int = ALL_CORES, output: str = BOTH
    ) -> ort.InferenceSession:
        """The session of a network's file, made when it is asked for first and again after it ran out of memory."""
        threads = self._lane_threads if lane else self._threads
        own = min(lane, 1) if threads == 1 else lane  # without threads to wait for, lanes share a session
        key = Key(spec.title, precision, own, output)
        with self._making:
            if key not in self._sessions:
                data, path = self.zoo.read(spec, precision), spec.files[precision].path
                if output != BOTH:
                    data = with_one_output(data, output)
                session = create_session(data, path, self.provider, threads, precision, self._gpu)
                if output == BOTH:
                    check_face(session, spec.at(precision))
                self._sessions[key] = session
                if self.provider != "cpu":
                    self._bound[key] = BoundSession(session, spec.scale)
            return self._sessions[key]

    def _load_generator(self, spec: GeneratorSpec) -> PictureGenerator:
        data, path = self.zoo.read(spec, "fp32"), spec.files["fp32"].path
        session = create_session(data, path, self.provider, self._threads, gpu=self._gpu)
        check_generator_face(session, spec)
        generator = PictureGenerator(spec, session.get_providers()[0], session, 0.0)
        latents = np.zeros((WARM_UP_PICTURES, spec.latent), np.float32)
        generator.run(latents)
        started = time.perf_counter()
        shape = generator.run(latents).shape
        seconds = time.perf_counter() - started
        if shape != (expected := (len(latents), spec.height, spec.width, spec.channels)):
            raise ModelFileError(f"{spec.title}: its output has shape {shape}, not {expected}.")
        return replace(generator, seconds_per_picture=seconds / WARM_UP_PICTURES)

    def network(self, spec: ModelSpec) -> Network:
        return self.networks[spec.title]

    def run(self, spec: ModelSpec, windows: Iterable[Pixels]) -> list[Pixels]:
        """LR windows of one shape and depth, uint8 or uint16 ``[h, w, 3]``, to HR windows ``[h * s, w * s, 3]`` of the
        same depth, in order.

        Raises ``OutOfMemoryError``; what else ONNX Runtime raises for a failed run is raised as it is, and the
        scheduler makes it that request's error.
        """
        return self._run(spec, windows, ALL_CORES)

    def run_beside(self, spec: ModelSpec, windows: Iterable[Pixels]) -> list[Pixels]:
        """The same on a part of the cores, by as many threads at a time as there are ``LANES``."""
        lane = self._free_lanes.pop()
        try:
            return self._run(spec, windows, lane)
        finally:
            self._free_lanes.append(lane)

    def _run(self, spec: ModelSpec, windows: Iterable[Pixels], lane: int) -> list[Pixels]:
        return list(self._guarded(spec, self.network(spec).precision, np.stack(list(windows)), lane))

    def _guarded(self, spec: ModelSpec, precision: str, batch: Pixels, lane: int = ALL_CORES) -> Pixels:
        """As ``_infer``; a batch that overflows in float16 is computed again in float32."""
        upscaled = self._infer(spec, precision, batch, lane)
        guarded = precision == "fp16" and "fp32" in spec.files  # only a file under evaluation stands alone
        if guarded and any(is_poisoned(lr, hr, spec.scale) for lr, hr in zip(batch, upscaled, strict=True)):
            log.warning("%s: float16 overflowed on this picture; computed again in float32", spec.title)
            self.recomputed[spec.title] += 1
            upscaled = self._infer(spec, "fp32", batch, lane)
        return upscaled

    def _infer(self, spec: ModelSpec, precision: str, batch: Pixels, lane: int = ALL_CORES) -> Pixels:
        """uint8 or uint16 ``[N, h, w, 3]`` to ``[N, h * scale, w * scale, 3]`` of the same depth."""
        key, output = Key(spec.title, precision, lane), OUTPUTS[batch.dtype.name]
        whole = key in self._sessions or self.provider != "cpu"  # there from the start on
        session = self.session(spec, precision, lane, BOTH if whole else output)
        try:
            if key in self._bound:
                return self._bound[key].run(output, batch, self._options)
            image = batch.astype(np.float32)
            image /= np.iinfo(batch.dtype).max
            upscaled: Pixels = np.empty(enlarged(batch.shape, spec.scale), batch.dtype)
            run_into(upscaled, session, output, image, self._options)
            return upscaled
        except RUN_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            self._let_go(key)
            raise OutOfMemoryError(f"There is not enough memory for {spec.title} now.") from error

    def _let_go(self, key: Key) -> None:
        """Drops a session that ran out of a GPU's memory: what it holds may be broken or in pieces."""
        if self.provider != "cpu":
            self._bound.pop(key).release()
            del self._sessions[key]


def choose_precision(asked: str, provider: str, spec: ModelSpec) -> str:
    """What is asked for, if the provider runs it and the model has such a file; else fp32, which every model has."""
    precision = PRECISIONS[provider][0] if asked == "auto" else asked
    return precision if precision in PRECISIONS[provider] and precision in spec.files else "fp32"


def check_face(session: ort.InferenceSession, spec: ModelSpec) -> None:
    """Raises ``ModelFileError`` unless the graph has the one face every model of this service has."""
    problems = []
    inputs = session.get_inputs()
    face = [(i.name, i.type, i.shape[-1:], len(i.shape)) for i in inputs]
    if face != [("image", "tensor(float)", [3], 4)]:
        problems.append(f"inputs are {[(i.name, i.type, i.shape) for i in inputs]}, not image: float [N, H, W, 3]")
    outputs = {o.name: o.type for o in session.get_outputs()}
    if outputs != FACE_OUTPUTS:
        problems.append(f"outputs are {outputs}, not {FACE_OUTPUTS}")
    told = session.get_modelmeta().custom_metadata_map
    for key in ("name", "scale", "context"):
        if told.get(key) != str(getattr(spec, key)):
            problems.append(f"its metadata says {key} {told.get(key)!r}, the manifest {getattr(spec, key)!r}")
    if problems:
        raise ModelFileError(f"{spec.title}: {'; '.join(problems)}.")


def check_generator_face(session: ort.InferenceSession, spec: GeneratorSpec) -> None:
    """Raises ``ModelFileError`` unless the graph takes ``latents`` and gives ``pictures`` as the manifest says."""
    inputs = [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()]
    outputs = [(o.name, o.type, o.shape[1:]) for o in session.get_outputs()]
    problems = []
    if inputs != (expected := [("latents", "tensor(float)", [spec.latent])]):
        problems.append(f"inputs are {inputs}, not {expected}")
    if outputs != (expected := [("pictures", "tensor(uint8)", [spec.height, spec.width, spec.channels])]):
        problems.append(f"outputs are {outputs}, not {expected}")
    told = session.get_modelmeta().custom_metadata_map
    for key, value in (("name", spec.name), ("kind", "generator")):
        if told.get(key) != value:
            problems.append(f"its metadata says {key} {told.get(key)!r}, not {value!r}")
    if problems:
        raise ModelFileError(f"{spec.title}: {'; '.join(problems)}.")
