"""What the routes and the command line ask of jobs: handed in, looked at, waited for, canceled, fetched."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import anyio
import sqlalchemy as sa
from anyio import CapacityLimiter, to_thread
from dbos._error import DBOSException

from app.errors import (
    CanceledJobError,
    EnlargerError,
    ExpiredJobError,
    FailedJobError,
    JobsUnavailableError,
    RepeatedRequestError,
    ResultElsewhereError,
    ReusedKeyError,
    UnfinishedJobError,
    UnknownJobError,
)
from app.jobs.book import Book
from app.jobs.records import Job, JobSpec, Result, created_at, new_id
from app.jobs.replica import Replica
from app.jobs.store import Store

log = logging.getLogger("enlarger.jobs")

DATABASE_SECONDS = 20.0  # for one question; a database that restarts is waited for as long
REQUEST_SECONDS = 60.0  # after which a request that was not answered is thought dead, and the same may come again
LOOK_SECONDS = 0.5  # between two looks at the jobs that somebody follows

Answer = TypeVar("Answer")


class JobLifecycle:
    """``retention``: seconds for which a finished job is kept."""

    def __init__(self, book: Book, replica: Replica, store: Store, retention: float) -> None:
        self._replica = replica
        self.book, self.store, self.retention = book, store, retention
        self._limiter = CapacityLimiter(16)

    async def submit(self, owner: str, spec: JobSpec, image: bytes | None, key: str | None, scope: str) -> Job:
        """Accepts a job for good. ``key``: the request's ``Idempotency-Key``, of which ``scope`` is the sender."""
        digest = digest_of(spec, image)
        job_id, seen = new_id(), None
        if key is not None:
            seen = await self._ask(lambda: self.book.tables.see(scope, key, digest, job_id))
        if seen is not None:
            if seen.digest != digest:
                raise ReusedKeyError("This Idempotency-Key was sent with another payload.")
            if seen.accepted:
                return await self.find(seen.job)
            if seen.age < REQUEST_SECONDS:
                raise RepeatedRequestError("The first request with this Idempotency-Key is being answered.")
            job_id = seen.job
        try:
            if image is not None:
                picture = image
                await self._ask(lambda: self.store.put(source_key(job_id), picture))
            await self._ask(lambda: self.book.enqueue(job_id, owner, spec))
        except EnlargerError:
            if key is not None:
                await self._ask(lambda: self.book.tables.drop(scope, key, REQUEST_SECONDS))
            raise
        if key is not None:
            await self._ask(lambda: self.book.tables.accept(scope, key))
        return await self.find(job_id)

    async def find(self, job_id: str, owner: str | None = None) -> Job:
        """``UnknownJobError`` where there is none, or none of that owner; ``ExpiredJobError`` where there was one."""
        made = created_at(job_id)
        if made is None:
            raise UnknownJobError("There is no such job.")
        found = await self._ask(lambda: self.book.find(job_id))
        if not found or (owner is not None and found[0].owner != owner):
            if not found and made + self.retention < time.time():
                raise ExpiredJobError(f"Jobs are kept for {self.retention:g} s after they are finished.")
            raise UnknownJobError("There is no such job.")
        job = found[0]
        if job.expired or (job.finished and job.finished + self.retention < time.time()):
            raise ExpiredJobError(f"Jobs are kept for {self.retention:g} s after they are finished.")
        if job.status == "queued":
            return replace(job, left=(job.left or 0.0) + self._replica.backlog.seconds_until(job.created))
        return job

    async def of_owner(self, owner: str, count: int, before: str) -> tuple[list[Job], str | None]:
        jobs, following = await self._ask(lambda: self.book.of_owner(owner, count, before))
        return [job for job in jobs if not job.expired], following

    async def cancel(self, job: Job) -> Job | None:
        """Cancels it, or forgets it with its picture if it is finished; then there is no job any more."""
        if job.done:
            await self._ask(lambda: self._expire(job))
            return None
        await self._ask(lambda: self.book.cancel(job.id))
        self._replica.interrupt(job.id)
        if job.spec.webhook:
            await self._ask(lambda: self.book.enqueue_webhook(job.id))
        return await self.find(job.id)

    def _expire(self, job: Job) -> None:
        self.book.expire(job.id)
        self.book.tables.forget_request(job.id)
        self.store.delete_below(f"results/{job.id}/")
        self.store.delete(source_key(job.id))

    async def looks(self, job: Job) -> AsyncIterator[Job]:
        """The job as it is now and at each further look, some in a second; ends when it is finished. A database that
        does not answer is asked again."""
        yield job
        while not job.done:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(JobsUnavailableError):
                job = await self.find(job.id)
            yield job

    async def wait(self, job: Job, seconds: float) -> Job:
        """The job when it is finished, or after so many seconds."""
        with anyio.move_on_after(seconds):
            async for latest in self.looks(job):
                job = latest
        return job

    def result(self, job: Job) -> Result:
        """Of a job that has one; else the error that says why not."""
        if job.status == "canceled":
            raise CanceledJobError("The job was canceled.")
        if job.status == "failed":
            raise FailedJobError((job.error or {}).get("detail") or "The job failed.")
        if not job.done or job.result is None:
            raise UnfinishedJobError("The job is not finished.")
        if job.result.key is None:
            raise ResultElsewhereError("The result is where the job was asked to put it.")
        return job.result

    def read(self, result: Result, start: int, end: int) -> Iterator[bytes]:
        assert result.key is not None
        return self.store.read(result.key, start, end)

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        """Of the database or the store, in a thread; ``JobsUnavailableError`` where it does not answer."""
        try:
            with anyio.fail_after(DATABASE_SECONDS):
                return await to_thread.run_sync(question, limiter=self._limiter, abandon_on_cancel=True)
        except (TimeoutError, sa.exc.SQLAlchemyError, DBOSException) as error:
            log.warning("the jobs' database did not answer: %s", type(error).__name__)
            raise JobsUnavailableError("The jobs' database cannot be reached.") from error


def source_key(job_id: str) -> str:
    return f"sources/{job_id}"


def digest_of(spec: JobSpec, image: bytes | None) -> str:
    """Of all that a request asks for."""
    told = sorted((name, str(value)) for name, value in spec.as_json().items() if name != "seconds")
    return hashlib.sha256(repr(told).encode() + hashlib.sha256(image or b"").digest()).hexdigest()
