"""Host buffers that a GPU copies from and to by itself: kept from run to run, and page-locked where CUDA is."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PORTABLE = 1  # cudaHostRegisterPortable: locked for every CUDA context
Buffer = NDArray[np.uint8]


class HostBuffer:
    """Bytes that grow to the largest request and stay there, page-locked if ``lock`` and CUDA allow it."""

    def __init__(self, lock: bool) -> None:
        self._lock, self._locked, self._bytes = lock, False, np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The buffer's beginning as an array, with whatever was last written there."""
        size = int(np.prod(shape)) * dtype.itemsize
        if size > self._bytes.nbytes:
            self.release()
            self._bytes = np.empty(size, np.uint8)
            self._locked = self._lock and page_lock(self._bytes)
        return self._bytes[:size].view(dtype).reshape(shape)

    def release(self) -> None:
        if self._locked:
            runtime = cuda_runtime()
            assert runtime  # it has locked them
            runtime.cudaHostUnregister(ctypes.c_void_p(self._bytes.ctypes.data))
        self._locked, self._bytes = False, np.empty(0, np.uint8)


def page_lock(array: Buffer) -> bool:
    """Has the GPU's driver keep these pages in place, so that copies run by DMA: two to four times as fast.

    ``cudaHostRegister`` of the CUDA Runtime API; False where it is missing or refuses, which costs nothing but speed.
    """
    runtime = cuda_runtime()
    if not runtime:
        return False
    address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
    return bool(runtime.cudaHostRegister(address, size, PORTABLE) == 0)


@cache
def cuda_runtime() -> ctypes.CDLL | None:
    """The CUDA runtime that ONNX Runtime has loaded into this process, if any: no other one."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in mapped.splitlines() if "libcudart.so" in line}
    return ctypes.CDLL(min(paths)) if paths else None


class BoundSession:
    """Runs a session from and into its own host buffers, for providers whose memory is not the host's.

    ``session`` is an ONNX Runtime session with the one face; one thread at a time.
    """

    def __init__(self, session: Any, scale: int) -> None:
        self._session, self._scale = session, scale
        self._image, self._upscaled = HostBuffer(lock=True), HostBuffer(lock=True)

    def run(self, output: str, batch: NDArray[np.unsignedinteger], options: Any) -> NDArray[np.unsignedinteger]:
        """LR ``[N, h, w, 3]`` to HR ``[N, h * scale, w * scale, 3]`` of the same dtype, in memory of its own."""
        count, height, width, channels = batch.shape
        image = self._image.array(batch.shape, np.dtype(np.float32))
        np.divide(batch, np.iinfo(batch.dtype).max, out=image, dtype=np.float32)
        shape = (count, height * self._scale, width * self._scale, channels)
        upscaled = self._upscaled.array(shape, batch.dtype)
        binding = self._session.io_binding()
        binding.bind_cpu_input("image", image)
        binding.bind_output(output, "cpu", 0, batch.dtype.type, shape, upscaled.ctypes.data)
        self._session.run_with_iobinding(binding, options)
        return upscaled.copy()

    def release(self) -> None:
        self._image.release()
        self._upscaled.release()
