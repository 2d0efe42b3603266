"""A replica's part in the jobs: DBOS shares them out and lets one owner at a time write an outcome.

Every claim of a job carries a token, and an outcome is taken from its holder
alone, so a replica that was thought dead and wakes up writes nothing. What DBOS leaves to its hosted service is done
here: each replica tells that it lives, and whoever sees that another does not any more puts its jobs back.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

import sqlalchemy as sa
from dbos import DBOS, WorkflowSerializationFormat

from app.errors import CrashedBeforeError, EnlargerError
from app.jobs.book import LARGE, SMALL, VERSION, WEBHOOKS, Book, problem_of
from app.jobs.records import Job, JobSpec, Result
from app.jobs.running import Interrupted, Running
from app.jobs.tables import SILENCE_SECONDS, Backlog
from app.jobs.turns import Turns

log = logging.getLogger("enlarger.jobs")

Perform = Callable[[Running, JobSpec], Result]
Deliver = Callable[[Job, int], float | None]
"""Sends a finished job's webhook, of the number of the attempt; the seconds after which to try again, None: never."""

TURNS = {SMALL: 2, LARGE: 2}  # jobs of each kind that a replica works on at a time
AHEAD = {SMALL: 8, LARGE: 0}  # claimed beside them, so that none waits for the next look into the queue
POLL_SECONDS = 0.25
TICK_SECONDS = 0.5  # between two looks at what is running here
STARTS = 6  # of one job; what has crashed so many replicas is given up
MAX_WAIT = 60.0  # seconds from one look to the next whether the job is finished that a webhook is to tell of

Answer = TypeVar("Answer")


