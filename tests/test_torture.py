"""The short form of `make torture`: the promises with small counts, against real servers and a real nginx."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.torture.__main__ import short
from benchmarks.torture.result import Result
from benchmarks.torture.servers import quick_server
from tests.balancer import NGINX
from tests.conftest import BICUBIC, decoded, encode

MEASURES = [
    pytest.param(measure, id=f"{promise} {measure.func.__name__}")
    for promise, measures in short().items()
    for measure in measures
]


@pytest.mark.skipif(NGINX is None, reason="there is no nginx here; .ci/run installs it")
@pytest.mark.parametrize("measure", MEASURES)
def test_a_promise_is_kept(measure: Callable[[], Result]) -> None:
    result = measure()
    assert result.kept, f"{result.figure}\n{result.details}"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A disk of a megabyte, gone with the mount namespace of the process that is given it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip(f"cannot mount here: {mount.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_nobody_a_picture(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny_disk / "all of it").write_bytes(bytes(900_000))
    monkeypatch.setenv("TMPDIR", str(tiny_disk))
    pixels = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (8, 2000, 3))  # 12 MB: more than is held in memory
    with quick_server() as server:
        answer = httpx.post(
            f"{server.url}/upscale", content=encode(pixels), params={**BICUBIC, "scale": "2"}, timeout=120
        )
        assert answer.status_code == 200, answer.text
        assert decoded(answer.content).shape == (4096, 4000, 3)
        assert "the temporary directory fails: No space left on device" in server.log()
        assert os.listdir(tiny_disk) == ["all of it"]


def test_the_program_ends_with_the_truth() -> None:
    command = [sys.executable, "-m", "benchmarks.torture", "--short", "9"]
    run = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith(" 9 kept ")
