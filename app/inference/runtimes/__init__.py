"""The runtimes that compute networks, one file each: ONNX Runtime, and OpenVINO if it is installed."""

import sys

from app.errors import ProviderError
from app.inference.providers import GpuOptions, choose_provider
from app.inference.runtimes.base import Runtime
from app.inference.runtimes.onnx_runtime import OnnxRuntime

OPENVINO = "openvino"
NOT_INSTALLED = "ENLARGER_PROVIDER is openvino, but it is not installed: pip install enlarger[openvino]."

# `import openvino` imports this and reports its use to Intel. With None in its place the import fails, and `openvino`
# continues with a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def choose_runtimes(asked: str, gpu: GpuOptions) -> tuple[OnnxRuntime, Runtime | None]:
    """ONNX Runtime and, if it is requested, or "auto" finds it and no GPU, OpenVINO besides.

    Raises ``ProviderError`` if what is requested is missing.
    """
    onnx = OnnxRuntime("cpu" if asked == OPENVINO else choose_provider(asked), gpu)
    further = openvino_runtime() if asked == OPENVINO or (asked == "auto" and not onnx.on_gpu) else None
    if asked == OPENVINO and further is None:
        raise ProviderError(NOT_INSTALLED)
    return onnx, further


def openvino_runtime() -> Runtime | None:
    """None if OpenVINO is not installed."""
    try:
        from app.inference.runtimes.openvino import OpenVinoRuntime
    except ModuleNotFoundError as error:
        if error.name != OPENVINO:
            raise
        return None
    return OpenVinoRuntime()
