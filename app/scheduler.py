"""The only queue: which tile is computed next, for whom, and who is told to come back later.

One runner thread owns the engine. Requests open a job, submit windows to it and wait on futures; the runner takes one
window a job in turn, so that a small picture beside a huge one waits for a few tiles, not for the picture. Where the
engine gains by it, windows of the same network and shape from different jobs are computed as one batch.
"""

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import CancelledError, ComputeError, DeadlineError, EnlargerError, OverloadedError, ShuttingDownError
from app.record import WAIT, StageClock
from app.zoo import ModelSpec

log = logging.getLogger("enlarger.scheduler")

Pixels = NDArray[np.uint8]
RunBatch = Callable[[ModelSpec, list[Pixels]], list[Pixels]]
Load = Sequence[tuple[ModelSpec, int]]
"""What a request will submit: LR pixels, a network."""
OnBatch = Callable[[str, int, int, float], None]
"""Told of each batch: the network's title, windows, LR pixels, seconds."""


def nobody(network: str, windows: int, pixels: int, seconds: float) -> None:
    """An ``OnBatch`` who does not listen."""


class Job:
    """One request's share of the queue. Use as a context manager: leaving it cancels what was not computed.

    ``left`` is what it has still to compute, LR pixels by the network's title; ``deadline`` is on the clock of
    ``time.monotonic``; ``clock`` keeps the time its stages take.
    """

    def __init__(self, scheduler: "Scheduler", load: Load, deadline: float, clock: StageClock) -> None:
        self.deadline, self.clock = deadline, clock
        self.opened = time.perf_counter()
        self.left: Counter[str] = Counter()
        for spec, pixels in load:
            self.left[spec.title] += pixels
        self.started = self.computing = self.cancelled = False
        self.waiting: deque[Entry] = deque()
        self._scheduler = scheduler

    def submit(self, spec: ModelSpec, window: Pixels) -> Future[Pixels]:
        """Queues one LR window, uint8 ``[h, w, 3]``; the future gives the HR window or the error that befell it."""
        return self._scheduler._enqueue(Entry(self, spec, window, Future()))

    def result(self, future: Future[Pixels]) -> Pixels:
        """Waits for a window of this job, no longer than its deadline."""
        try:
            with self.clock.stage(WAIT):
                return future.result(timeout=max(0.0, self.deadline - time.monotonic()))
        except FutureCancelledError as error:
            raise CancelledError("The request was cancelled.") from error
        except TimeoutError as error:
            raise DeadlineError("The picture was not finished in time.") from error

    def cancel(self) -> None:
        """Drops everything not yet computed, from any thread; waiting for a result then raises ``CancelledError``."""
        self._scheduler._cancel(self)

    def close(self) -> None:
        """Cancels what is left and leaves the scheduler; may be called again."""
        self._scheduler._close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
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
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """Windows of one kind may share a batch."""
        return self.spec.title, self.window.shape


