"""How much memory a run of a graph takes for each LR pixel, seen from outside: the peak of a process that runs it."""

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

SIDE = 160  # LR pixels: large enough to be seen beside what a process takes anyway, small enough for dear networks

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from app.inference.providers import create_session
from app.inference.pruning import with_one_output

def resident(name):  # getrusage's peak is the parent's own, where that was larger
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

session = create_session(with_one_output(Path(sys.argv[1]).read_bytes(), "upscaled"), "measured", "cpu", 1)
before = resident("VmRSS:")
side = int(sys.argv[2])
session.run(["upscaled"], {"image": np.zeros((1, side, side, 3), np.float32)})
print(resident("VmHWM:") - before)
"""


def measure_pixel_bytes(model: onnx.ModelProto) -> int:
    """Bytes a LR pixel of a graph behind the service's face, at least 1; ``ValueError`` where it cannot be run."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        command = [sys.executable, "-c", PROGRAM, file.name, str(SIDE)]
        root = Path(__file__).resolve().parents[2]
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["killed"])[-1]
        raise ValueError(f"a picture of {SIDE} x {SIDE} pixels cannot be computed with it: {last[:300]}")
    return max(1, int(ended.stdout) // SIDE**2)
