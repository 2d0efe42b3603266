"""Runs that write into our own memory: on a GPU through reused page-locked host buffers, on a CPU directly."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PORTABLE = 1  # cudaHostRegisterPortable: locked for every CUDA context
Buffer = NDArray[np.uint8]


class HostBuffer:
    """A buffer that grows to the largest request and stays there; page-locked if ``lock`` and CUDA allow it."""

    def __init__(self, lock: bool) -> None:
        self._lock, self._locked, self._bytes = lock, False, np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The beginning of the buffer as an array, with whatever was written there last."""
        size = int(np.prod(shape)) * dtype.itemsize
        if size > self._bytes.nbytes:
            self.release()
            self._bytes = np.empty(size, np.uint8)
            self._locked = self._lock and page_lock(self._bytes)
        return self._bytes[:size].view(dtype).reshape(shape)

    def release(self) -> None:
        if self._locked:
            runtime = cuda_runtime()
            assert runtime  # the runtime that has locked them
            runtime.cudaHostUnregister(ctypes.c_void_p(self._bytes.ctypes.data))
        self._locked, self._bytes = False, np.empty(0, np.uint8)


def page_lock(array: Buffer) -> bool:
    """Page-locks the memory for the GPU driver, so that copies run by DMA: two to four times as fast.

    ``cudaHostRegister`` of the CUDA Runtime API; False if it is missing or refuses, which costs only speed.
    """
    runtime = cuda_runtime()
    if not runtime:
        return False
    address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
    return bool(runtime.cudaHostRegister(address, size, PORTABLE) == 0)


@cache
def cuda_runtime() -> ctypes.CDLL | None:
    """The CUDA runtime that ONNX Runtime has loaded into this process, if any; never another one."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in mapped.splitlines() if "libcudart.so" in line}
    return ctypes.CDLL(min(paths)) if paths else None


def enlarged(shape: tuple[int, ...], scale: int) -> tuple[int, ...]:
    """The shape of a batch's result: ``[N, h, w, C]`` to ``[N, h * scale, w * scale, C]``."""
    count, height, width, channels = shape
    return count, height * scale, width * scale, channels


def run_into(
    upscaled: NDArray[np.unsignedinteger],
    session: Any,
    output: str,
    image: NDArray[np.float32],
    options: Any,
    strength: NDArray[np.float32] | None = None,
) -> None:
    """Lets a session write its ``output`` for ``image`` directly into place: nothing is copied, and windows that
    wait for their reader take nothing from ONNX Runtime's arena, which never shrinks.

    Raises what ONNX Runtime raises, also if ``upscaled`` has another shape than the output.
    """
    binding = session.io_binding()
    binding.bind_cpu_input("image", image)
    if strength is not None:
        binding.bind_cpu_input("strength", strength)
    binding.bind_output(output, "cpu", 0, upscaled.dtype.type, upscaled.shape, upscaled.ctypes.data)
    session.run_with_iobinding(binding, options)


class BoundSession:
    """Runs a session through its own host buffers, for providers with memory of their own.

    ``session`` is an ONNX Runtime session with the one face; one thread at a time.
    """

    def __init__(self, session: Any, scale: int) -> None:
        self._session, self._scale = session, scale
        self._image, self._upscaled = HostBuffer(lock=True), HostBuffer(lock=True)

    def run(
        self,
        output: str,
        batch: NDArray[np.unsignedinteger],
        options: Any,
        strength: NDArray[np.float32] | None = None,
    ) -> NDArray[np.unsignedinteger]:
        """LR ``[N, h, w, 3]`` to HR ``[N, h * scale, w * scale, 3]`` of the same dtype, in newly allocated memory."""
        image = self._image.array(batch.shape, np.dtype(np.float32))
        np.divide(batch, np.iinfo(batch.dtype).max, out=image, dtype=np.float32)
        upscaled = self._upscaled.array(enlarged(batch.shape, self._scale), batch.dtype)
        run_into(upscaled, self._session, output, image, options, strength)
        return upscaled.copy()

    def release(self) -> None:
        self._image.release()
        self._upscaled.release()
