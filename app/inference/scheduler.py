"""The only queue: which tile is computed next, for whom, and who is told to come back later.

Runner threads own the engine. Requests open a job, submit windows to it and wait on futures; a runner takes the next
window of the job that has cost least (start-time fair queueing, Goyal et al. 1996), so that a small picture beside a
huge one waits for a tile or two of it, however many small ones it is cut into itself. Only where turns would make an
accepted picture miss its deadline, the nearest deadline is served first. A GPU computes windows of the same network and
shape from different jobs as one batch, a CPU two batches of one window beside one another, each with half of the cores.

Background jobs are computed while no other is: they count in no admission, and of them one window is taken in
``PATIENCE`` seconds at least, so that they end even where the others never do.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future

from app.errors import (
    DeadlineError,
    EnlargerError,
    OverloadedError,
    ShuttingDownError,
    TooMuchWorkError,
)
from app.images.pixels import Pixels
from app.inference.batching import LANES, Batcher, Outcome, Rates, RunBatch
from app.inference.job import Batch, Entry, Job, Load
from app.inference.zoo import ModelSpec
from app.telemetry.record import StageClock
from app.threads import give_way

OnBatch = Callable[[str, int, int, float], None]
"""Told of each batch: the network's title, windows, LR pixels, seconds."""


def nobody(network: str, windows: int, pixels: int, seconds: float) -> None:
    """An ``OnBatch`` who does not listen."""


NO_DEADLINE = 365 * 24 * 3600.0  # seconds
HELD = 0.05  # seconds after which it is looked again whether background jobs may be computed
HASTE = 1.25  # a job's deadline is in danger when so many times the estimate would miss it
DEAR_WINDOW = 100_000_000_000  # multiply-accumulates; windows of more take seconds, and one is computed at a time
PATIENCE = 10.0  # seconds after which a window of a background job is computed, whoever else waits
SILENCE = 1.0  # seconds without a window queued or computed, after which a job is waiting for its reader


