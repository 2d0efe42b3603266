"""The Enlarger service: the bytes of an image in, the bytes of a larger image out, streamed."""

import os

# From 1.29 on, ONNX Runtime's wheels send telemetry to Microsoft and keep an identifier on disk, unless this is set
# before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
