"""Execution providers: which are available, their options, and sessions that really run on the requested one."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException

from app.errors import ModelFileError, ProviderError
from app.threads import lower_priority

RUNTIME_VERSION: str = ort.__version__
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
NEEDS = {
    "cuda": "there is no NVIDIA driver or no CUDA build of ONNX Runtime",
    "tensorrt": "there is no NVIDIA driver, no TensorRT build of ONNX Runtime or no TensorRT",
}
TENSORRT = "libnvinfer.so.10"  # installed separately; ONNX Runtime lists the provider even without it
# What a run raises besides the caller's errors; a run into bound memory raises a plain RuntimeError for all of them.
RUN_ERRORS = (Fail, EPFail, RuntimeException, RuntimeError, MemoryError)

ARENA_BYTES = 64 * 2**20  # its first region


@dataclass(frozen=True)
class GpuOptions:
    """``memory_bytes``: the most that each network may hold on the GPU, 0 for no limit."""

    memory_bytes: int = 0


@cache
def share_arena() -> None:
    """One memory arena for all sessions. ONNX Runtime accepts it once per process, before the first session.

    With an arena each, every model would keep its largest activations forever (12 networks idle: 168 MB per process
    without sharing, 112 MB with). It grows by large regions, whose untouched pages cost nothing and which tensors of
    every size share. With regions as large as each tensor that did not fit, networks and tiles in turn took 274 MB
    instead of 169.
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    doubling = 0  # arena_extend_strategy kNextPowerOfTwo
    settings = {"arena_extend_strategy": doubling, "initial_chunk_size_bytes": ARENA_BYTES}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(settings))


def choose_provider(asked: str) -> str:
    """ "cpu", "cuda" or "tensorrt". "auto" takes CUDA if it is available, and never TensorRT, which builds engines
    for minutes.

    ONNX Runtime silently falls back to the CPU, so the libraries are checked before it is asked.
    """
    if asked == "cpu":
        return "cpu"
    wanted = "cuda" if asked == "auto" else asked
    there = PROVIDERS[wanted] in ort.get_available_providers() and library_present("libcuda.so.1")
    if wanted == "tensorrt":
        there = there and library_present(TENSORRT)
    if asked != "auto" and not there:
        raise ProviderError(f"ENLARGER_PROVIDER is {asked}, but {NEEDS[asked]}.")
    return wanted if there else "cpu"


def library_present(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def provider_options(provider: str, precision: str, gpu: GpuOptions) -> list[tuple[str, dict[str, str]]]:
    """The providers of a session, the preferred one first, as ONNX Runtime takes them.

    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
    """
    cuda = {
        "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE would time every algorithm again for every window shape
        "arena_extend_strategy": "kSameAsRequested",
    }
    tensorrt = {"trt_fp16_enable": str(int(precision == "fp16"))}  # nothing of a float32 file may become float16
    if gpu.memory_bytes:
        cuda["gpu_mem_limit"] = str(gpu.memory_bytes)
        tensorrt["trt_max_workspace_size"] = str(gpu.memory_bytes)
    chain: dict[str, list[tuple[str, dict[str, str]]]] = {
        "cpu": [(PROVIDERS["cpu"], {})],
        "cuda": [(PROVIDERS["cuda"], cuda)],
        "tensorrt": [(PROVIDERS["tensorrt"], tensorrt), (PROVIDERS["cuda"], cuda)],
    }
    return chain[provider]


def create_session(
    data: bytes, path: str, provider: str, threads: int, precision: str = "fp32", gpu: GpuOptions | None = None
) -> ort.InferenceSession:
    """A session that really has the requested provider, with ``threads`` threads, including the one that runs it."""
    share_arena()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # spinning threads would keep others from the cores
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = (
        False  # it costs a second copy of a tile's activations (46 of 100 MB for `fast`) and gains 0 to 4 %
    )
    options.log_severity_level = 3
    chosen = provider_options(provider, precision, gpu or GpuOptions())
    wanted = PROVIDERS[provider]
    try:
        with ThreadPoolExecutor(
            1, initializer=lower_priority
        ) as maker:  # the session's threads inherit the priority of the thread that makes it
            session = maker.submit(ort.InferenceSession, data, options, providers=chosen).result()
    except Exception as error:
        raise ModelFileError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    actual = session.get_providers()[0]
    if actual != wanted:
        raise ProviderError(f"{path}: asked for {wanted}, got {actual}.")
    return session


def is_out_of_memory(error: Exception) -> bool:
    """ONNX Runtime has no error type for it, only the messages of allocators, CUDA, cuBLAS and cuDNN."""
    told = str(error).lower()
    words = ("failed to allocate memory", "out of memory", "alloc_failed", "bad_alloc")
    return isinstance(error, MemoryError) or any(word in told for word in words)
