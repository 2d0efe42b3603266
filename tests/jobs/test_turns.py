"""Turns: the oldest first, whoever of those that wait is the quickest."""

import threading
import time
from collections.abc import Callable

import pytest

from app.jobs.running import Interrupted, Running
from app.jobs.turns import Turns


class Line:
    """Jobs named by their age, each in a thread of its own; who begins stays until it is let go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.began: list[str] = []
        self._ends: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}

    def come(self, job_id: str, queue: str = "small", alone: bool = False) -> None:
        """Returns once the job stands in line, or works."""
        asked = threading.Event()
        running, end = Running(job_id, queue), threading.Event()
        self._ends[job_id] = end

        def told() -> bool:
            asked.set()
            return alone

        def work() -> None:
            with self.turns.take(running, told):
                self.began.append(job_id)
                end.wait()

        self._threads[job_id] = threading.Thread(target=work)
        self._threads[job_id].start()
        asked.wait()

    def go(self, *job_ids: str) -> None:
        for job_id in job_ids:
            self._ends[job_id].set()
            self._threads[job_id].join()

    def wait(self, until: Callable[[], bool]) -> None:
        while not until():
            time.sleep(0.01)


def test_those_that_wait_have_their_turn_by_age() -> None:
    line = Line(Turns({"small": 1}))
    line.come("0")
    for job_id in ("3", "1", "2"):
        line.come(job_id)
    for at, job_id in enumerate(("0", "1", "2", "3")):
        line.wait(lambda at=at: len(line.began) > at)  # type: ignore[misc]
        assert line.began[-1] == job_id
        line.go(job_id)


def test_one_that_is_to_be_alone_waits_for_all_and_all_that_are_younger_wait_for_it() -> None:
    line = Line(Turns({"small": 2, "large": 1}))
    line.come("0")
    line.come("1", "large")
    line.wait(lambda: len(line.began) == 2)
    line.come("2", alone=True)
    line.come("3")
    line.come("4", "large")
    line.go("0", "1")
    line.wait(lambda: line.began[2:] == ["2"])
    line.go("2", "3", "4")
    assert sorted(line.began[3:]) == ["3", "4"]


def test_one_that_is_interrupted_leaves_the_line_and_those_behind_it_go_on() -> None:
    line = Line(Turns({"small": 1}))
    line.come("0")
    running = Running("1", "small")
    running.interrupt()
    with pytest.raises(Interrupted), line.turns.take(running, lambda: False):
        raise AssertionError
    line.come("2")
    line.go("0")
    line.wait(lambda: line.began == ["0", "2"])
    line.go("2")
