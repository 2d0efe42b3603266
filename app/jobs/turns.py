"""Whose turn it is among the jobs that a replica has claimed: so many of each kind at a time, the oldest first."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from app.jobs.running import Running

LOOK_SECONDS = 0.2  # after which one who waits looks whether it was interrupted


class Turns:
    """``most``: how many of each kind have a turn at a time."""

    def __init__(self, most: Mapping[str, int]) -> None:
        self._most, self._free = most, dict(most)
        self._waiting: dict[str, Mapping[str, int]] = {}  # what each wants, by its id, which tells its age
        self._changed = threading.Condition()

    @contextmanager
    def take(self, running: Running, alone: Callable[[], bool]) -> Iterator[None]:
        """A turn of the job's kind, or all there are for one that is to be ``alone``: asked once it stands in line, so
        that none that came later passes it meanwhile."""
        wanted: Mapping[str, int] = {running.queue: 1}
        with self._changed:
            self._waiting[running.id] = wanted
        try:
            if alone():
                wanted = self._most
            with self._changed:
                self._waiting[running.id] = wanted
                while not self._may_begin(running.id):
                    running.check()
                    self._changed.wait(LOOK_SECONDS)
                self._add(wanted, -1)
        finally:
            with self._changed:
                del self._waiting[running.id]
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._add(wanted, 1)
                self._changed.notify_all()

    def _may_begin(self, job_id: str) -> bool:
        wanted = self._waiting[job_id]
        older = [other for each, other in self._waiting.items() if each < job_id]
        return all(self._free[kind] >= count for kind, count in wanted.items()) and not any(
            kind in other for other in older for kind in wanted
        )

    def _add(self, turns: Mapping[str, int], sign: int) -> None:
        for kind, count in turns.items():
            self._free[kind] += sign * count
