"""A worker that crashes is replaced; a picture that crashed it twice is refused."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.supervisor import Supervisor, listen
from harness import MODELS, ROOT
from harness.pictures import encode
from harness.supervised import PATIENCE, Supervised

# The service, but for one colour, at which its engine takes the process down as a driver would.
CRASHING = """
import os, signal, sys
from app.cli import main
from app.inference.engine import Engine

def crashing(run):
    def watched(engine, spec, windows, strengths):
        if tuple(windows[0][-1, -1].tolist()) == (6, 6, 6):
            os.kill(os.getpid(), signal.SIGSEGV)
        return run(engine, spec, windows, strengths)

    return watched

Engine.run, Engine.run_beside = crashing(Engine.run), crashing(Engine.run_beside)
sys.exit(main(["serve", *sys.argv[1:]]))
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path / "log", sys.executable, "-c", CRASHING, networks=("bicubic",))
    running.wait_for("ready: ")
    yield running
    running.process.terminate()
    running.process.wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def good(photo: np.ndarray) -> bytes:
    return encode(photo[:40, :60])


@pytest.fixture(scope="module")
def bad() -> bytes:
    return encode(np.full((30, 40, 3), 6, np.uint8))


def test_a_killed_worker_is_replaced_and_connections_wait_for_it(supervised: Supervised, good: bytes) -> None:
    assert supervised.post(good).status_code == 200
    first = supervised.worker()
    os.kill(first, signal.SIGKILL)
    assert supervised.post(good).status_code == 200  # sent while there is no worker: it waits in the socket's backlog
    assert supervised.worker() != first
    assert "enlarger_worker_restarts 1.0" in httpx.get(f"{supervised.url}/metrics", timeout=PATIENCE).text


def test_a_picture_that_crashes_it_twice_is_refused(supervised: Supervised, good: bytes, bad: bytes) -> None:
    for crashes in (1, 2):
        with pytest.raises(httpx.TransportError):
            supervised.post(bad)
        supervised.wait_for("ready: ", times=crashes + 1)
    refused = supervised.post(bad)
    assert (refused.status_code, refused.json()["code"]) == (422, "crashed_before")
    assert supervised.post(good).status_code == 200
    assert supervised.log().count("starting another") == 2


def test_sigterm_ends_both(supervised: Supervised) -> None:
    worker = supervised.worker()
    supervised.process.terminate()
    assert supervised.process.wait(timeout=PATIENCE) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{supervised.url}/readyz")


def test_a_killed_supervisor_leaves_no_orphan(supervised: Supervised) -> None:
    worker = supervised.worker()
    supervised.process.kill()
    end = time.monotonic() + PATIENCE
    with suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.kill(worker, 0)
            time.sleep(0.05)
        pytest.fail("the worker goes on alone")


def test_a_start_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "app.cli", "serve", "--supervise", "--port", "0"]
        environment = {**os.environ, "ENLARGER_MODELS": str(tmp_path)}
        run = subprocess.run(command, cwd=ROOT, env=environment, stderr=log, timeout=PATIENCE)
        log.seek(0)
        assert run.returncode == 2
        assert "manifest.json: no such file" in log.read()


def test_the_supervisor_is_light() -> None:
    code = "import sys, app.supervisor; print(sorted({'numpy', 'onnxruntime', 'fastapi'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=MODELS.parent, capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n"


# A worker without a service: says what it is told to and ends as it is told to, once for each line of the script.
SCRIPTED = """
import json, os, signal, sys
told = json.loads(sys.argv[-1])
steps = json.loads(open(sys.argv[1]).read())
with open(sys.argv[2], "a") as seen:
    seen.write(json.dumps(told["refused"]) + "\\n")
lines, end = steps[told["restarts"]]
for line in lines:
    os.write(told["pipe"], (line + "\\n").encode())
if end < 0:
    os.kill(os.getpid(), -end)
sys.exit(end)
"""


def lives(tmp_path: Path, steps: list[tuple[list[str], int]], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each worker was told to refuse, where the last one ends the supervisor."""
    script, seen = tmp_path / "steps.json", tmp_path / "seen"
    script.write_text(json.dumps(steps))
    monkeypatch.setattr("app.supervisor.time.sleep", lambda seconds: None)
    previous = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with listen("127.0.0.1", 0) as listener:
        supervisor = Supervisor([sys.executable, "-c", SCRIPTED, str(script), str(seen)], listener)
        original = supervisor._run_worker

        def last_one_stops() -> tuple[int, bool, list[str]]:
            last = supervisor._restarts == len(steps) - 1
            outcome = original()
            supervisor._stopping = last
            return outcome

        monkeypatch.setattr(supervisor, "_run_worker", last_one_stops)
        supervisor.run()
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), previous, strict=True):
        signal.signal(number, handler)
    return [json.loads(line) for line in seen.read_text().splitlines()]


def test_only_what_was_in_flight_at_two_crashes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = ["ready", "begin 1 aa", "begin 2 bb", "end 1", "begin 3 cc"], -int(signal.SIGSEGV)
    calm = ["ready", "begin 1 bb"], 0
    again = ["ready", "begin 1 bb", "begin 2 bb"], -int(signal.SIGSEGV)
    nothing: tuple[list[str], int] = (["ready"], 0)
    assert lives(tmp_path, [crash, calm, again, nothing], monkeypatch) == [[], [], [], ["bb"]]