class Replica:
    """One replica's part. One a process, because DBOS is one a process."""

    def __init__(self, book: Book, perform: Perform, deliver: Deliver, silence: float = SILENCE_SECONDS) -> None:
        """``silence``: seconds after which another is thought dead. Nothing happens before ``start``."""
        self._silence = silence
        self._book, self._tables = book, book.tables
        self._perform, self._deliver = perform, deliver
        self.executor, self.backlog = uuid.uuid4().hex, Backlog()
        self._running: dict[str, Running] = {}
        self._told: dict[str, float] = {}  # progress as last written, by job
        self._turns = Turns(TURNS)
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="jobs", daemon=True)

    def start(self) -> None:
        """Takes part from now on: what this replica or a dead one left is gone on with."""
        configure(self._book.url, self.executor)
        self._register()
        if self._tables.embedded:
            self._tables.alone()
        self._tables.beat(self.executor)
        DBOS.launch()
        for name, turns in TURNS.items():
            DBOS.register_queue(name, worker_concurrency=turns + AHEAD[name], polling_interval_sec=POLL_SECONDS)
        DBOS.register_queue(WEBHOOKS, worker_concurrency=8, polling_interval_sec=4 * POLL_SECONDS)
        self._keeper.start()

    def _register(self) -> None:
        """DBOS wants functions, not methods."""
        kept_as_json = WorkflowSerializationFormat.PORTABLE

        @DBOS.workflow(name="enlarge", max_recovery_attempts=None, serialization_type=kept_as_json)
        def enlarge(value: dict[str, Any]) -> dict[str, Any]:
            return self._enlarge(value)

        @DBOS.workflow(name="webhook", serialization_type=kept_as_json)
        def webhook(job_id: str, attempt: int, looks: int = 0) -> None:
            self._webhook(job_id, attempt, looks)

    def close(self) -> None:
        """Hands what this replica works on to the others, or to its successor. It stops working first: the engine's
        end, and a look at a slow database, may take some seconds."""
        self._stopping.set()
        for running in list(self._running.values()):
            running.interrupt()
        self._keeper.join()
        DBOS.destroy(destroy_registry=True)  # claims nothing any more
        try:
            self._tables.release(self.executor, crashed=False)
            self._tables.leave(self.executor)
        except sa.exc.SQLAlchemyError:
            log.warning("the jobs' database cannot be reached; the others will find out")

    def interrupt(self, job_id: str) -> None:
        """Stops a job at once, if it is worked on here."""
        if running := self._running.get(job_id):
            running.interrupt()

    # -- what DBOS calls -----------------------------------------------------------------------------------------------

    def _enlarge(self, value: dict[str, Any]) -> dict[str, Any]:
        """A job, in a thread of its own. What it returns is the outcome; ``Interrupted`` leaves none."""
        job_id, spec = str(DBOS.workflow_id), JobSpec.from_json(value)
        running = self._running[job_id] = Running(job_id, SMALL if spec.small else LARGE)
        try:
            if self._stopping.is_set():
                running.interrupt()
            with self._turn(running):
                return {"result": vars(self._perform(running, spec))}
        except EnlargerError as error:
            running.check()
            return {"error": problem_of(error)}
        finally:
            if spec.webhook and not running.interrupted:
                self._book.enqueue_webhook(job_id)
            if self._running.get(job_id) is running:
                del self._running[job_id]

    @contextmanager
    def _turn(self, running: Running) -> Iterator[None]:
        """One of the turns of its kind; all of them for a job that has begun before and ended in a crash, so that what
        crashes does not take innocent ones with it again."""

        def has_crashed() -> bool:
            starts = patiently(running, lambda: self._tables.starts(running.id))
            if starts > STARTS:
                raise CrashedBeforeError(f"It has crashed {STARTS} replicas.", limit=STARTS)
            return starts > 1

        with self._turns.take(running, has_crashed):
            running.check()
            if not patiently(running, lambda: self._tables.begin(running.id, self.executor)):
                raise Interrupted(running.id)
            running.began = True
            yield

    def _webhook(self, job_id: str, attempt: int, looks: int) -> None:
        """An attempt to deliver, once the job is finished: its outcome is written a moment after its webhook is, or
        much later, by another replica, where this one dies in between."""
        found = self._book.find(job_id)
        if not found or found[0].spec.webhook is None:
            return
        if not found[0].done:
            self._book.enqueue_webhook(job_id, attempt, looks + 1, delay=min(MAX_WAIT, 2.0**looks))
            return
        delay = self._deliver(found[0], attempt)
        if delay is not None:
            self._book.enqueue_webhook(job_id, attempt + 1, delay=delay)

    # -- what this replica looks after ---------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Tells that it lives and how far its jobs are, stops those that are no longer its own, and wakes those of the
        dead. After a pause of its own (the database was away) it waits until the others can have told of themselves."""
        beat = reap = 0.0
        now = monotonic()
        steady = now
        while not self._stopping.wait(TICK_SECONDS):
            before, now = now, monotonic()
            if now > before + self._silence / 2:
                steady = now
            try:
                if now >= beat:
                    self._tables.beat(self.executor)
                    beat = now + self._silence / 6
                self._tell_progress()
                if now >= reap and (self._tables.embedded or monotonic() > steady + self._silence):
                    self._wake_jobs_of_the_dead()
                    self.backlog = self._tables.backlog()
                    reap = now + self._silence / 3
            except sa.exc.SQLAlchemyError as error:
                steady = monotonic()
                log.warning("the jobs' database cannot be reached: %s", type(error).__name__)

    def _wake_jobs_of_the_dead(self) -> None:
        for executor in self._tables.dead(self._silence):
            if woken := self._tables.release(executor, crashed=True):
                log.warning("%d jobs of a replica that is gone go on", woken)

    def _tell_progress(self) -> None:
        mine = dict(self._running)
        if not mine:
            return
        owned = self._book.owned(list(mine), self.executor)
        for job_id, running in mine.items():
            if job_id not in owned:
                running.interrupt()
            elif running.began:
                progress, left = running.progress()
                if self._told.get(job_id) != progress:
                    self._told[job_id] = progress
                    self._tables.tell(job_id, self.executor, {"progress": progress, "left": left})
        self._told = {job_id: progress for job_id, progress in self._told.items() if job_id in mine}


def patiently(running: Running, question: Callable[[], Answer]) -> Answer:
    """The database's answer, however long it is away: a job does not fail because of that."""
    while True:
        try:
            return question()
        except sa.exc.SQLAlchemyError:
            running.sleep(1.0)


def configure(url: str, executor: str) -> None:
    """One DBOS instance for the process."""
    DBOS(
        config={
            "name": "enlarger",
            "system_database_url": url,
            "executor_id": executor,
            "application_version": VERSION,
            "log_level": "WARNING",
            "sys_db_pool_size": 10,
            "enable_otlp": False,
        }
    )
