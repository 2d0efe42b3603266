"""Every network of the zoo, loaded and self-tested: a batch of LR tiles in, HR tiles out, by the faster runtime."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.errors import ModelFileError, OutOfMemoryError, SelfTestError
from app.images.pixels import Pixels
from app.inference.batching import LANES, MOST_WINDOWS
from app.inference.face import check_face, check_generator_face
from app.inference.guard import is_poisoned
from app.inference.providers import GpuOptions
from app.inference.runtimes import OPENVINO, choose_runtimes
from app.inference.runtimes.base import ALL_OUTPUTS, FILES, OUTPUTS, Runtime, Session, Source, Strengths
from app.inference.self_test import known_tile
from app.inference.zoo import DEFAULT_STRENGTH, GeneratorSpec, ModelFile, ModelSpec, Zoo
from app.threads import usable_cores

log = logging.getLogger("enlarger.engine")
Latents = NDArray[np.float32]

SelfTest = Callable[[str, Pixels, Pixels], None]
"""Raises unless a network, called by its title, has made of a tile uint8 ``[h, w, 3]`` what it should have."""

WARM_UP_SIDE = 128  # LR pixels
CPU_SIDE = 64  # on a CPU, for a quick start; a pixel takes up to a tenth longer than in a full tile
DEAR_SIDE, DEAR_MACS = 32, 500_000  # for networks of more multiply-accumulates per LR pixel than that
GPU_BATCH_MACS = 400_000_000_000  # per call: eight of the largest tiles, some milliseconds and a few GiB
LEAST_RUNS, MOST_RUNS, TIMED_SECONDS = 2, 4, 0.02  # the best run counts; no more than the least after that time
CLEARLY = 0.95  # a further runtime is chosen if it takes less than this share of the first one's time
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

    ``provider`` and ``precision`` are read back from the session. ``deep``: the same network as it is run for 16-bit
    results, if that differs.
    """

    spec: ModelSpec
    backend: Backend
    provider: str
    precision: str
    seconds_per_pixel: float
    deep: "Network | None" = None

    def at(self, depth: str) -> "Network":
        """The network as it is run for windows of that dtype."""
        return self.deep if self.deep and depth == DEEP else self

    @property
    def providers(self) -> set[str]:
        """The providers that run it, for 8-bit and 16-bit results."""
        return {self.provider} | (self.deep.providers if self.deep else set())

    @property
    def file(self) -> ModelFile:
        """The file that runs."""
        return self.spec.files[self.backend.file]

    @property
    def max_depth(self) -> int:
        """Bits per sample that it resolves: ``int8`` holds the input in steps of 1/255."""
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
    """Identifies a session: its file, its runtime, and whether it runs alone on all cores or beside others."""

    title: str
    runtime: str
    precision: str
    beside: bool = False
    output: str = ALL_OUTPUTS


