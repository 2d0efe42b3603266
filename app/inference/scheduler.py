"""The only queue: admission, and the threads that compute windows in turn.

Requests open a job, submit windows to it and wait on futures; the scheduler's threads take windows in the order of
``turns.py`` and call the engine. A GPU computes windows of the same network and shape from different jobs as one batch;
a CPU computes two batches of one window at a time, each with half of the cores. What is computed for background jobs
when a request comes is given up, and computed again later.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from app.errors import DeadlineError, EnlargerError, ShuttingDownError
from app.images.pixels import Pixels
from app.inference.admission import check_backlog, check_deadline
from app.inference.batching import LANES, Batcher, Outcome, Rates, RunBatch
from app.inference.job import Batch, Entry, Job, Load
from app.inference.stopping import Stop, Stopped, stopped_by
from app.inference.turns import PATIENCE, Turns
from app.inference.zoo import DEFAULT_STRENGTH, ModelSpec
from app.telemetry.record import StageClock
from app.threads import lower_priority, usable_cores

OnBatch = Callable[[str, int, int, float], None]
"""Called after each batch: the network's title, windows, LR pixels, seconds."""


def nobody(network: str, windows: int, pixels: int, seconds: float) -> None:
    """An ``OnBatch`` that does nothing."""


NO_DEADLINE = 365 * 24 * 3600.0  # seconds
HELD = 0.05  # seconds between two looks whether background jobs may be computed


