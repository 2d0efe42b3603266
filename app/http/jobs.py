"""``/jobs``: work that outlives its connection. Loaded only where jobs are asked for."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Send

from app.errors import EnlargerError, ExpiredJobError, InvalidParameterError, UnknownJobError
from app.http.job_request import JobParameters, JobRequest, receive_job
from app.http.openapi import ERRORS, only
from app.http.owner import COOKIE, Owner, owner_of
from app.http.prefer import Preference
from app.http.ranges import has_it_already, part_asked_for, whole
from app.http.router import Router
from app.http.service import Service, service_of
from app.http.upload import Upload
from app.http.upscale import opened
from app.jobs.book import NEWEST
from app.jobs.lifecycle import JobLifecycle
from app.jobs.locations import Locations
from app.jobs.records import UPLOAD, Job, JobSpec, created_at
from app.threads import run_in_thread
from app.upscale.memory import held_bytes
from app.upscale.parameters import UpscaleParameters
from app.upscale.plan import Plan

log = logging.getLogger("enlarger.jobs")

EVENTS = "text/event-stream"
KEEP_ALIVE = 15.0  # seconds after which a follower is told that nothing has changed
PAGE = 50  # jobs in a list
MAX_KEY = 255  # characters of an Idempotency-Key


@dataclass(frozen=True)
class Jobs:
    """What the routes need. ``webhooks``: whether there is a key to sign them with."""

    lifecycle: JobLifecycle
    locations: Locations
    webhooks: bool

    # -- handed in -------------------------------------------------------------------------------------------------

    async def submit(self, request: Request, asked: JobRequest, plan: Plan | None) -> tuple[Job, Owner]:
        """Accepts a job, after all that can be refused was refused. ``plan``: of the picture, if it is here."""
        service = service_of(request)
        owner, limiter = owner_of(request, service.settings.api_keys), service.concurrency
        if asked.webhook:
            if not self.webhooks:
                raise InvalidParameterError("This service sends no webhooks: it has no key to sign them with.")
            self.locations.egress.check(asked.webhook)
        for url in filter(None, (asked.source, asked.sink)):
            self.locations.check(url)
        if asked.parameters.decode:
            raise InvalidParameterError("decode: a job tells no codes; ask POST /upscale without Prefer.")
        seconds = None
        if plan:
            limiter.slots_needed(held_bytes(plan))
            seconds = service.upscaler.seconds(plan)
        spec = JobSpec(
            source=asked.source or UPLOAD,
            sink=asked.sink,
            parameters=asked.parameters.model_dump(mode="json", exclude_defaults=True),
            accept=request.headers.get("accept", "*/*") if asked.image else "*/*",
            filename=asked.filename,
            webhook=asked.webhook,
            seconds=seconds,
        )
        return await self.lifecycle.submit(owner.name, spec, asked.image, idempotency_key(request), owner.scope), owner

    async def defer(
        self, request: Request, upload: Upload, parameters: UpscaleParameters, plan: Plan, preference: Preference
    ) -> Response:
        """The answer to a ``POST /upscale`` whose sender prefers a job, if it takes longer than he waits."""
        asked = JobRequest(parameters=parameters, image=upload.image, filename=upload.filename)
        job, owner = await self.submit(request, asked, plan)
        job = await self.lifecycle.wait(job, preference.wait)
        response = await self.result(request, job) if job.done else self.accepted(job, owner)
        response.headers["Preference-Applied"] = preference.applied
        return response

    # -- told --------------------------------------------------------------------------------------------------------

    def document(self, job: Job) -> dict[str, Any]:
        return job.document(self.lifecycle.retention)

    def accepted(self, job: Job, owner: Owner) -> Response:
        headers = {"Location": f"/jobs/{job.id}", **self.headers(job)}
        response = JSONResponse(self.document(job), 202, headers)
        if owner.cookie:
            response.set_cookie(COOKIE, owner.cookie, max_age=30 * 24 * 3600, httponly=True, samesite="strict")
        return response

    def headers(self, job: Job) -> dict[str, str]:
        again = {} if job.done else {"Retry-After": str(round(min(30.0, max(1.0, job.left or 1.0))))}
        return {"Cache-Control": "no-store", **again}

    async def result(self, request: Request, job: Job) -> Response:
        """The finished picture, or the part of it that is asked for."""
        result = self.lifecycle.result(job)
        etag = f'"{result.etag}"'
        headers = {**result.headers, "ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
        if has_it_already(request.headers, etag):
            return Response(status_code=304, headers=headers)
        head = request.method == "HEAD"  # for which ranges are not defined (RFC 9110, 14.2)
        part = whole(result.size) if head else part_asked_for(request.headers, result.size, etag)
        headers["Content-Length"] = str(part.end - part.start)
        if not part.is_whole:
            headers["Content-Range"] = part.content_range
        status = 200 if part.is_whole else 206
        if head:
            return Response(status_code=status, headers=headers, media_type=result.media_type)
        pieces = self.lifecycle.read(result, part.start, part.end)
        first = await run_in_thread(next, pieces, b"")  # what the store refuses is still a problem document

        async def body() -> AsyncIterator[bytes]:
            piece = first
            while piece:
                yield piece
                piece = await run_in_thread(next, pieces, b"")

        return StoredResponse(body(), status, headers, result.media_type)

    async def events(self, service: Service, job: Job, seen: str | None) -> AsyncIterator[bytes]:
        """The job's document whenever it changes, until it is finished, expired, or this replica leaves. A follower who
        comes back tells what he saw."""
        yield format_sse_event(comment="following", retry=2000)
        told = time.monotonic()
        with suppress(ExpiredJobError, UnknownJobError):  # which is what he is told when he comes back
            async for now in self.lifecycle.looks(job):
                if now.version != seen:
                    body = JSONResponse(self.document(now)).body
                    yield format_sse_event(data_str=bytes(body).decode(), event="job", id=now.version)
                    seen, told = now.version, time.monotonic()
                elif time.monotonic() > told + KEEP_ALIVE:
                    yield format_sse_event(comment="nothing new")
                    told = time.monotonic()
                if service.draining:
                    return


class StoredResponse(StreamingResponse):
    """A file of the store. One that is deleted, or cannot be read, before its end was sent ends in the middle, by which
    the client knows."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except EnlargerError as error:
            log.warning("transfer aborted: %s: %s", error.code, error.detail)


