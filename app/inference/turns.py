"""Whose windows are computed next: only decisions, no threads and no clock; the scheduler calls it under its own lock.

The job that has cost least comes first (start-time fair queueing, Goyal et al. 1996), so that a small image beside a
huge one waits for a tile or two of it, however many small ones it is cut into itself. Only where turns would make an
accepted image miss its deadline is the earliest deadline served first: where any order meets all deadlines, that one
does (Liu and Layland 1973), and only such work was admitted.

Background jobs are computed while no other job is active; but one of their windows is taken every ``PATIENCE`` seconds
at least, and computed to its end, so that they end even if the others never do.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from app.inference.job import Entry, Job

HASTE = 1.25  # a job's deadline is in danger when this many times the estimate would miss it
PATIENCE = 10.0  # seconds after which a window of a background job is computed, whoever else waits
SILENCE = 1.0  # seconds without a window queued or computed, after which a job is waiting for its reader


class Turns:
    """The admitted jobs. Times (``now``) are seconds on the clock of ``time.monotonic``."""

    def __init__(self, seconds_left: Callable[[Job], float]) -> None:
        self.jobs: OrderedDict[Job, None] = OrderedDict()  # the first one has waited longest
        self._seconds_left = seconds_left  # of computing a job's remaining windows, estimated
        self._virtual_time = 0  # what the job served last had cost before that
        self._background_at = 0.0  # from when on the background jobs are patient

    def queue(self, entry: Entry, now: float) -> None:
        """A job that arrives late or was idle starts at the current virtual time: idling earns no credit."""
        job = entry.job
        job.active_at = now
        if not job.waiting:
            job.cost = max(job.cost, self._virtual_time)
        if job.background and not any(other.waiting for other in self.jobs if other.background):
            self._background_at = now
        job.waiting.append(entry)

    def active(self, now: float) -> list[Job]:
        """The jobs that do not wait for their reader."""
        return [job for job in self.jobs if job.waiting or not job.started or now < job.active_at + SILENCE]

    def ready(self, heavy: bool) -> list[Job]:
        """The jobs with a window to compute, in turn; ``heavy``: one is being computed, so there is no room for
        another."""
        return [job for job in self.jobs if job.waiting and not (heavy and job.waiting[0].is_heavy)]

    def eligible(self, heavy: bool, now: float) -> list[Job]:
        """Those of the ready jobs that may be served now: background jobs only while no other job is active."""
        ready = self.ready(heavy)
        foreground = [job for job in ready if not job.background]
        if len(foreground) == len(ready) or self.is_overdue(now):
            return ready
        return foreground if self.in_foreground(now) else ready

    def is_overdue(self, now: float) -> bool:
        """Whether the patience of the background jobs is over, if there are any."""
        return now > self._background_at + PATIENCE

    def was_overdue(self, now: float) -> bool:
        """The same, of background work that was just taken: for what comes behind it, patience begins anew."""
        overdue = self.is_overdue(now)
        if overdue:
            self._background_at = now
        return overdue

    def in_foreground(self, now: float) -> bool:
        """Whether a job is active that is not a background job."""
        return any(not job.background for job in self.active(now))

    def first(self, eligible: list[Job], now: float) -> Job:
        """The job that has cost least, of several the one that has waited longest; or, while a deadline that can be met
        is in danger, the job whose deadline comes first."""
        overdue = [job for job in eligible if job.background]
        if overdue and len(overdue) < len(eligible):
            return overdue[0]  # its patience is over, else it would not be eligible beside others
        hopeful = [job for job in eligible if now + self._seconds_left(job) <= job.deadline]
        hopeful.sort(key=lambda job: job.deadline)
        seconds = 0.0
        for job in hopeful:
            seconds += self._seconds_left(job)
            if now + HASTE * seconds > job.deadline:
                return hopeful[0]
        return min(eligible, key=lambda job: job.cost)

    def take(self, first: Job, eligible: list[Job], most: Callable[[Entry], int]) -> list[Entry]:
        """The next window of ``first``, and of all jobs in turn as many of its kind as may be computed with it."""
        self._virtual_time = max(self._virtual_time, first.cost)
        taken = [first.waiting.popleft()]
        turns = deque([*(job for job in eligible if job is not first), first])
        room = most(taken[0])
        while len(taken) < room and turns:
            job = turns.popleft()
            if job.waiting and job.waiting[0].kind == taken[0].kind:
                taken.append(job.waiting.popleft())
                turns.append(job)
        while len(taken) & (len(taken) - 1):  # few shapes: batches of 1, 2, 4, 8...
            entry = taken.pop()
            entry.job.waiting.appendleft(entry)
        for entry in taken:
            self._charge(entry, 1)
            self.jobs.move_to_end(entry.job)
        return taken

    def _charge(self, entry: Entry, sign: int) -> None:
        entry.job.left[entry.spec.title] -= sign * entry.pixels
        entry.job.cost += sign * entry.macs

    def served(self, job: Job, now: float) -> None:
        """A window of it was computed."""
        job.active_at = now
        if job.background:
            self._background_at = now

    def put_back(self, taken: list[Entry]) -> None:
        """They were not computed after all."""
        for entry in reversed(taken):
            self._charge(entry, -1)
            if entry.job.cancelled:
                entry.future.cancel()
            else:
                entry.job.waiting.appendleft(entry)
