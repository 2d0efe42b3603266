"""What keeps the service from starting: each thing is told in one line, and the port is never opened."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings, variables
from harness import MODELS, ROOT
from harness.startup import FILE, MANIFEST, SPOILED, refused_start


def assert_one_line(outcome: tuple[int, str], *parts: str) -> None:
    status, output = outcome
    assert status == 2, output
    assert output.count("\n") == 1, output
    assert output.startswith("enlarger: ")
    for part in parts:
        assert part in output


# -- model files -------------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A copy of the model folder that may be spoiled."""
    return Path(shutil.copytree(MODELS, tmp_path / "models"))


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_model_folder_stops_the_start(models: Path, kind: str) -> None:
    spoil, parts = SPOILED[kind]
    spoil(models)
    assert_one_line(refused_start(models=str(models)), *parts)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not JSON"),
        ('{"version": 1', "not JSON"),
        ("[]", "malformed"),
        ('{"version": 99, "default": "a", "models": []}', "version 99"),
        ('{"version": 1, "models": []}', "malformed: 'default'"),
        ('{"version": 1, "default": "a", "models": []}', "default model 'a'"),
        ('{"version": 1, "default": "a", "models": [{"name": "a", "scale": 2, "files": {}}]}', "malformed"),
    ],
    ids=["empty", "truncated", "list", "version", "no default", "no such default", "half an entry"],
)
def test_a_malformed_manifest_stops_the_start(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    assert_one_line(refused_start(models=str(tmp_path)), MANIFEST, part)


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "abc"),
        ("port", "65536"),
        ("provider", "tpu"),
        ("max_pixels", "0"),
        ("tile_pixels", "8"),
        ("send_seconds", "-1"),
        ("body_seconds", "soon"),
    ],
)
def test_a_wrong_setting_stops_the_start(name: str, value: str) -> None:
    assert_one_line(refused_start(**{name: value}), f"ENLARGER_{name.upper()}: ")


@pytest.mark.parametrize("keys", ['[""]', '["good", " "]', '["\\t"]', '["cut', "[1]", "", "good,"])
def test_a_blank_key_stops_the_start(keys: str) -> None:
    assert_one_line(refused_start(api_keys=keys), "ENLARGER_API_KEYS: ")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("max_pixel", "MAX_PIXELS"), ("api_key", "API_KEYS"), ("treads", "THREADS"), ("study_orginal", "STUDY_ORIGINAL")],
)
def test_a_misspelt_setting_stops_the_start(name: str, meant: str) -> None:
    assert_one_line(refused_start(**{name: "5"}), f"ENLARGER_{name.upper()} is not a setting", f"ENLARGER_{meant}?")


def test_a_setting_that_is_like_none_stops_the_start() -> None:
    assert_one_line(refused_start(colour="blue"), "ENLARGER_COLOUR is not a setting.")
    status, output = refused_start(max_side="0", tracin="1")
    assert (status, "ENLARGER_MAX_SIDE: " in output) == (2, True)


@pytest.mark.parametrize(
    "injected", ["ENLARGER_SERVICE_HOST", "ENLARGER_PORT_80_TCP", "ENLARGER_SERVICE_PORT_HTTP", "ENLARGER_REMOTE_KEY"]
)
def test_what_is_meant_for_others_is_no_misspelt_setting(monkeypatch: pytest.MonkeyPatch, injected: str) -> None:
    monkeypatch.setenv(injected, "10.0.0.1")
    monkeypatch.setenv("Enlarger_Max_Side", "77")
    assert Settings().advanced.max_side == 77


def test_settings_are_nested_and_their_variables_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "STUDY": "faces",
        "STUDY_SCALE": "2",
        "JOBS": "kept",
        "JOBS_HOSTS": "a.example,b.example",
        "TILE_PIXELS": "8192",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"ENLARGER_{name}", value)
    settings = Settings()
    assert (settings.study.folder, settings.study.scale) == (Path("faces"), 2)
    assert (settings.jobs.location, settings.jobs.hosts) == ("kept", ("a.example", "b.example"))
    assert settings.advanced.tile_pixels == 8192
    assert Settings(study={"scale": 3}).study == settings.study.model_copy(update={"scale": 3})


def test_every_setting_is_documented() -> None:
    documented = re.findall(r"`(ENLARGER_\w+)`", (ROOT / "docs/settings.md").read_text())
    assert sorted(documented) == sorted(variables())


def test_a_gpu_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # on a machine that has one
    status, output = refused_start(provider="cuda")
    lines = [line for line in output.splitlines() if "onnxruntime" not in line]  # it may add its own where there is one
    assert_one_line((status, "\n".join([*lines, ""])), "cuda")


def test_a_port_in_use_stops_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(taken.getsockname()[1])]
        run = subprocess.run(command, cwd=MODELS.parent, capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert run.stderr.count("address already in use") == 1
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("package", ["app.inference.engine", "training.export.face"])
def test_onnx_runtime_reports_to_nobody_and_leaves_nothing_on_disk(package: str, tmp_path: Path) -> None:
    """Its telemetry (from 1.29 on) begins with an identifier in the temporary directory."""
    code = f"import {package}, onnxruntime; onnxruntime.InferenceSession('models/{FILE}')"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    folders = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=MODELS.parent, env={**environment, **folders}, check=True, timeout=120)
    assert list(tmp_path.rglob("*")) == []