class Scheduler:
    """Admits jobs while the accepted work is estimated under ``max_seconds``, and runs their windows in turn.

    ``seconds_per_pixel`` gives the first estimate for a network; after that it is measured, tile by tile.
    ``batch`` is the most windows in one call of ``run_batch``; 1 on CPU, where batches gain nothing.
    """

    def __init__(
        self,
        run_batch: RunBatch,
        seconds_per_pixel: Callable[[ModelSpec], float],
        max_seconds: float,
        batch: int = 1,
        on_batch: OnBatch = nobody,
    ) -> None:
        self._run_batch, self._first_estimate, self._on_batch = run_batch, seconds_per_pixel, on_batch
        self._max_seconds, self._batch = max_seconds, batch
        self._rates: dict[str, float] = {}  # seconds a pixel, by the network's title
        self._jobs: OrderedDict[Job, None] = OrderedDict()  # in turn: the front one is served next
        self._changed = threading.Condition()
        self._closing = False  # no new jobs
        self._closed = False  # no more windows either
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    # -- called by requests ------------------------------------------------------------------------------------

    def estimate(self, spec: ModelSpec, pixels: int) -> float:
        """Seconds that computing so many LR pixels takes on the idle engine."""
        return pixels * self._rate(spec)

    def backlog(self) -> float:
        """Seconds the accepted work is estimated to take from now.

        A request whose reader is slow has nothing queued, so it keeps nobody waiting and is not counted.
        """
        with self._changed:
            busy = [job for job in self._jobs if job.waiting or not job.started]
            return sum(self._rates[title] * pixels for job in busy for title, pixels in job.left.items())

    def check_room(self) -> float:
        """The backlog in seconds, or ``OverloadedError`` (``ShuttingDownError``) if a request now had to be refused."""
        with self._changed:
            if self._closing:
                raise ShuttingDownError("The service is shutting down.")
            backlog = self.backlog()
            if backlog > self._max_seconds:
                raise OverloadedError(
                    "More work is queued than can be done soon.",
                    retry_after=backlog - self._max_seconds,
                    limit=self._max_seconds,
                    actual=round(backlog, 1),
                )
            return backlog

    def jobs(self) -> int:
        """How many requests are admitted and not done."""
        return len(self._jobs)

    def open(self, load: Load, deadline: float, clock: StageClock | None = None) -> Job:
        """Admits a request, unless the queue is full or the request could not be done by its deadline."""
        with self._changed:
            own = sum(self.estimate(spec, pixels) for spec, pixels in load)
            done_in, allowed = self.check_room() + own, deadline - time.monotonic()
            if own > allowed:
                raise DeadlineError("The picture is too much work.", limit=round(allowed, 1), actual=round(own, 1))
            if done_in > allowed:
                raise OverloadedError(
                    "The picture would not be finished in time.",
                    retry_after=done_in - allowed,
                    limit=round(allowed, 1),
                    actual=round(done_in, 1),
                )
            job = Job(self, load, deadline, clock or StageClock())
            self._jobs[job] = None
            return job

    def close(self) -> None:
        """Refuses new jobs, drops what is queued and ends the runner."""
        with self._changed:
            self._closing = self._closed = True
            for job in self._jobs:
                self._drop(job)
            self._changed.notify_all()
        self._thread.join()

    def refuse_new(self) -> None:
        """From now on no job is admitted; those in flight go on."""
        with self._changed:
            self._closing = True

    # -- called by jobs ----------------------------------------------------------------------------------------

    def _enqueue(self, entry: Entry) -> Future[Pixels]:
        with self._changed:
            if entry.job.cancelled or self._closed:
                entry.future.cancel()
            else:
                entry.job.started = True
                entry.job.waiting.append(entry)
                self._changed.notify_all()
        return entry.future

    def _cancel(self, job: Job) -> None:
        with self._changed:
            self._drop(job)

    def _close(self, job: Job) -> None:
        with self._changed:
            self._drop(job)
            self._jobs.pop(job, None)
            self._changed.notify_all()

    def _drop(self, job: Job) -> None:
        job.cancelled = True
        while job.waiting:
            job.waiting.popleft().future.cancel()

    # -- the runner --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (taken := self._next_batch()) is not None:
            spec = taken[0].spec
            started = time.perf_counter()
            for job in dict.fromkeys(entry.job for entry in taken if not entry.job.computing):
                job.computing = True
                job.clock.add("queue", started - job.opened)
            try:
                results = self._compute(spec, [entry.window for entry in taken])
            except EnlargerError as error:
                self._fail(taken, error)
            else:
                self._account(spec, taken, time.perf_counter() - started)
                for entry, result in zip(taken, results, strict=True):
                    entry.future.set_result(result)

    def _account(self, spec: ModelSpec, taken: "list[Entry]", seconds: float) -> None:
        pixels = sum(entry.pixels for entry in taken)
        self._learn(spec, seconds / pixels)
        self._on_batch(spec.title, len(taken), pixels, seconds)
        for job in dict.fromkeys(entry.job for entry in taken):
            job.clock.add("compute", seconds)

    def _compute(self, spec: ModelSpec, windows: list[Pixels]) -> list[Pixels]:
        try:
            results = self._run_batch(spec, windows)
            if len(results) != len(windows):
                raise ValueError(f"{len(results)} results for {len(windows)} windows")
            return results
        except EnlargerError:
            raise
        except Exception as error:
            log.exception("a batch of %s failed", spec.title)
            raise ComputeError(f"The network {spec.title} failed on this picture.") from error

    def _fail(self, taken: "list[Entry]", error: EnlargerError) -> None:
        """One bad window fails its own request: the others of its batch are computed again, alone."""
        if len(taken) == 1:
            taken[0].future.set_exception(error)
            return
        for entry in taken:
            try:
                entry.future.set_result(self._compute(entry.spec, [entry.window])[0])
            except EnlargerError as own:
                entry.future.set_exception(own)

    def _next_batch(self) -> "list[Entry] | None":
        """Waits for work and takes it, the job at the front first; None when the scheduler is closed."""
        with self._changed:
            while not any(job.waiting for job in self._jobs):
                if self._closed:
                    return None
                self._changed.wait()
            first = next(job for job in self._jobs if job.waiting)
            kind = first.waiting[0].kind
            taken: list[Entry] = []
            for job in [first, *(job for job in self._jobs if job is not first)]:
                while job.waiting and len(taken) < self._batch and job.waiting[0].kind == kind:
                    entry = job.waiting.popleft()
                    job.left[entry.spec.title] -= entry.pixels
                    taken.append(entry)
            for job in dict.fromkeys(entry.job for entry in taken):
                self._jobs.move_to_end(job)
            return taken

    def _rate(self, spec: ModelSpec) -> float:
        if spec.title not in self._rates:
            self._rates[spec.title] = self._first_estimate(spec)
        return self._rates[spec.title]

    def _learn(self, spec: ModelSpec, seconds_per_pixel: float) -> None:
        """A slow average over the last twenty or so batches."""
        with self._changed:
            self._rates[spec.title] = 0.95 * self._rate(spec) + 0.05 * seconds_per_pixel
