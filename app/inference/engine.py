"""Every network of the zoo, loaded and proven: a batch of LR tiles in, HR tiles out, by whichever runtime is faster."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.errors import ModelFileError, OutOfMemoryError, ProofError
from app.images.pixels import Pixels
from app.inference.batching import LANES, MOST_WINDOWS
from app.inference.face import check_face, check_generator_face
from app.inference.guard import is_poisoned
from app.inference.providers import GpuOptions
from app.inference.runtimes import OPENVINO, choose_runtimes
from app.inference.runtimes.base import ALL_OUTPUTS, FILES, OUTPUTS, Runtime, Session, Source
from app.inference.self_test import proving_tile
from app.inference.zoo import GeneratorSpec, ModelFile, ModelSpec, Zoo
from app.threads import usable_cores

log = logging.getLogger("enlarger.engine")
Latents = NDArray[np.float32]

Prove = Callable[[str, Pixels, Pixels], None]
"""Raises unless a network, called by its title, has made of a tile uint8 ``[h, w, 3]`` what it should have."""

WARM_UP_SIDE = 128  # LR pixels
CPU_SIDE = 64  # the same on a CPU, for a quick start: a pixel takes up to a tenth longer than in a whole tile there
DEAR_SIDE, DEAR_MACS = 32, 500_000  # and of a network that computes more than that for one LR pixel
GPU_BATCH_MACS = 400_000_000_000  # of one call: eight of the largest tiles, some milliseconds, and a few GiB
LEAST_RUNS, MOST_RUNS, TIMED_SECONDS = 2, 4, 0.02  # the best counts; of the least once they have taken so long
CLEARLY = 0.95  # of the first runtime's time, within which a further one is taken instead
WARM_UP_PICTURES = 16
DEEP = "uint16"


class Backend(NamedTuple):
    """What runs a network: a runtime, in a precision."""

    runtime: Runtime
    precision: str

    @property
    def file(self) -> str:
        """The network's file that it runs, by its name in the manifest."""
        return FILES.get(self.precision, self.precision)


@dataclass(frozen=True)
class Network:
    """A loaded network: its face is checked, it has run, and ``seconds_per_pixel`` (LR) was measured.

    ``provider`` and ``precision`` are read back from what was loaded. ``deep``: the same network as it is run for
    results of 16 bits, where that is otherwise.
    """

    spec: ModelSpec
    backend: Backend
    provider: str
    precision: str
    seconds_per_pixel: float
    deep: "Network | None" = None

    def at(self, depth: str) -> "Network":
        """As it is run for windows of that dtype."""
        return self.deep if self.deep and depth == DEEP else self

    @property
    def providers(self) -> set[str]:
        """Those that run it, for results of either depth."""
        return {self.provider} | (self.deep.providers if self.deep else set())

    @property
    def file(self) -> ModelFile:
        """The file that runs."""
        return self.spec.files[self.backend.file]

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


class SessionKey(NamedTuple):
    """Which session: of which file, by which runtime, for one run with all cores or several beside one another."""

    title: str
    runtime: str
    precision: str
    beside: bool = False
    output: str = ALL_OUTPUTS


