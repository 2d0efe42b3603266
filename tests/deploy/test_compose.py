"""docker-compose.yml and the Dockerfile: what they name is there. (Whether they work, `make image-test` shows.)"""

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from app.settings import variables
from harness import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_images_profiles_and_files_exist(compose: dict[str, Any]) -> None:
    assert "ARG RUNTIME=cpu" in DOCKERFILE
    for name, runtime in (("cpu", "cpu"), ("gpu", "cuda")):
        assert compose["services"][name]["build"] == {"context": ".", "args": {"RUNTIME": runtime}}
        assert compose["services"][name]["image"] == f"enlarger:{runtime}"
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), volume
    profiles = {profile for service in compose["services"].values() for profile in service.get("profiles", [])}
    assert profiles == {"cpu", "gpu"}
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text().splitlines()


def test_replicas_are_read_only_and_have_time_to_drain(compose: dict[str, Any]) -> None:
    for name in ("cpu", "gpu"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["volumes"] == ["/tmp"]
        assert set(service["environment"]) <= set(variables())
        drain = [float(service["environment"][f"ENLARGER_DRAIN_{part}"]) for part in ("DELAY_SECONDS", "SECONDS")]
        assert float(service["stop_grace_period"].removesuffix("s")) > sum(drain)


def test_variables_of_the_image_are_settings() -> None:
    assert set(re.findall(r"\b(ENLARGER_[A-Z_]+)=", DOCKERFILE)) <= set(variables())


def test_what_the_image_copies_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists(), path
        assert any(path == line[1:] or path.startswith(f"{line[1:]}/") for line in ignored if line[:1] == "!"), path


def test_the_images_prometheus_and_nginx_are_pinned(compose: dict[str, Any]) -> None:
    for name in ("nginx", "prometheus"):
        assert re.search(r":v?\d+\.\d+", compose["services"][name]["image"]), name


@pytest.mark.parametrize(
    ("target", "wanted", "unwanted"),
    [
        ("cpu", "onnxruntime>", "onnxruntime-gpu"),
        ("cpu", "onnxruntime>", "openvino"),
        ("openvino", "onnxruntime>", "onnxruntime-gpu"),
        ("openvino", "openvino>", "onnxruntime-gpu"),
        ("cuda", "onnxruntime-gpu[cuda,cudnn]", "onnxruntime>"),
        ("cuda", "onnxruntime-gpu[cuda,cudnn]", "openvino"),
    ],
)
def test_each_image_gets_its_runtime_and_every_other_dependency(target: str, wanted: str, unwanted: str) -> None:
    script = ROOT / "deploy" / "docker" / "requirements.py"
    run = subprocess.run([sys.executable, script, target], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert sum(line.startswith(wanted) for line in lines) == 1
    assert not any(line.startswith(unwanted) for line in lines)
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {line for line in dependencies if not line.startswith("onnxruntime")} <= set(lines)
