"""The only file that knows ONNX Runtime: providers, sessions, warm-up; a batch of LR tiles in, HR tiles out."""

import ctypes
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.errors import ModelFileError, ProviderError
from app.zoo import GeneratorSpec, ModelSpec, Zoo

Pixels = NDArray[np.uint8]
Latents = NDArray[np.float32]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PRECISIONS = {"cpu": ("fp32", "int8"), "cuda": ("fp32",)}  # what a provider runs well; "auto" takes the first
FACE_OUTPUTS = {"upscaled": "tensor(uint8)", "upscaled16": "tensor(uint16)"}
WARM_UP_SIDE = 128  # LR pixels
WARM_UP_PICTURES = 16


@dataclass(frozen=True)
class Network:
    """A loaded session: the model's face is checked, it has run, and ``seconds_per_pixel`` (LR) was measured."""

    spec: ModelSpec
    precision: str
    provider: str
    session: ort.InferenceSession
    seconds_per_pixel: float


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


class Engine:
    """Every network of a zoo, loaded and proven on one provider ("cpu" or "cuda").

    ``precision`` is asked for, not demanded: a network's own says what it really has, see ``choose_precision``.
    """

    def __init__(self, zoo: Zoo, provider: str, threads: int, precision: str = "auto") -> None:
        self.provider, self.precision = choose_provider(provider), precision
        share_resources(threads)
        self._options = ort.RunOptions()
        self._options.only_execute_path_to_fetches = True  # a request; ORT 1.31 ignores it: both outputs run
        self.networks = {(spec.name, spec.scale): self._load(zoo, spec) for spec in zoo}
        self.generators = {spec.name: self._load_generator(zoo, spec) for spec in zoo.generators}

    def _load(self, zoo: Zoo, spec: ModelSpec) -> Network:
        precision = choose_precision(self.precision, self.provider, spec)
        data = zoo.read(spec, precision)
        session = create_session(data, spec.files[precision].path, self.provider)
        check_face(session, spec)
        pixels = np.zeros((1, WARM_UP_SIDE, WARM_UP_SIDE, 3), np.uint8)
        self._infer(session, pixels)  # the first run allocates and tunes; the second tells the speed
        started = time.perf_counter()
        upscaled = self._infer(session, pixels)
        seconds = time.perf_counter() - started
        side = WARM_UP_SIDE * spec.scale
        if upscaled.shape != (1, side, side, 3):
            raise ModelFileError(f"{spec.title}: its output has shape {upscaled.shape}, not {(1, side, side, 3)}.")
        return Network(spec, precision, session.get_providers()[0], session, seconds / WARM_UP_SIDE**2)

    def _load_generator(self, zoo: Zoo, spec: GeneratorSpec) -> PictureGenerator:
        session = create_session(zoo.read(spec, "fp32"), spec.files["fp32"].path, self.provider)
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
        return self.networks[spec.name, spec.scale]

    def run(self, spec: ModelSpec, windows: Iterable[Pixels]) -> list[Pixels]:
        """LR windows of one shape, uint8 ``[h, w, 3]``, to HR windows, uint8 ``[h * s, w * s, 3]``, in order.

        What ONNX Runtime raises for a failed run is raised as it is; the scheduler makes it that request's error.
        """
        return list(self._infer(self.network(spec).session, np.stack(list(windows))))

    def _infer(self, session: ort.InferenceSession, batch: Pixels) -> Pixels:
        """uint8 ``[N, h, w, 3]`` to uint8 ``[N, h * scale, w * scale, 3]``."""
        image = batch.astype(np.float32)
        image /= np.iinfo(batch.dtype).max
        upscaled: Pixels = session.run(["upscaled"], {"image": image}, self._options)[0]
        return upscaled


@cache
def share_resources(threads: int) -> None:
    """One thread pool and one memory arena for all sessions.

    A pool each would oversubscribe the cores as soon as two models are in use; an arena each would keep every model's
    largest activations for ever (12 networks idle: 168 MB a process without sharing, 112 MB with). ONNX Runtime takes
    this once a process, before the first session.
    """
    ort.set_global_thread_pool_sizes(threads, 1)
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    exact = 1  # arena_extend_strategy kSameAsRequested: doubling would hold up to twice what a tile needs
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": exact}))


def choose_provider(asked: str) -> str:
    """ "cpu" or "cuda". ONNX Runtime falls back to CPU in silence, so the driver is looked for before it is asked."""
    if asked == "cpu":
        return "cpu"
    cuda = PROVIDERS["cuda"] in ort.get_available_providers() and _driver_present()
    if asked == "cuda" and not cuda:
        raise ProviderError(
            "ENLARGER_PROVIDER is cuda, but there is no NVIDIA driver or no CUDA build of ONNX Runtime."
        )
    return "cuda" if cuda else "cpu"


def choose_precision(asked: str, provider: str, spec: ModelSpec) -> str:
    """What is asked for, if the provider runs it and the model has such a file; else fp32, which every model has."""
    precision = PRECISIONS[provider][0] if asked == "auto" else asked
    return precision if precision in PRECISIONS[provider] and precision in spec.files else "fp32"


def _driver_present() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def create_session(data: bytes, path: str, provider: str) -> ort.InferenceSession:
    """A session that really has the provider asked for."""
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False  # a second copy of a tile's activations (46 of 100 MB for `fast`), for 0 to 4 %
    options.log_severity_level = 3
    wanted = PROVIDERS[provider]
    try:
        session = ort.InferenceSession(data, options, providers=[wanted])
    except Exception as error:
        raise ModelFileError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    actual = session.get_providers()[0]
    if actual != wanted:
        raise ProviderError(f"{path}: asked for {wanted}, got {actual}.")
    return session


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