def add_jobs(app: FastAPI, jobs: Jobs) -> None:
    """The routes under ``/jobs``."""
    router = Router(prefix="/jobs", tags=["jobs"])

    async def job_of(request: Request, job_id: str) -> Job:
        keys = service_of(request).settings.api_keys
        owner = owner_of(request, keys).name if keys else None  # without keys, who knows the id may
        return await jobs.lifecycle.find(job_id, owner)

    @router.post("", status_code=202, summary="Hand in a picture, or where one lies", responses=ERRORS)
    async def post_job(request: Request, query: Annotated[JobParameters, Query()]) -> Response:
        """Takes what `POST /upscale` takes, and `sink` and `webhook` beside it; or JSON with `source`, `sink`,
        `webhook` and `parameters`. An `Idempotency-Key` makes it safe to send again."""
        asked = await receive_job(request)
        _, plan = await opened(request, asked.image, asked.parameters) if asked.image else (None, None)
        job, owner = await jobs.submit(request, asked, plan)
        return jobs.accepted(job, owner)

    @router.get("", summary="Your jobs, the newest first", responses=only(401, 422, 503))
    async def get_jobs(
        request: Request, limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE, before: str | None = None
    ) -> Response:
        """Of the API key, or else of the cookie that the first job has set. `next`, if any, is the page behind."""
        if before is not None and created_at(before) is None:
            raise InvalidParameterError("before: take it from `next` of the page before.")
        owner = owner_of(request, service_of(request).settings.api_keys)
        found, following = await jobs.lifecycle.of_owner(owner.name, limit, before or NEWEST)
        told = f"/jobs?limit={limit}&before={following}" if following else None
        body = {"jobs": [jobs.document(job) for job in found], "next": told}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    @router.get("/{job_id}", summary="How far a job is", responses=only(401, 404, 410, 503))
    async def get_job(request: Request, job_id: str) -> Response:
        """With `Accept: text/event-stream`: its document whenever it changes, until it is finished; `Last-Event-ID`
        goes on where a connection broke off."""
        job = await job_of(request, job_id)
        if EVENTS not in request.headers.get("accept", ""):
            return JSONResponse(jobs.document(job), headers={**jobs.headers(job), "Vary": "Accept"})
        seen = request.headers.get("last-event-id")
        if job.done and job.version == seen:
            return Response(status_code=204)  # which ends an EventSource
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}
        return StreamingResponse(jobs.events(service_of(request), job, seen), headers=headers, media_type=EVENTS)

    @router.delete("/{job_id}", summary="Cancel a job, or forget a finished one", responses=only(401, 404, 410, 503))
    async def delete_job(request: Request, job_id: str) -> Response:
        """Answers the canceled job; 204 where it was finished, and is forgotten with its picture."""
        job = await jobs.lifecycle.cancel(await job_of(request, job_id))
        return JSONResponse(jobs.document(job)) if job else Response(status_code=204)

    async def get_result(request: Request, job_id: str) -> Response:
        """The picture as `POST /upscale` would have answered it; with `Range`, a part of it."""
        return await jobs.result(request, await job_of(request, job_id))

    more: dict[str, Any] = {"summary": "A finished job's picture", "responses": only(401, 404, 409, 410, 416, 422, 503)}
    router.add_api_route("/{job_id}/result", get_result, methods=["GET"], response_class=Response, **more)
    app.include_router(router)


def idempotency_key(request: Request) -> str | None:
    """As the draft has it a structured string; bare ones are usual too."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    bare = key.strip().strip('"')
    if not 0 < len(bare) <= MAX_KEY:
        raise InvalidParameterError("An Idempotency-Key has 1 to 255 characters.", limit=MAX_KEY, actual=len(bare))
    return bare
