"""One request's share of the queue: what it hands in, what it waits for, how it leaves."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol, Self
from weakref import WeakSet

from app.errors import CancelledError, DeadlineError
from app.images.pixels import Pixels
from app.inference.batching import Window
from app.inference.stopping import Stop
from app.inference.zoo import DEFAULT_STRENGTH, ModelSpec
from app.telemetry.record import WAIT, StageClock

HEAVY_WINDOW = 100_000_000_000  # multiply-accumulates; windows of more take seconds, and one is computed at a time

Load = Sequence[tuple[ModelSpec, int]]
"""What a request will submit: LR pixels, a network."""


class JobQueue(Protocol):
    """What a job asks of the scheduler, from any thread."""

    def enqueue(self, entry: "Entry") -> Future[Pixels]: ...

    def skip(self, job: "Job", spec: ModelSpec, pixels: int) -> None: ...

    def beside(self, job: "Job") -> AbstractContextManager[None]: ...

    def cancel(self, job: "Job") -> None: ...

    def leave(self, job: "Job") -> None: ...


class Job:
    """One request's share of the queue. Use as a context manager: leaving it cancels what was not computed.

    ``left`` is what it has still to compute, LR pixels by the network's title; ``deadline`` is on the clock of
    ``time.monotonic``; ``clock`` keeps the time its stages take; ``strength`` is given to networks that have one.
    """

    def __init__(
        self,
        queue: JobQueue,
        load: Load,
        deadline: float,
        clock: StageClock,
        background: bool = False,
        strength: float = DEFAULT_STRENGTH,
    ) -> None:
        self.deadline, self.clock, self.strength = deadline, clock, strength
        self.background = background  # computed in the time that the others leave
        self.queued_at = 0.0  # when its first window was, on the clock of time.perf_counter
        self.active_at = time.monotonic()  # when a window of it was last queued or given back
        self.cost = 0  # multiply-accumulates computed for it, on the scheduler's clock of such costs
        self.left: Counter[str] = Counter()
        for spec, pixels in load:
            self.left[spec.title] += pixels
        self.started = self.computing = self.cancelled = False
        self.waiting: deque[Entry] = deque()
        self._queue = queue
        self._ahead: WeakSet[Ahead] = WeakSet()  # what is fetched or given up leaves by itself

    def submit(self, spec: ModelSpec, window: Pixels) -> Future[Pixels]:
        """Queues one LR window, uint8 or uint16 ``[h, w, 3]``; the future gives the HR window of the same depth or the
        error that befell it."""
        return self._queue.enqueue(Entry(self, spec, window, Future()))

    def skip(self, spec: ModelSpec, pixels: int) -> None:
        """Takes back so many LR pixels of what was announced: they need no network after all."""
        self._queue.skip(self, spec, pixels)

    def exchange(self, old: Load, new: Load) -> None:
        """Announces other work in place of what was announced, before anything is submitted."""
        for spec, pixels in new:
            self._queue.skip(self, spec, -pixels)
        for spec, pixels in old:
            self._queue.skip(self, spec, pixels)

    def result(self, future: Future[Pixels]) -> Pixels:
        """Waits for a window of this job, no longer than its deadline."""
        try:
            with self.clock.stage(WAIT):
                return future.result(timeout=max(0.0, self.deadline - time.monotonic()))
        except FutureCancelledError as error:
            raise CancelledError("The request was cancelled.") from error
        except TimeoutError as error:
            raise DeadlineError("The image was not finished in time.") from error

    def ahead(self, spec: ModelSpec, pixels: int, submit: Callable[[], Callable[[], Pixels]]) -> "Ahead":
        """Queues a window of so many LR pixels by ``submit``, which gives the call that waits for its result."""
        ahead = Ahead(partial(self.skip, spec, -pixels), submit)
        self._ahead.add(ahead)
        return ahead

    def beside(self) -> AbstractContextManager[None]:
        """For some milliseconds of work beside the engine: a background job waits while others are active."""
        return self._queue.beside(self)

    def let_go(self) -> None:
        """Forgets the results that nobody has waited for yet; they are computed again once somebody does.

        For a job whose reader has stopped: not while one of its results is waited for.
        """
        for ahead in self._ahead:
            ahead.let_go()

    def cancel(self) -> None:
        """Drops everything not yet computed, from any thread; waiting for a result then raises ``CancelledError``."""
        self._queue.cancel(self)

    def close(self) -> None:
        """Cancels what is left and leaves the scheduler; may be called again."""
        self._queue.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Ahead:
    """A window queued before its result is waited for, and queued again if the result was let go since."""

    def __init__(self, announce: Callable[[], None], submit: Callable[[], Callable[[], Pixels]]) -> None:
        self._announce, self._submit = announce, submit
        self._result: Callable[[], Pixels] | None = submit()

    def result(self) -> Pixels:
        """Waits for the HR window."""
        if self._result is None:
            self._announce()
            self._result = self._submit()
        return self._result()

    def let_go(self) -> None:
        self._result = None


@dataclass(frozen=True, eq=False)
class Entry:
    """One window in the queue."""

    job: Job
    spec: ModelSpec
    window: Pixels
    future: Future[Pixels]

    @property
    def pixels(self) -> int:
        height, width = self.window.shape[:2]
        return int(height * width)

    @property
    def macs(self) -> int:
        """Multiply-accumulates; at least one per pixel."""
        return self.pixels * max(1, self.spec.macs)

    @property
    def is_heavy(self) -> bool:
        return self.macs > HEAVY_WINDOW

    @property
    def kind(self) -> tuple[str, str, tuple[int, ...]]:
        """Windows of one kind may share a batch: one network, one depth, one shape, whatever their strengths."""
        return self.spec.title, self.window.dtype.name, self.window.shape


@dataclass(frozen=True)
class Batch:
    """Windows taken from the queue to be computed by one call; ``beside`` others, or with the machine for itself.

    ``stop``: by which it is given up when a request comes, if it is all background's.
    """

    entries: list[Entry]
    beside: bool
    stop: Stop | None = None

    @property
    def spec(self) -> ModelSpec:
        return self.entries[0].spec

    @property
    def windows(self) -> list[Window]:
        return [Window(entry.window, entry.job.strength) for entry in self.entries]