class Scheduler:
    """Admits jobs while the accepted work is estimated under ``max_seconds``, and runs their windows in turn.

    ``seconds_per_pixel`` gives the first estimate for a network; after that it is measured, batch by batch.
    ``batch_macs`` is the most multiply-accumulates (LR pixels x the network's) of one call of ``run_batch``; 0 makes
    batches of one. ``run_beside``, where there is one, does what ``run_batch`` does with its part of the cores, in
    ``LANES`` threads at a time; ``run_batch`` is then called only for what nothing was waiting beside, and a last
    window may wait for that: a picture of twelve windows is done 2 % sooner. Of windows over ``DEAR_WINDOW``, which
    take much memory, too, one is computed at a time, with all cores unless another job has something to compute; the
    other lane stays free for others meanwhile.
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
        self._computing, self._busy_until = 0, 0.0  # batches; by the estimate, on the clock of time.monotonic
        self._batcher, self._rates = Batcher(run_batch, batch_macs), Rates(seconds_per_pixel)
        self._beside = Batcher(run_beside) if run_beside else self._batcher
        self._max_seconds, self._on_batch = max_seconds, on_batch
        self._jobs: OrderedDict[Job, None] = OrderedDict()  # in turn: the front one waits the longest
        self._dear = False  # whether a dear window is being computed
        self._cost = 0  # what the job served last had cost before that: who comes, or comes back, begins there
        self._changed = threading.Condition()
        self._background_at = time.monotonic()  # when a window of a background job was last taken
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
            return sum(self._seconds_left(job) for job in self._busy() if not job.background)

    def _busy(self) -> list[Job]:
        """The jobs that do not wait for their reader."""
        now = time.monotonic()
        return [job for job in self._jobs if job.waiting or not job.started or now < job.active_at + SILENCE]

    def seconds_left(self, job: Job) -> float:
        """Estimated seconds of the whole machine for what is not computed yet of a job."""
        with self._changed:
            return max(0.0, self._seconds_left(job))

    def _seconds_left(self, job: Job) -> float:
        return sum(self._rates.of(title) * pixels for title, pixels in job.left.items())

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

    def open_background(self, load: Load, clock: StageClock | None = None) -> Job:
        """Admits work that nobody waits for: without a deadline, and only refused while the service shuts down."""
        with self._changed:
            if self._closing:
                raise ShuttingDownError("The service is shutting down.")
            for spec, pixels in load:
                self.estimate(spec, pixels)  # so that what is left of it can be told at any time
            job = Job(self, load, time.monotonic() + NO_DEADLINE, clock or StageClock(), background=True)
            self._jobs[job] = None
            return job

    def open(self, load: Load, deadline: float, clock: StageClock | None = None) -> Job:
        """Admits a request, unless the queue is full or the request could not be done by its deadline."""
        with self._changed:
            own = sum(self.estimate(spec, pixels) for spec, pixels in load)
            done_in, allowed = self.check_room() + own, deadline - time.monotonic()
            if own > allowed:
                raise TooMuchWorkError(
                    "The image is too much work for one request.", limit=round(allowed, 1), actual=round(own, 1)
                )
            if done_in > allowed:
                raise OverloadedError(
                    "The image would not be finished in time.",
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
        for thread in self._threads:
            thread.join()

    def refuse_new(self) -> None:
        """From now on no job is admitted; those in flight go on."""
        with self._changed:
            self._closing = True

    # -- called by jobs ----------------------------------------------------------------------------------------

    def enqueue(self, entry: Entry) -> Future[Pixels]:
        with self._changed:
            if entry.job.cancelled or self._closed:
                entry.future.cancel()
            else:
                if not entry.job.started:
                    entry.job.started, entry.job.queued_at = True, time.perf_counter()
                entry.job.active_at = time.monotonic()
                if not entry.job.waiting:  # what it left unused while it had nothing to compute is no credit
                    entry.job.cost = max(entry.job.cost, self._cost)
                if entry.job.background and not any(job.waiting for job in self._jobs if job.background):
                    self._background_at = time.monotonic()  # patience begins with waiting
                entry.job.waiting.append(entry)
                self._changed.notify_all()
        return entry.future

    def skip(self, job: Job, spec: ModelSpec, pixels: int) -> None:
        with self._changed:
            job.left[spec.title] -= pixels

    def cancel(self, job: Job) -> None:
        with self._changed:
            self._drop(job)

    def leave(self, job: Job) -> None:
        with self._changed:
            self._drop(job)
            self._jobs.pop(job, None)
            self._changed.notify_all()

    def _drop(self, job: Job) -> None:
        job.cancelled = True
        while job.waiting:
            job.waiting.popleft().future.cancel()

    # -- the runners -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        give_way()
        while taken := self._next_batch():
            batcher, share = (self._beside, 1 / self._lanes) if taken.beside else (self._batcher, 1)
            started = time.perf_counter()
            outcomes = batcher.compute(taken.spec, [entry.window for entry in taken.entries])
            self._finish(taken.entries, outcomes, share * (time.perf_counter() - started))

    def _finish(self, taken: list[Entry], outcomes: list[Outcome], seconds: float) -> None:
        """``seconds``: of the whole machine."""
        spec, pixels = taken[0].spec, sum(entry.pixels for entry in taken)
        self._on_batch(spec.title, len(taken), pixels, seconds)
        with self._changed:
            self._computing -= 1
            self._dear = self._dear and not is_dear(taken[0])
            self._changed.notify_all()
            for job in dict.fromkeys(entry.job for entry in taken):
                job.clock.add("compute", seconds)
            if not any(isinstance(outcome, EnlargerError) for outcome in outcomes):
                self._rates.learn(spec, pixels, seconds)
            for entry in taken:
                entry.job.active_at = time.monotonic()
        for entry, outcome in zip(taken, outcomes, strict=True):
            if isinstance(outcome, EnlargerError):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)

    def _next_batch(self) -> Batch | None:
        """Waits for work and takes it, from the job whose turn it is first; nothing when the scheduler is closed."""
        with self._changed:
            self._drop_expired()
            while (pause := self._pause()) != 0.0:
                if self._closed:
                    return None
                self._changed.wait(pause)
                self._drop_expired()
            first = self._first()
            self._cost = max(self._cost, first.cost)
            taken = self._take(first)
            for entry in taken:
                self._count(entry)
            self._computing += 1
            self._dear = self._dear or is_dear(taken[0])
            beside = not self._is_alone(first, taken[0])
            seconds = (self._lanes if beside else 1) * sum(self._seconds(entry) for entry in taken)
            self._busy_until = max(self._busy_until, time.monotonic() + seconds)
            return Batch(taken, beside)

    def _take(self, first: Job) -> list[Entry]:
        """The next window of a job, and as many of its kind, of all jobs in turn, as may be computed with it."""
        taken = [first.waiting.popleft()]
        turns = deque([*(job for job in self._eligible() if job is not first), first])
        room = self._batcher.most(taken[0].spec, taken[0].pixels)
        while len(taken) < room and turns:
            job = turns.popleft()
            if job.waiting and job.waiting[0].kind == taken[0].kind:
                taken.append(job.waiting.popleft())
                turns.append(job)
        while len(taken) & (len(taken) - 1):  # few shapes: batches of 1, 2, 4, 8...
            entry = taken.pop()
            entry.job.waiting.appendleft(entry)
        return taken

    def _count(self, entry: Entry) -> None:
        """To its job, what a window costs that is computed now."""
        job = entry.job
        job.left[entry.spec.title] -= entry.pixels
        job.cost += entry.pixels * max(1, entry.spec.macs)
        self._jobs.move_to_end(job)
        if job.background:
            self._background_at = time.monotonic()
        if not job.computing:
            job.computing = True
            job.clock.add("queue", time.perf_counter() - job.queued_at)

    def _is_alone(self, job: Job, entry: Entry) -> bool:
        """Whether there is nothing to compute beside the window just taken of a job, nor is more of it announced that
        could be."""
        others = any(other is not job for other in self._eligible())
        if is_dear(entry):
            return self._computing == 1 and not others
        return self._computing == 1 and job.left.total() <= 0 and not others and not job.waiting

    def _ready(self) -> list[Job]:
        """The jobs whose next window the machine has room for, in turn."""
        return [job for job in self._jobs if job.waiting and not (self._dear and is_dear(job.waiting[0]))]

    def _eligible(self) -> list[Job]:
        """The jobs of which a window may be taken now, in turn: those in the background while no other is at work."""
        waiting = self._ready()
        ahead = [job for job in waiting if not job.background]
        if len(ahead) == len(waiting) or time.monotonic() > self._background_at + PATIENCE:
            return waiting
        return ahead if any(not job.background for job in self._busy()) else waiting

    def _pause(self) -> float | None:
        """Seconds to wait before a window is taken, None without end: there is none.

        A last window is done sooner with all cores, once the other lane is ready, than beside it at half the speed: if
        that lane needs no longer than the window will. It may be late by a quarter of that, then it was misjudged.
        """
        eligible = self._eligible()
        if not eligible:
            return HELD if self._ready() else None
        first = eligible[0].waiting[0]
        announced = sum(job.left.total() for job in self._busy())
        if self._lanes == 1 or not self._computing or announced > first.pixels:
            return 0.0
        alone, ready_in = self._seconds(first), self._busy_until - time.monotonic()
        return max(0.0, ready_in + alone / 4) if ready_in < alone else 0.0

    def _seconds(self, entry: Entry) -> float:
        return self._rates.seconds(entry.spec, entry.pixels)

    def _first(self) -> Job:
        """The job that has cost least, of several the one that waits longest; or, while a deadline that can be met is
        in danger, the one whose deadline comes first.

        Where any order meets all deadlines, that one does (Liu and Layland 1973), and only such work was admitted.
        """
        waiting = self._eligible()
        seconds, now = 0.0, time.monotonic()
        overdue = [job for job in waiting if job.background]
        if overdue and len(overdue) < len(waiting):
            return overdue[0]  # its patience is over: else it would not stand here beside others
        hopeful = [job for job in waiting if now + self._seconds_left(job) <= job.deadline]
        hopeful.sort(key=lambda job: job.deadline)
        for job in hopeful:
            seconds += self._seconds_left(job)
            if now + HASTE * seconds > job.deadline:
                return hopeful[0]
        return min(waiting, key=lambda job: job.cost)

    def _drop_expired(self) -> None:
        """What is late already is not computed."""
        now = time.monotonic()
        for job in self._jobs:
            while job.waiting and job.deadline < now:
                job.waiting.popleft().future.set_exception(DeadlineError("The image was not finished in time."))


def is_dear(entry: Entry) -> bool:
    """Whether a window takes seconds: one of a network with many operations a pixel."""
    return entry.pixels * entry.spec.macs > DEAR_WINDOW
