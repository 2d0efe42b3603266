"""The short form of `make torture`: the promises with small counts, against real servers and a real nginx."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.torture import __main__ as torture
from benchmarks.torture.result import Result
from harness.balancer import NGINX
from harness.pictures import decoded, encode
from harness.server import BICUBIC, quick_server

MEASURES = [
    pytest.param(measure, id=f"{promise} {measure.func.__name__}")
    for promise, measures in torture.short().items()
    for measure in measures
]


@pytest.mark.skipif(NGINX is None, reason="there is no nginx here; .ci/run installs it")
@pytest.mark.parametrize("measure", MEASURES)
def test_a_promise_is_kept(measure: Callable[[], Result]) -> None:
    result = measure()
    assert result.kept, f"{result.figure}\n{result.details}"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
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
        assert "the temporary directory failed: No space left on device" in server.log()
        assert os.listdir(tiny_disk) == ["all of it"]


@pytest.mark.parametrize(("kept", "word", "status"), [(True, "kept", 0), (False, "BROKEN", 1)])
def test_the_program_ends_with_the_truth(
    kept: bool, word: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results = [Result(3, "one", "1 of 1", True), Result(7, "other", "2 of 3", kept, {"seen": 2})]
    monkeypatch.setattr(torture, "short", lambda: {r.promise: [lambda r=r: r] for r in results})
    file = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["torture", "--short", "--json", str(file)])
    with pytest.raises(SystemExit) as ended:
        torture.main()
    assert ended.value.code == status
    told = capsys.readouterr().out
    assert " 3 kept   one" in told
    assert f" 7 {word.ljust(6)} other" in told
    assert [each["details"] for each in json.loads(file.read_text())["results"]] == [{}, {"seen": 2}]
