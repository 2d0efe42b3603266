"""Cores lent to others: a run stands still once a pause is asked for, and goes on by itself."""

import threading
from pathlib import Path

import pytest

from training import pause as lending
from training.pause import Cores, pause, requested, resume


@pytest.fixture
def run(tmp_path: Path) -> "Run":
    return Run(tmp_path)


class Run:
    """A loop of steps in a thread."""

    def __init__(self, runs: Path) -> None:
        self.steps, self.ended = 0, False
        self._cores, self._step = Cores(runs), threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while not self.ended:
            self._cores.wait()
            self.steps += 1
            self._step.set()
        self._cores.close()

    def next_step(self) -> None:
        self._step.clear()
        assert self._step.wait(30)

    def end(self) -> None:
        self.ended = True
        self._thread.join()


def test_a_pause_begins_when_the_step_is_over_and_ends_on_request(run: Run, tmp_path: Path) -> None:
    run.next_step()
    pause(tmp_path, minutes=5)
    steps = run.steps
    assert requested(tmp_path)
    assert run.steps == steps  # pause() returned only once nothing computed
    resume(tmp_path)
    run.next_step()
    run.end()


def test_a_pause_that_nobody_ends_ends_by_itself(run: Run, tmp_path: Path) -> None:
    pause(tmp_path, minutes=0.01)
    run.next_step()
    assert not requested(tmp_path)
    run.end()


@pytest.mark.parametrize("content", ["", "soon", "0"])
def test_a_file_that_tells_no_time_to_come_is_no_pause(content: str, tmp_path: Path) -> None:
    (tmp_path / "pause").write_text(content)
    assert not requested(tmp_path)


def test_resume_without_a_pause_does_nothing(tmp_path: Path) -> None:
    resume(tmp_path)
    assert not requested(tmp_path)
    assert lending.LONGEST > 0
