"""The jobs put together: database, store, worker, webhooks, routes, and their life from start to drain."""

import asyncio
import fcntl
import logging
import os
import random
import threading
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI

from app.errors import EnlargerError, StartupError
from app.http.background import Background
from app.http.jobs import Jobs, add_jobs
from app.http.service import Service
from app.jobs.book import Book, database_url
from app.jobs.egress import Egress
from app.jobs.expiry import expire, remove_orphans
from app.jobs.lifecycle import JobLifecycle
from app.jobs.locations import Locations
from app.jobs.records import Job, JobSpec, Result
from app.jobs.replica import Replica
from app.jobs.running import Running
from app.jobs.store import Store
from app.jobs.webhooks import Webhooks
from app.jobs.worker import Worker
from app.settings import Settings

log = logging.getLogger("enlarger.jobs")

SWEEP_SECONDS = 30.0


class JobService:
    """One replica's jobs. The database is opened at once, so that a wrong URL stops the start; work begins later."""

    def __init__(self, settings: Settings) -> None:
        jobs = settings.jobs
        assert jobs.location
        self._settings = settings
        self._lock = own_folder(Path(jobs.location)) if "://" not in jobs.location else None
        if self._lock is None and not jobs.store:
            raise StartupError("Jobs in a database need ENLARGER_JOBS_STORE, a folder or bucket all replicas reach.")
        self._store = Store.open(jobs.store or str(Path(jobs.location) / "pictures"))
        self._locations = Locations(Egress(jobs.hosts, jobs.networks), jobs.buckets)
        try:
            self._book = Book(database_url(jobs.location))
        except sa.exc.SQLAlchemyError as error:
            raise StartupError("The database of ENLARGER_JOBS cannot be opened.") from error
        secret, retention = jobs.webhook_secret, jobs.retention_seconds
        self._webhooks = Webhooks(secret.get_secret_value(), self._locations.egress, retention) if secret else None
        self._worker: Worker | None = None
        self._replica = Replica(self._book, self._perform, self._deliver)
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="jobs-sweeper", daemon=True)

    def add_to(self, app: FastAPI, service: Service) -> None:
        lifecycle = JobLifecycle(self._book, self._replica, self._store, self._settings.jobs.retention_seconds)
        jobs = Jobs(lifecycle, self._locations, self._webhooks is not None)
        add_jobs(app, jobs)
        service.defer = jobs.defer
        service.metrics.watch_jobs(lambda: self._replica.backlog.jobs, lambda: self._replica.backlog.seconds)

    def start(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        background = Background(service, loop)
        self._worker = Worker(self._store, self._locations, background.enlarge, self._settings.max_body_bytes)
        self._replica.start()
        self._sweeper.start()

    def close(self) -> None:
        """What is worked on goes back to the queue, for another replica or the next start."""
        self._stopping.set()
        self._replica.close()
        self._sweeper.join()
        self._book.close()
        if self._lock is not None:
            os.close(self._lock)

    def _perform(self, running: Running, spec: JobSpec) -> Result:
        assert self._worker
        return self._worker.perform(running, spec)

    def _deliver(self, job: Job, attempt: int) -> float | None:
        return self._webhooks.deliver(job, attempt) if self._webhooks else None

    def _sweep(self) -> None:
        """At times of its own, so that replicas do not all look at once."""
        rounds, retention = 0, self._settings.jobs.retention_seconds
        while not self._stopping.wait(min(SWEEP_SECONDS, retention) * random.uniform(0.5, 1.5)):
            rounds += 1
            try:
                while expire(self._book, self._store, retention):
                    pass
                if rounds % 20 == 0:
                    remove_orphans(self._book, self._store)
            except (EnlargerError, sa.exc.SQLAlchemyError) as error:
                log.warning("what is over could not be removed: %s", type(error).__name__)


def own_folder(folder: Path) -> int:
    """An embedded database has one service: a second one would take the first one's jobs for a dead one's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(f"ENLARGER_JOBS: {folder} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StartupError(f"ENLARGER_JOBS: another service uses {folder}; replicas share a database.") from error
    return descriptor
