"""Offline: trains the networks, judges them on the served path and exports them to ``models/``."""

import os

# As in app/__init__.py: ONNX Runtime is not to report to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
