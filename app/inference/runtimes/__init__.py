"""What computes networks, one file a runtime: ONNX Runtime, and OpenVINO where it is installed."""

import sys

from app.errors import ProviderError
from app.inference.providers import GpuOptions, choose_provider
from app.inference.runtimes.base import Runtime
from app.inference.runtimes.onnx_runtime import OnnxRuntime

OPENVINO = "openvino"
NOT_INSTALLED = "ENLARGER_PROVIDER is openvino, but it is not installed: pip install enlarger[openvino]."

# `import openvino` imports this and reports itself to its makers. With None there the import fails, and `openvino` goes
# on with a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def choose_runtimes(asked: str, gpu: GpuOptions) -> tuple[OnnxRuntime, Runtime | None]:
    """ONNX Runtime and, where it is asked for or "auto" finds it and no GPU, OpenVINO beside it.

    ``ProviderError`` where what is asked for is missing.
    """
    onnx = OnnxRuntime("cpu" if asked == OPENVINO else choose_provider(asked), gpu)
    further = openvino_runtime() if asked == OPENVINO or (asked == "auto" and not onnx.on_gpu) else None
    if asked == OPENVINO and further is None:
        raise ProviderError(NOT_INSTALLED)
    return onnx, further


def openvino_runtime() -> Runtime | None:
    """None where OpenVINO is not installed."""
    try:
        from app.inference.runtimes.openvino import OpenVinoRuntime
    except ModuleNotFoundError as error:
        if error.name != OPENVINO:
            raise
        return None
    return OpenVinoRuntime()