class Scheduler:
    """Admits jobs while the accepted work is estimated under ``max_seconds``, and computes their windows in turn.

    ``seconds_per_pixel`` gives the first estimate for a network; after that it is measured, batch by batch.
    ``batch_macs`` is the most multiply-accumulates of one call of ``run_batch``; 0 makes batches of one.
    ``run_beside``, where there is one, does what ``run_batch`` does with its part of the cores, in ``LANES`` threads at
    a time. Then ``run_batch`` is called only if no other work is waiting, and a last window may wait for that: an image
    of twelve windows is done 2 % sooner. Only one heavy window is computed at a time, because it takes much memory too;
    it gets all cores unless another job has something to compute, and the other lane stays free for others meanwhile.
    """

    def __init__(
        self,
        run_batch: RunBatch,
        seconds_per_pixel: Callable[[ModelSpec], float],
        max_seconds: float,
        batch_macs: int = 0,
        on_batch: OnBatch = nobody,
        run_beside: RunBatch | None = None,
    ) -> None:
        self._lanes = LANES if run_beside else 1
        self._batcher, self._rates = Batcher(run_batch, batch_macs), Rates(seconds_per_pixel)
        self._beside = Batcher(run_beside) if run_beside else self._batcher
        self._max_seconds, self._on_batch = max_seconds, on_batch
        self._turns = Turns(self._seconds_left)
        self._running: list[Entry] = []  # the first window of each batch in the engine
        self._stops: list[Stop] = []  # of the batches in the engine that may be given up
        self._busy_until = 0.0  # by the estimate, on the clock of time.monotonic
        self._beside_engine, self._most_beside = 0, max(1, usable_cores() // 2)  # threads at work for background jobs
        self._changed = threading.Condition()
        self._closing = False  # no new jobs
        self._closed = False  # no more windows either
        self._threads = [threading.Thread(target=self._run, name="scheduler", daemon=True) for _ in range(self._lanes)]
        for thread in self._threads:
            thread.start()

    # -- called by requests ------------------------------------------------------------------------------------

    def estimate(self, spec: ModelSpec, pixels: int) -> float:
        """Seconds that computing so many LR pixels takes on the idle engine."""
        with self._changed:
            return self._rates.seconds(spec, pixels)

    def backlog(self) -> float:
        """Seconds the accepted work is estimated to take from now.

        A request whose reader is slow has nothing queued, so it keeps nobody waiting and is not counted.
        """
        with self._changed:
            active = self._turns.active(time.monotonic())
            return sum(self._seconds_left(job) for job in active if not job.background)

    def seconds_left(self, job: Job) -> float:
        """Estimated seconds of the whole machine for the windows of a job that are not computed yet."""
        with self._changed:
            return max(0.0, self._seconds_left(job))

    def _seconds_left(self, job: Job) -> float:
        return sum(self._rates.of(title) * pixels for title, pixels in job.left.items())

    def check_room(self) -> float:
        """The backlog in seconds. Raises ``OverloadedError`` or ``ShuttingDownError`` if a request would be refused."""
        with self._changed:
            self._check_open()
            backlog = self.backlog()
            check_backlog(backlog, self._max_seconds)
            return backlog

    def _check_open(self) -> None:
        if self._closing:
            raise ShuttingDownError("The service is shutting down.")

    def jobs(self) -> int:
        """How many requests are admitted and not done."""
        return len(self._turns.jobs)

    def open_background(self, load: Load, clock: StageClock | None = None, strength: float = DEFAULT_STRENGTH) -> Job:
        """Admits work that nobody waits for: without a deadline, and refused only while the service shuts down."""
        with self._changed:
            self._check_open()
            for spec, pixels in load:
                self.estimate(spec, pixels)  # so that what is left of it can be told at any time
            deadline = time.monotonic() + NO_DEADLINE
            return self._add(Job(self, load, deadline, clock or StageClock(), background=True, strength=strength))

    def open(
        self, load: Load, deadline: float, clock: StageClock | None = None, strength: float = DEFAULT_STRENGTH
    ) -> Job:
        """Admits a request, unless the queue is full or the request could not be done by its deadline."""
        with self._changed:
            own = sum(self.estimate(spec, pixels) for spec, pixels in load)
            check_deadline(own, self.check_room(), deadline - time.monotonic())
            for stop in self._stops:
                stop.set()
            return self._add(Job(self, load, deadline, clock or StageClock(), strength=strength))

    def _add(self, job: Job) -> Job:
        self._turns.jobs[job] = None
        return job

    def close(self) -> None:
        """Refuses new jobs, drops what is queued and ends the threads."""
        with self._changed:
            self._closing = self._closed = True
            for job in self._turns.jobs:
                self._drop(job)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def refuse_new(self) -> None:
        """From now on no job is admitted; those in flight go on."""
        with self._changed:
            self._closing = True

    # -- called by jobs ----------------------------------------------------------------------------------------

    def enqueue(self, entry: Entry) -> Future[Pixels]:
        job = entry.job
        with self._changed:
            if job.cancelled or self._closed:
                entry.future.cancel()
            else:
                if not job.started:
                    job.started, job.queued_at = True, time.perf_counter()
                self._turns.queue(entry, time.monotonic())
                self._changed.notify_all()
        return entry.future

    def skip(self, job: Job, spec: ModelSpec, pixels: int) -> None:
        with self._changed:
            job.left[spec.title] -= pixels

    @contextmanager
    def beside(self, job: Job) -> Iterator[None]:
        """For some milliseconds of work beside the engine. That of background jobs is done by half of the cores, and
        like their windows while no other job is active, or when its patience is over."""
        if not job.background:
            yield
            return
        end = time.monotonic() + PATIENCE
        with self._changed:
            while not job.cancelled and (self._beside_engine >= self._most_beside or self._has_to_wait(end)):
                self._changed.wait(HELD)
            self._beside_engine += 1
        try:
            yield
        finally:
            with self._changed:
                self._beside_engine -= 1
                self._changed.notify_all()

    def _has_to_wait(self, end: float) -> bool:
        return (now := time.monotonic()) < end and self._turns.in_foreground(now)

    def cancel(self, job: Job) -> None:
        with self._changed:
            self._drop(job)

    def leave(self, job: Job) -> None:
        with self._changed:
            self._drop(job)
            self._turns.jobs.pop(job, None)
            self._changed.notify_all()

    def _drop(self, job: Job) -> None:
        job.cancelled = True
        while job.waiting:
            job.waiting.popleft().future.cancel()

    # -- the threads -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        lower_priority()
        while batch := self._next_batch():
            batcher, share = (self._beside, 1 / self._lanes) if batch.beside else (self._batcher, 1)
            started = time.perf_counter()
            try:
                with stopped_by(batch.stop):
                    outcomes = batcher.compute(batch.spec, batch.windows)
            except Stopped:
                self._put_back(batch)
            else:
                self._finish(batch, outcomes, share * (time.perf_counter() - started))

    def _put_back(self, batch: Batch) -> None:
        """What was given up is computed again when its turn comes."""
        with self._changed:
            self._end(batch)
            self._busy_until = time.monotonic()
            self._turns.put_back(batch.entries)

    def _end(self, batch: Batch) -> None:
        self._running.remove(batch.entries[0])
        if batch.stop:
            self._stops.remove(batch.stop)
        self._changed.notify_all()

    def _finish(self, batch: Batch, outcomes: list[Outcome], seconds: float) -> None:
        """``seconds``: of the whole machine."""
        taken = batch.entries
        spec, pixels = taken[0].spec, sum(entry.pixels for entry in taken)
        self._on_batch(spec.title, len(taken), pixels, seconds)
        with self._changed:
            self._end(batch)
            for job in dict.fromkeys(entry.job for entry in taken):
                job.clock.add("compute", seconds)
                self._turns.served(job, time.monotonic())
            if not any(isinstance(outcome, EnlargerError) for outcome in outcomes):
                self._rates.learn(spec, pixels, seconds)
        for entry, outcome in zip(taken, outcomes, strict=True):
            if isinstance(outcome, EnlargerError):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)

    def _next_batch(self) -> Batch | None:
        """Waits for work and takes it; None once the scheduler is closed."""
        with self._changed:
            self._drop_expired()
            while (pause := self._pause()) != 0.0:
                if self._closed:
                    return None
                self._changed.wait(pause)
                self._drop_expired()
            now, eligible = time.monotonic(), self._eligible()
            first = self._turns.first(eligible, now)
            taken = self._turns.take(first, eligible, self._most)
            for job in dict.fromkeys(entry.job for entry in taken if not entry.job.computing):
                job.computing = True
                job.clock.add("queue", time.perf_counter() - job.queued_at)
            self._running.append(taken[0])
            beside = not self._is_alone(taken[0])
            seconds = (self._lanes if beside else 1) * sum(self._seconds(entry) for entry in taken)
            self._busy_until = max(self._busy_until, now + seconds)
            return Batch(taken, beside, self._stop_for(taken, now))

    def _stop_for(self, taken: list[Entry], now: float) -> Stop | None:
        """Nothing but background work is given up, and not if it has waited for too long already."""
        if not all(entry.job.background for entry in taken) or self._turns.was_overdue(now):
            return None
        self._stops.append(stop := Stop())
        return stop

    def _most(self, entry: Entry) -> int:
        return self._batcher.most(entry.spec, entry.pixels)

    def _eligible(self) -> list[Job]:
        return self._turns.eligible(self._is_heavy(), time.monotonic())

    def _is_heavy(self) -> bool:
        """Whether a heavy window is being computed."""
        return any(entry.is_heavy for entry in self._running)

    def _is_alone(self, entry: Entry) -> bool:
        """Whether nothing can be computed beside the window just taken, and nothing more is announced of its job."""
        job = entry.job
        if len(self._running) > 1 or any(other is not job for other in self._eligible()):
            return False
        return entry.is_heavy or (job.left.total() <= 0 and not job.waiting)

    def _pause(self) -> float | None:
        """Seconds to wait before a window is taken; None: until something changes.

        A last window is done sooner with all cores, once the other lane is ready, than beside it at half the speed: if
        that lane needs no longer than the window will. It may be late by a quarter of that, then it was misjudged.
        """
        eligible = self._eligible()
        if not eligible:
            return HELD if self._turns.ready(self._is_heavy()) else None
        first = eligible[0].waiting[0]
        announced = sum(job.left.total() for job in self._turns.active(time.monotonic()))
        if self._lanes == 1 or not self._running or announced > first.pixels:
            return 0.0
        alone, ready_in = self._seconds(first), self._busy_until - time.monotonic()
        return max(0.0, ready_in + alone / 4) if ready_in < alone else 0.0

    def _seconds(self, entry: Entry) -> float:
        return self._rates.seconds(entry.spec, entry.pixels)

    def _drop_expired(self) -> None:
        """Nothing is computed that is late already."""
        now = time.monotonic()
        for job in self._turns.jobs:
            while job.waiting and job.deadline < now:
                job.waiting.popleft().future.set_exception(DeadlineError("The image was not finished in time."))
