"""What tests and benchmarks share: real servers, a real nginx, picture files made byte by byte, engines to watch."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
