"""A job while this replica works on it: how far it is, and the way to stop it."""

import threading
import time
from collections.abc import Callable


class Interrupted(BaseException):
    """The job was canceled, has another owner or is handed back: whoever works on it stops, and writes no outcome.

    No ``Exception``, because nothing failed: the engine would keep it as the outcome.
    """


class Running:
    """One run of a job. ``interrupt`` may be called by any thread, the rest by the one that works."""

    def __init__(self, job_id: str, queue: str) -> None:
        self.id, self.queue = job_id, queue
        self.began = self.interrupted = False
        self._stops: list[Callable[[], None]] = []
        self._measure: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)
        self._lock = threading.Lock()

    def follow(self, measure: Callable[[], tuple[float, float]], stop: Callable[[], None]) -> None:
        """``measure`` gives the share that is done and the seconds left; ``stop`` ends the work, from any thread."""
        with self._lock:
            self._measure = measure
            self._stops.append(stop)
        if self.interrupted:
            stop()

    def progress(self) -> tuple[float, float]:
        return self._measure()

    def interrupt(self) -> None:
        with self._lock:
            self.interrupted = True
            stops = list(self._stops)
        for stop in stops:
            stop()

    def check(self) -> None:
        if self.interrupted:
            raise Interrupted(self.id)

    def sleep(self, seconds: float) -> None:
        """Waits, and ends at once when interrupted."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.2))
