"""The Enlarger service: bytes of an image in, bytes of a larger image out, streamed."""

import os

# ONNX Runtime's wheels (from 1.29) report to their maker and keep an identifier on disk, unless told so before they are
# imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