class Engine:
    """Every network of a zoo, loaded with the requested provider ("auto": whatever is available) and run once.

    ``precision`` is a request, not a demand: ``Network.precision`` says what was loaded, see ``choose_precision``.
    If both ONNX Runtime and OpenVINO are installed, each network is run by the faster one on this machine, OpenVINO
    only if it is ``CLEARLY`` faster; 16-bit results are always computed by ONNX Runtime.
    ``zoo``: the networks as they are run here, with the context of the file that was chosen.
    ``threads``: 0 means every core that this process may use.
    ``batch_macs``: how many multiply-accumulates one call of ``run`` may take. ``recomputed`` counts, by network, the
    batches that overflowed in float16 and were computed again in float32. One thread at a time may call ``run``; where
    ``shares_cores``, ``LANES`` threads may call ``run_beside`` concurrently.

    With a ``self_test`` each network must pass it before the next one is loaded. On a CPU its session is then released
    and made again, in 5 to 100 ms, when an image asks for it, so unused networks take no memory. On a GPU sessions are
    kept, because making one is expensive.

    A run on all cores waits after every layer for the slowest core, usually one that is also encoding. Two runs on half
    of the cores each do not. Measured on 2 cores, `fast`: 1.08 times the pixels per second, 1.15 times while a third
    thread encodes. With a shared thread pool they would lose a tenth instead.
    """

    def __init__(
        self,
        zoo: Zoo,
        provider: str,
        threads: int,
        precision: str = "auto",
        gpu: GpuOptions | None = None,
        self_test: SelfTest | None = None,
    ) -> None:
        self._onnx, self._further = choose_runtimes(provider, gpu or GpuOptions())
        self._named, self.precision, self._self_test = provider == OPENVINO, precision, self_test
        self.on_gpu = self._onnx.on_gpu
        self.batch_macs = GPU_BATCH_MACS if self.on_gpu else 0  # batches gain nothing on a CPU
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
        """The providers that really run a network."""
        return tuple(sorted(set().union(*(network.providers for network in self.networks.values()))))

    def _load(self) -> Iterator[Network]:
        """Networks are loaded a few at a time; each is then timed and self-tested with the machine to itself."""
        at_a_time = LANES if self._further else 1
        for group in batched(self.zoo, at_a_time):
            with ThreadPoolExecutor(at_a_time) as pool:
                prepared = [(pool.submit(self._prepare, spec, self._onnx), self._also(pool, spec)) for spec in group]
            for first, further in prepared:
                yield self._chosen(self._tried(first.result()), further)
            if self._self_test and not self.on_gpu:
                self._let_go()

    def _also(self, pool: ThreadPoolExecutor, spec: ModelSpec) -> Future[Network] | None:
        return pool.submit(self._prepare, spec, self._further) if self._further else None

    def _chosen(self, network: Network, further: Future[Network] | None) -> Network:
        """The network as ONNX Runtime runs it, or as the further runtime does."""
        if self._further is None or further is None:
            return network
        try:
            other = self._tried(further.result())
        except (ModelFileError, SelfTestError) as error:
            if self._named:
                raise
            log.warning("OpenVINO is not used: %s", error)  # for any network: it was seen to crash after a failure
            self._further = None
            return network
        if self._named or other.seconds_per_pixel < CLEARLY * network.seconds_per_pixel:
            return replace(other, deep=None if DEEP in other.backend.runtime.depths else network)
        return network

    def _prepare(self, spec: ModelSpec, runtime: Runtime) -> Network:
        """A network loaded by one runtime, run once but not timed."""
        backend = Backend(runtime, choose_precision(self.precision, runtime, spec))
        spec = spec.at(backend.file)
        if backend.precision == "fp16" and "fp32" in spec.files:
            self.zoo.read(spec, "fp32")  # verified now, loaded when an image needs it
        key, session = self._make(spec, backend)
        self._sessions[key] = session
        try:
            self._warm_up(spec, backend)
            tile = known_tile(self.known_tile_side(spec))
            session.run(tile[np.newaxis], strengths_of(spec, 1))  # allocates and tunes
        except runtime.errors as error:  # also if the output does not fit its buffer
            raise ModelFileError(f"{spec.title} does not enlarge an image {spec.scale} times: {error}") from error
        return Network(spec, backend, session.provider, session.precision, 0.0)

    def _tried(self, network: Network) -> Network:
        """The same network, timed and self-tested."""
        spec, backend = network.spec, network.backend
        tile, run = known_tile(self.known_tile_side(spec)), self._guarded if self._self_test else self._infer
        seconds, upscaled = timed(lambda: run(spec, backend, tile[np.newaxis]))
        if self._self_test:
            self._self_test(spec.title, tile, upscaled[0])
            if spec.strength:
                self._self_test(spec.title, tile, run(spec, backend, tile[np.newaxis], strengths=[0.0])[0])
        return replace(network, seconds_per_pixel=seconds / tile[..., 0].size)

    def _let_go(self) -> None:
        for session in self._sessions.values():
            session.release()
        self._sessions.clear()

    def known_tile_side(self, spec: ModelSpec) -> int:
        """The side, in LR pixels, of the tile with which a network is timed and self-tested at start-up."""
        if self.on_gpu:
            return WARM_UP_SIDE
        return CPU_SIDE if spec.macs <= DEAR_MACS else DEAR_SIDE

    def _warm_up(self, spec: ModelSpec, backend: Backend) -> None:
        """On a GPU: one run with the largest batch, so that memory grows now; halved for as long as it does not fit."""
        while count := min(MOST_WINDOWS, self.batch_macs // (WARM_UP_SIDE**2 * max(1, spec.macs))):
            try:
                self._infer(spec, backend, np.zeros((count, WARM_UP_SIDE, WARM_UP_SIDE, 3), np.uint8))
            except OutOfMemoryError:
                self.batch_macs //= 2
            else:
                return

    def session(self, spec: ModelSpec, backend: Backend, beside: bool = False, output: str = ALL_OUTPUTS) -> Session:
        """The session of a network's file, made on first use and again after it ran out of memory.

        A session with all outputs, where there has been one since start-up, serves for each of them.
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

    def run(self, spec: ModelSpec, windows: Iterable[Pixels], strengths: Sequence[float] = ()) -> list[Pixels]:
        """LR windows of one shape and depth, uint8 or uint16 ``[h, w, 3]``, to HR windows ``[h * s, w * s, 3]`` of the
        same depth, in order.

        ``strengths``: one per window, 0 to 1, for a network that has a strength; left out, the default.
        Raises ``OutOfMemoryError``. Whatever else a runtime raises for a failed run is passed on, and the scheduler
        turns it into that request's error.
        """
        return self._run(spec, windows, strengths, beside=False)

    def run_beside(self, spec: ModelSpec, windows: Iterable[Pixels], strengths: Sequence[float] = ()) -> list[Pixels]:
        """Like ``run``, on part of the cores; up to ``LANES`` threads may call it concurrently."""
        return self._run(spec, windows, strengths, beside=True)

    def _run(
        self, spec: ModelSpec, windows: Iterable[Pixels], strengths: Sequence[float], beside: bool
    ) -> list[Pixels]:
        batch = np.stack(list(windows))
        backend = self.network(spec).at(batch.dtype.name).backend
        return list(self._guarded(spec, backend, batch, beside, strengths))

    def _guarded(
        self, spec: ModelSpec, backend: Backend, batch: Pixels, beside: bool = False, strengths: Sequence[float] = ()
    ) -> Pixels:
        """Like ``_infer``; a batch that overflows in float16 is computed again in float32."""
        upscaled = self._infer(spec, backend, batch, beside, strengths)
        guarded = backend.precision == "fp16" and "fp32" in spec.files  # fp16 alone: a file under evaluation
        if guarded and any(is_poisoned(lr, hr, spec.scale) for lr, hr in zip(batch, upscaled, strict=True)):
            log.warning("%s: float16 overflowed on this image; computed again in float32", spec.title)
            self.recomputed[spec.title] += 1
            upscaled = self._infer(spec, backend._replace(precision="fp32"), batch, beside, strengths)
        return upscaled

    def _infer(
        self, spec: ModelSpec, backend: Backend, batch: Pixels, beside: bool = False, strengths: Sequence[float] = ()
    ) -> Pixels:
        """uint8 or uint16 ``[N, h, w, 3]`` to ``[N, h * scale, w * scale, 3]`` of the same depth."""
        session = self.session(spec, backend, beside, OUTPUTS[batch.dtype.name])
        try:
            return session.run(batch, strengths_of(spec, len(batch), strengths))
        except OutOfMemoryError:
            if self.on_gpu:  # its memory may be corrupt or fragmented
                session.release()
                self._sessions = {key: kept for key, kept in self._sessions.items() if kept is not session}
            raise


def batched(specs: Iterable[ModelSpec], count: int) -> Iterator[list[ModelSpec]]:
    """Chunks of ``count`` items, in order (``itertools.batched`` of Python 3.12)."""
    rest = iter(specs)
    while group := list(islice(rest, count)):
        yield group


def strengths_of(spec: ModelSpec, count: int, given: Sequence[float] = ()) -> Strengths | None:
    """What a network is given beside ``count`` windows: float32 ``[count]``, or None if it has no such input."""
    return np.array(given or [DEFAULT_STRENGTH] * count, np.float32) if spec.strength else None


def timed(run: Callable[[], Pixels]) -> tuple[float, Pixels]:
    """The seconds of the best of a few runs, and the result."""
    best, end = float("inf"), time.perf_counter() + TIMED_SECONDS
    for number in range(MOST_RUNS):
        started = time.perf_counter()
        if number >= LEAST_RUNS and started > end:
            break
        result = run()
        best = min(best, time.perf_counter() - started)
    return best, result


def choose_precision(asked: str, runtime: Runtime, spec: ModelSpec) -> str:
    """The requested precision if the runtime computes it and the model has such a file; else fp32, which all have."""
    precision = runtime.precisions[0] if asked == "auto" else asked
    return precision if precision in runtime.precisions and FILES.get(precision, precision) in spec.files else "fp32"
