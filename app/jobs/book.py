"""The book of jobs, as DBOS keeps it in a database: what is accepted, found, canceled, forgotten.

This file, ``replica.py`` and ``tables.py`` alone know DBOS. Whoever has the database's URL may use it, with no replica
in the same process: the command line hands its buckets in this way.
"""

import hashlib
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, EnqueueOptions, WorkflowSerializationFormat, WorkflowStatus

from app.errors import EnlargerError
from app.jobs.records import Job, JobSpec, Result, Status, created_at
from app.jobs.tables import Tables

NEWEST = "g"  # behind every id
VERSION = "1"  # of what is kept in the database; replicas take up jobs of their own version alone
SMALL, LARGE, WEBHOOKS = "small", "large", "webhooks"
STATUS: dict[str, Status] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "processing",
    "SUCCESS": "succeeded",
    "ERROR": "failed",
    "CANCELLED": "canceled",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
}
BUG = {"type": "about:blank", "title": "Internal error", "status": 500, "code": "internal_error"}


class Book:
    """The jobs of one database, ``sqlite:///…`` or ``postgresql://…``; its tables are made where they are missing."""

    def __init__(self, url: str) -> None:
        quiet_log()
        self.url, self.tables = url, Tables(url)
        self.tables.prepare()
        DBOS.migrate(url)
        self.tables.index()
        self._client = DBOSClient(system_database_url=url)

    def close(self) -> None:
        self._client.destroy()
        self.tables.close()

    def enqueue(self, job_id: str, owner: str, spec: JobSpec, once: str | None = None) -> str:
        """Accepts a job for good; again for the same id, it changes nothing. The job's id: that of another one, while
        one that was handed in with the same ``once`` is not finished."""
        options: EnqueueOptions = {
            "workflow_name": "enlarge",
            "queue_name": SMALL if spec.small else LARGE,
            "workflow_id": job_id,
            "app_version": VERSION,
            "authenticated_user": owner,
            "serialization_type": WorkflowSerializationFormat.PORTABLE,
            "attributes": {"seconds": 1.0 if spec.seconds is None else spec.seconds},
        }
        if once is not None:
            options["deduplication_id"] = hashlib.sha256(once.encode()).hexdigest()
            options["duplication_policy"] = "return-existing"
        return self._client.enqueue(options, spec.as_json()).workflow_id

    def enqueue_webhook(self, job_id: str, attempt: int = 1, looks: int = 0, delay: float = 0.0) -> None:
        """One attempt to deliver, for which ``looks`` found the job unfinished; the same again changes nothing."""
        options: EnqueueOptions = {
            "workflow_name": "webhook",
            "queue_name": WEBHOOKS,
            "workflow_id": f"{job_id}/webhook/{attempt}" + (f"/{looks}" if looks else ""),
            "app_version": VERSION,
            "serialization_type": WorkflowSerializationFormat.PORTABLE,
        }
        if delay:
            options["delay_seconds"] = delay
        self._client.enqueue(options, job_id, attempt, looks)

    def find(self, *job_ids: str) -> list[Job]:
        found = self._client.list_workflows(workflow_ids=list(job_ids), name="enlarge")
        return [job_of(status) for status in found]

    def of_owner(self, owner: str, count: int, before: str = NEWEST) -> tuple[list[Job], str | None]:
        """The newest first, of those older than a job, and the job that the next are older than; None where there is
        nothing more."""
        ids = self.tables.owned(owner, count + 1, before)
        found = {job.id: job for job in (self.find(*ids[:count]) if ids else [])}
        jobs = [found[each] for each in ids[:count] if each in found]
        return jobs, ids[count - 1] if len(ids) > count else None

    def finished_before(self, time: float, count: int) -> list[Job]:
        end = datetime.fromtimestamp(time, UTC).isoformat()
        return [
            job_of(status) for status in self._client.list_workflows(name="enlarge", completed_before=end, limit=count)
        ]

    def cancel(self, job_id: str) -> None:
        """Whoever works on it finds out within a second; what is finished stays as it is."""
        self._client.cancel_workflow(job_id)

    def expire(self, job_id: str) -> None:
        """Its row stays, to tell that there was one."""
        self._client.update_workflow_attributes(job_id, {"expired": True}, merge=True)

    def owned(self, job_ids: list[str], executor: str) -> set[str]:
        """Those that a replica may go on with."""
        found = self._client.list_workflows(workflow_ids=job_ids, load_input=False, load_output=False)
        return {each.workflow_id for each in found if each.status == "PENDING" and each.executor_id == executor}

    def delete(self, job_ids: list[str]) -> None:
        self._client.delete_workflows(job_ids)

    def delete_webhooks_before(self, time: float, count: int) -> None:
        end = datetime.fromtimestamp(time, UTC).isoformat()
        found = self._client.list_workflows(
            name="webhook", completed_before=end, limit=count, load_input=False, load_output=False
        )
        if found:
            self._client.delete_workflows([status.workflow_id for status in found])


def quiet_log() -> None:
    """DBOS' log joins ours, instead of writing to the console by itself."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def job_of(status: WorkflowStatus) -> Job:
    """The engine's row as a job."""
    told, outcome = status.attributes or {}, status.output or {}
    spec = JobSpec.from_json(status.input["args"][0]) if status.input else JobSpec("?", {})
    state: Status = STATUS[status.status]
    began = told.get("began")
    if state == "processing" and began is None:
        state = "queued"  # claimed, and its turn has not come
    error = outcome.get("error")
    if error:
        state = "failed"
    elif state == "failed":
        error = BUG
    result = Result(**outcome["result"]) if outcome.get("result") else None
    finished = status.completed_at if status.completed_at else (status.updated_at if state == "failed" else None)
    return Job(
        id=status.workflow_id,
        owner=status.authenticated_user or "",
        status=state,
        spec=spec,
        created=created_at(status.workflow_id) or (status.created_at or 0) / 1000,
        started=began or (status.dequeued_at or 0) / 1000 or None,
        finished=finished / 1000 if finished else None,
        progress=1.0 if state == "succeeded" else float(told.get("progress", 0.0)),
        left=told.get("left", spec.seconds),
        error=error,
        result=result,
        expired=bool(told.get("expired")),
    )


def problem_of(error: EnlargerError) -> dict[str, Any]:
    """The document (RFC 9457) that a failed job keeps."""
    body = {"type": "about:blank", "title": error.title, "status": error.status, "detail": error.detail}
    more = {"code": error.code, "limit": error.limit, "actual": error.actual}
    return body | {name: value for name, value in more.items() if value is not None}


def database_url(jobs: str) -> str:
    """Of what ``ENLARGER_JOBS`` says: a folder's embedded database, or the one that is named."""
    if "://" in jobs:
        return jobs.replace("postgres://", "postgresql://", 1)
    return f"sqlite:///{(Path(jobs) / 'jobs.sqlite3').absolute()}"