class Engine:
    """Every network of a zoo, loaded by the provider that is asked for ("auto": what is there); it has run there.

    ``precision`` is asked for, not demanded: a network's own says what it really has, see ``choose_precision``.
    Where both ONNX Runtime and OpenVINO are there, each network is run by the one that was faster here, ONNX Runtime if
    the other was not ``CLEARLY`` so; by the latter alone for results of 16 bits.
    ``zoo`` is what it was made of, each network as it is run here: with the context of the file that was chosen.
    ``threads``: 0 means every core that this process may use.
    ``batch_macs`` is what one call of ``run`` may cost, multiply-accumulates. ``recomputed`` counts, by network, the
    batches that overflowed in float16 and were computed again in float32. One thread at a time may ``run``, and
    ``LANES`` may ``run_beside`` one another, where ``shares_cores``.

    With ``prove`` each network has to pass that before the next one is loaded, and on a CPU its session is let go then:
    it is made again, in 5 to 100 ms, when a picture asks for it, and what nobody asks for takes no memory. On a GPU
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
        self._onnx, self._further = choose_runtimes(provider, gpu or GpuOptions())
        self._named, self.precision, self._prove = provider == OPENVINO, precision, prove
        self.on_gpu = self._onnx.on_gpu
        self.batch_macs = GPU_BATCH_MACS if self.on_gpu else 0  # a CPU gains nothing by batches
        self.recomputed: Counter[str] = Counter()
        self.zoo, self._threads = zoo, threads or usable_cores()
        self.shares_cores = not self.on_gpu and self._threads >= LANES
        self._making = threading.Lock()
        self._sessions: dict[SessionKey, Session] = {}
        self.networks = {network.spec.title: network for network in self._load()}
        self.zoo = replace(zoo, models=tuple(network.spec for network in self.networks.values()))
        self.generators = {spec.name: self._load_generator(spec) for spec in zoo.generators}

    @property
    def providers(self) -> tuple[str, ...]:
        """Those that really run a network."""
        return tuple(sorted(set().union(*(network.providers for network in self.networks.values()))))

    def _load(self) -> Iterator[Network]:
        """Some networks are loaded at a time; then each is timed and proven, with the machine for itself."""
        at_a_time = LANES if self._further else 1
        for group in batched(self.zoo, at_a_time):
            with ThreadPoolExecutor(at_a_time) as pool:
                prepared = [(pool.submit(self._prepare, spec, self._onnx), self._also(pool, spec)) for spec in group]
            for first, further in prepared:
                yield self._chosen(self._tried(first.result()), further)
            if self._prove and not self.on_gpu:
                self._let_go()

    def _also(self, pool: ThreadPoolExecutor, spec: ModelSpec) -> Future[Network] | None:
        return pool.submit(self._prepare, spec, self._further) if self._further else None

    def _chosen(self, network: Network, further: Future[Network] | None) -> Network:
        """As ONNX Runtime runs it, or as the further runtime does."""
        if self._further is None or further is None:
            return network
        try:
            other = self._tried(further.result())
        except (ModelFileError, ProofError) as error:
            if self._named:
                raise
            log.warning("OpenVINO is left out: %s", error)  # for all: it was seen to crash after a failure
            self._further = None
            return network
        if self._named or other.seconds_per_pixel < CLEARLY * network.seconds_per_pixel:
            return replace(other, deep=None if DEEP in other.backend.runtime.depths else network)
        return network

    def _prepare(self, spec: ModelSpec, runtime: Runtime) -> Network:
        """A network loaded by one runtime. It has run, and was not timed."""
        backend = Backend(runtime, choose_precision(self.precision, runtime, spec))
        spec = spec.at(backend.file)
        if backend.precision == "fp16" and "fp32" in spec.files:
            self.zoo.read(spec, "fp32")  # proven now, loaded when a picture needs it
        key, session = self._make(spec, backend)
        self._sessions[key] = session
        try:
            self._warm_up(spec, backend)
            session.run(proving_tile(self.proof_side(spec))[np.newaxis])  # allocates and tunes
        except runtime.errors as error:  # also where the output does not fit the memory it is to be written to
            raise ModelFileError(f"{spec.title} does not enlarge a picture {spec.scale} times: {error}") from error
        return Network(spec, backend, session.provider, session.precision, 0.0)

    def _tried(self, network: Network) -> Network:
        """The same, timed and proven."""
        spec, backend = network.spec, network.backend
        tile, run = proving_tile(self.proof_side(spec)), self._guarded if self._prove else self._infer
        seconds, upscaled = timed(lambda: run(spec, backend, tile[np.newaxis]))
        if self._prove:
            self._prove(spec.title, tile, upscaled[0])
        return replace(network, seconds_per_pixel=seconds / tile[..., 0].size)

    def _let_go(self) -> None:
        for session in self._sessions.values():
            session.release()
        self._sessions.clear()

    def proof_side(self, spec: ModelSpec) -> int:
        """LR pixels along the side of the tile on which a network is timed, and proven, at the start."""
        if self.on_gpu:
            return WARM_UP_SIDE
        return CPU_SIDE if spec.macs <= DEAR_MACS else DEAR_SIDE

    def _warm_up(self, spec: ModelSpec, backend: Backend) -> None:
        """On a GPU: one run at the largest batch, so that memory grows now; where it does not suffice, by half less."""
        while count := min(MOST_WINDOWS, self.batch_macs // (WARM_UP_SIDE**2 * max(1, spec.macs))):
            try:
                self._infer(spec, backend, np.zeros((count, WARM_UP_SIDE, WARM_UP_SIDE, 3), np.uint8))
            except OutOfMemoryError:
                self.batch_macs //= 2
            else:
                return

    def session(self, spec: ModelSpec, backend: Backend, beside: bool = False, output: str = ALL_OUTPUTS) -> Session:
        """The session of a network's file, made when it is asked for first and again after it ran out of memory.

        One with all outputs, where there is one from the start on, serves for each of them.
        """
        whole = SessionKey(spec.title, backend.runtime.name, backend.precision, beside)
        with self._making:
            if whole in self._sessions or self.on_gpu or DEEP not in backend.runtime.depths:
                output = ALL_OUTPUTS
            key = whole._replace(output=output)
            if key not in self._sessions:
                _, self._sessions[key] = self._make(spec, backend, beside, output)
            return self._sessions[key]

    def _make(
        self, spec: ModelSpec, backend: Backend, beside: bool = False, output: str = ALL_OUTPUTS
    ) -> tuple[SessionKey, Session]:
        threads, callers = (self._threads // LANES, LANES) if beside else (self._threads, 1)
        data, path = self.zoo.read(spec, backend.file), spec.files[backend.file].path
        source = Source(spec.title, path, data, spec.scale, backend.precision, output, spec.macs)
        session = backend.runtime.load(source, threads, callers)
        if output == ALL_OUTPUTS:
            check_face(session.face, spec.at(backend.file))
        return SessionKey(spec.title, backend.runtime.name, backend.precision, beside, output), session

    def _load_generator(self, spec: GeneratorSpec) -> PictureGenerator:
        session = self._onnx.load_plain(self.zoo.read(spec, "fp32"), spec.files["fp32"].path, self._threads)
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

        Raises ``OutOfMemoryError``; what else a runtime raises for a failed run is raised as it is, and the scheduler
        makes it that request's error.
        """
        return self._run(spec, windows, beside=False)

    def run_beside(self, spec: ModelSpec, windows: Iterable[Pixels]) -> list[Pixels]:
        """The same on a part of the cores, by as many threads at a time as there are ``LANES``."""
        return self._run(spec, windows, beside=True)

    def _run(self, spec: ModelSpec, windows: Iterable[Pixels], beside: bool) -> list[Pixels]:
        batch = np.stack(list(windows))
        return list(self._guarded(spec, self.network(spec).at(batch.dtype.name).backend, batch, beside))

    def _guarded(self, spec: ModelSpec, backend: Backend, batch: Pixels, beside: bool = False) -> Pixels:
        """As ``_infer``; a batch that overflows in float16 is computed again in float32."""
        upscaled = self._infer(spec, backend, batch, beside)
        guarded = backend.precision == "fp16" and "fp32" in spec.files  # only a file under evaluation stands alone
        if guarded and any(is_poisoned(lr, hr, spec.scale) for lr, hr in zip(batch, upscaled, strict=True)):
            log.warning("%s: float16 overflowed on this picture; computed again in float32", spec.title)
            self.recomputed[spec.title] += 1
            upscaled = self._infer(spec, backend._replace(precision="fp32"), batch, beside)
        return upscaled

    def _infer(self, spec: ModelSpec, backend: Backend, batch: Pixels, beside: bool = False) -> Pixels:
        """uint8 or uint16 ``[N, h, w, 3]`` to ``[N, h * scale, w * scale, 3]`` of the same depth."""
        session = self.session(spec, backend, beside, OUTPUTS[batch.dtype.name])
        try:
            return session.run(batch)
        except OutOfMemoryError:
            if self.on_gpu:  # what it holds may be broken or in pieces
                session.release()
                self._sessions = {key: kept for key, kept in self._sessions.items() if kept is not session}
            raise


def batched(specs: Iterable[ModelSpec], count: int) -> Iterator[list[ModelSpec]]:
    """So many at a time, in order (``itertools.batched`` of Python 3.12)."""
    rest = iter(specs)
    while group := list(islice(rest, count)):
        yield group


def timed(run: Callable[[], Pixels]) -> tuple[float, Pixels]:
    """Seconds of the best of a few runs, and what it gave."""
    best, end = float("inf"), time.perf_counter() + TIMED_SECONDS
    for number in range(MOST_RUNS):
        started = time.perf_counter()
        if number >= LEAST_RUNS and started > end:
            break
        result = run()
        best = min(best, time.perf_counter() - started)
    return best, result


def choose_precision(asked: str, runtime: Runtime, spec: ModelSpec) -> str:
    """What is asked for, if the runtime computes it and the model has such a file; else fp32, which every model has."""
    precision = runtime.precisions[0] if asked == "auto" else asked
    return precision if precision in runtime.precisions and FILES.get(precision, precision) in spec.files else "fp32"
