"""What only Linux has is not needed: the real command and the real service without it, as on macOS or FreeBSD."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.supervisor import die_with_parent
from app.threads import lower_priority, usable_cores
from harness import ROOT
from harness.fakes import noise
from harness.pictures import decoded, encode
from harness.server import BICUBIC, quick_server

WITHOUT_LINUX = """
import builtins, ctypes, io, os, runpy, sys
gone = "posix_fallocate posix_fadvise preadv preadv2 pwritev sched_getaffinity sched_setaffinity memfd_create eventfd"
for name in [*gone.split(), "splice", "getrandom", "copy_file_range", "pidfd_open", "pipe2", "setns", "unshare"]:
    if hasattr(os, name):
        delattr(os, name)

def absent(opened):
    def checked(path, *arguments, **options):
        if str(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return opened(path, *arguments, **options)
    return checked

builtins.open, io.open, os.open = absent(builtins.open), absent(io.open), absent(os.open)

class Library(ctypes.CDLL):  # of a system without these calls
    def __getattr__(self, name):
        if name in ("prctl", "mallopt", "malloc_trim", "sched_setaffinity"):
            raise AttributeError(name)
        return super().__getattr__(name)

ctypes.CDLL = Library
sys.argv[:] = ["enlarger", *sys.argv[1:]]
runpy.run_module("app.cli", run_name="__main__", alter_sys=False)
"""


def test_the_command_does_without(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    large = noise(700, 800, 3)  # over a mebibyte, so that it is held in a file
    (tmp_path / "in" / "large.png").write_bytes(encode(large))
    (tmp_path / "in" / "small.jpg").write_bytes(encode(noise(8, 9, 3), "JPEG"))
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", "bicubic", "--scale", "2"]
    command = [sys.executable, "-c", WITHOUT_LINUX, *arguments, "--keep-times"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert decoded((tmp_path / "out" / "large.png").read_bytes()).shape == (1400, 1600, 3)
    assert sorted(os.listdir(tmp_path / "out")) == ["large.png", "small.jpg"]


def test_the_service_does_without() -> None:
    with quick_server(("-c", WITHOUT_LINUX, "serve", "--port", "0")) as server, server.client() as client:
        answer = client.post("/upscale", content=encode(noise(700, 800, 3)), params=BICUBIC)
        assert answer.status_code == 200, answer.text
        assert decoded(answer.content).shape == (2800, 3200, 3)
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("call", [die_with_parent, lower_priority])
def test_no_call_of_linux_is_made_elsewhere(call: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise AssertionError("there is no such call here")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(os, "nice", missing)
    call()


def test_cores_are_counted_without_affinity_and_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self: (_ for _ in ()).throw(FileNotFoundError(str(self))))
    assert usable_cores() == os.cpu_count()
