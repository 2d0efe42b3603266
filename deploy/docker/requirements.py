"""What an image installs, a requirement a line: ``python requirements.py cpu|openvino|cuda``.

The project itself asks for ONNX Runtime's GPU wheel on Linux, which runs on CPUs too but is ten times the size.
"""

import sys
import tomllib
from pathlib import Path


def requirements(project: dict, target: str) -> list[str]:
    """``project``: the table of that name. ``target``: "cpu", "openvino" or "cuda"."""
    extras = project["optional-dependencies"]
    common = [line for line in project["dependencies"] if not line.startswith("onnxruntime")]
    (plain,) = (line for line in project["dependencies"] if line.startswith("onnxruntime>"))
    cpu = [plain.split(";")[0]]
    runtime = {"cpu": cpu, "openvino": [*cpu, *extras["openvino"]], "cuda": extras["cuda"]}[target]
    return [*common, *extras["codes"], *extras["otel"], *extras["jobs"], *runtime]


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join(requirements(project, sys.argv[1])))
