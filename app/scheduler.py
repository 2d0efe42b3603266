"""The only queue: which tile is computed next, for whom, and who is told to come back later.

One runner thread owns the engine. Requests open a job, submit windows to it and wait on futures; the runner takes one
window a job in turn, so that a small picture beside a huge one waits for a few tiles, not for the picture. Where the
engine gains by it, windows of the same network and shape from different jobs are computed as one batch.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import CancelledError, ComputeError, DeadlineError, EnlargerError, OverloadedError, ShuttingDownError
from app.zoo import ModelSpec

log = logging.getLogger("enlarger.scheduler")

Pixels = NDArray[np.uint8]
RunBatch = Callable[[ModelSpec, list[Pixels]], list[Pixels]]


class Job:
    """One request's share of the queue. Use as a context manager: leaving it cancels what was not computed.

    ``seconds`` is the estimate of its whole work; ``deadline`` is on the clock of ``time.monotonic``.
    """

    def __init__(self, scheduler: "Scheduler", spec: ModelSpec, pixels: int, deadline: float) -> None:
        self.spec, self.deadline = spec, deadline
        self.pixels_left = pixels
        self.cancelled = False
        self.waiting: deque[Entry] = deque()
        self._scheduler = scheduler

    def submit(self, window: Pixels) -> Future[Pixels]:
        """Queues one LR window, uint8 ``[h, w, 3]``; the future gives the HR window or the error that befell it."""
        return self._scheduler._enqueue(self, window)

    def result(self, future: Future[Pixels]) -> Pixels:
        """Waits for a window of this job, no longer than its deadline."""
        try:
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
    window: Pixels
    future: Future[Pixels]

    @property
    def pixels(self) -> int:
        height, width = self.window.shape[:2]
        return int(height * width)

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """Windows of one kind may share a batch."""
        return self.job.spec.title, self.window.shape


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
    ) -> None:
        self._run_batch, self._first_estimate = run_batch, seconds_per_pixel
        self._max_seconds, self._batch = max_seconds, batch
        self._rates: dict[tuple[str, int], float] = {}
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
        """Seconds the accepted work is estimated to take from now."""
        with self._changed:
            return sum(self.estimate(job.spec, job.pixels_left) for job in self._jobs)

    def open(self, spec: ModelSpec, pixels: int, deadline: float) -> Job:
        """Admits a request that will submit ``pixels`` LR pixels in all, or raises ``OverloadedError``."""
        with self._changed:
            if self._closing:
                raise ShuttingDownError("The service is shutting down.")
            backlog = self.backlog()
            if self._jobs and backlog > self._max_seconds:
                raise OverloadedError(
                    "More work is queued than can be done soon.",
                    retry_after=backlog - self._max_seconds,
                    limit=self._max_seconds,
                    actual=round(backlog, 1),
                )
            job = Job(self, spec, pixels, deadline)
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

    def _enqueue(self, job: Job, window: Pixels) -> Future[Pixels]:
        future: Future[Pixels] = Future()
        with self._changed:
            if job.cancelled or self._closed:
                future.cancel()
            else:
                job.waiting.append(Entry(job, window, future))
                self._changed.notify_all()
        return future

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
            spec = taken[0].job.spec
            started = time.perf_counter()
            try:
                results = self._compute(spec, [entry.window for entry in taken])
            except EnlargerError as error:
                self._fail(taken, error)
            else:
                pixels = sum(entry.pixels for entry in taken)
                self._learn(spec, (time.perf_counter() - started) / pixels)
                for entry, result in zip(taken, results, strict=True):
                    entry.future.set_result(result)

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
                entry.future.set_result(self._compute(entry.job.spec, [entry.window])[0])
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
                    job.pixels_left -= entry.pixels
                    taken.append(entry)
            for job in dict.fromkeys(entry.job for entry in taken):
                self._jobs.move_to_end(job)
            return taken

    def _rate(self, spec: ModelSpec) -> float:
        key = spec.name, spec.scale
        if key not in self._rates:
            self._rates[key] = self._first_estimate(spec)
        return self._rates[key]

    def _learn(self, spec: ModelSpec, seconds_per_pixel: float) -> None:
        """A slow average over the last twenty or so batches."""
        with self._changed:
            self._rates[spec.name, spec.scale] = 0.95 * self._rate(spec) + 0.05 * seconds_per_pixel
