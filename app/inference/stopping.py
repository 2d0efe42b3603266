"""A run of the engine that may be given up in its middle, when somebody comes for whom it is to make room."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(Exception):  # noqa: N818  # no error: it is what was wanted
    """The run was given up. Nothing came of it, and it may be begun again."""


class Stop:
    """Set by any thread, once."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._way: Callable[[], None] | None = None

    def set(self) -> None:
        with self._lock:
            self.is_set = True
            if self._way:
                self._way()

    @contextmanager
    def by(self, way: Callable[[], None]) -> Iterator[None]:
        """What is to be called when it is set within this context, or was already."""
        with self._lock:
            if self.is_set:
                raise Stopped
            self._way = way
        try:
            yield
        finally:
            with self._lock:
                self._way = None


_calling = threading.local()


@contextmanager
def stopped_by(stop: Stop | None) -> Iterator[None]:
    """What this thread runs meanwhile is given up when ``stop`` is set."""
    _calling.stop = stop
    try:
        yield
    finally:
        _calling.stop = None


def current_stop() -> Stop | None:
    """That of the run for which a runtime is called just now, by the thread that calls it."""
    stop: Stop | None = getattr(_calling, "stop", None)
    return stop


@contextmanager
def giving_up(way: Callable[[], None], errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """A call of a runtime that ``way`` ends from another thread, upon which it raises one of its ``errors``."""
    stop = current_stop()
    if stop is None:
        yield
        return
    try:
        with stop.by(way):
            yield
    except errors as error:
        if stop.is_set:
            raise Stopped from error
        raise
