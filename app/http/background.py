"""A picture enlarged for a job: checked, scheduled and limited like a request's, in the time that requests leave."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from app.http.negotiation import candidates
from app.http.service import Service
from app.http.upscale import picture_headers
from app.images.formats import Container
from app.inference.job import Job
from app.jobs.records import JobSpec
from app.jobs.running import Running
from app.jobs.worker import Enlarged
from app.telemetry.record import Record
from app.telemetry.tracing import child_of
from app.threads import lower_priority, run_in_thread
from app.upscale.memory import held_bytes
from app.upscale.parameters import UpscaleParameters
from app.upscale.pipeline import Work
from app.upscale.plan import Plan


class Background:
    """``loop``: the service's, on which the images of requests and of jobs wait for a decoder together."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._loop = service, loop

    @contextmanager
    def enlarge(self, running: Running, spec: JobSpec, data: bytes, filename: str | None) -> Iterator[Enlarged]:
        """See ``jobs.worker.Enlarge``; called in a thread of the job's own."""
        lower_priority()
        upscaler, limiter = self._service.upscaler, self._service.concurrency
        parameters = UpscaleParameters.model_validate(spec.parameters)
        image = upscaler.open(data)
        plan = upscaler.plan(image, parameters, candidates(spec.accept, image.header.format))
        record = Record(f"job-{running.id}", child_of(""))
        with upscaler.admit_background(plan, record.clock) as job, limiter.hold(held_bytes(plan), running.sleep):
            running.follow(partial(self._progress, job, job.left.total()), job.cancel)
            try:
                with job.beside():
                    work = self._decode(record, data, image, plan, job)
                del data, image
                running.follow(partial(self._progress, job, job.left.total()), job.cancel)  # auto may have chosen
                headers = picture_headers(upscaler, work.plan, parameters, filename)
                yield Enlarged(upscaler.run(work, job), work.plan.media_type, filename, headers)
            finally:
                self._service.in_flight.end(record)

    def _decode(self, record: Record, data: bytes, image: Container, plan: Plan, job: Job) -> Work:
        service = self._service

        def decode() -> Work:
            service.in_flight.begin(record, data)
            return service.upscaler.decode(image, plan, job)

        decoding = run_in_thread(decode, limiter=service.decoders)
        return asyncio.run_coroutine_threadsafe(decoding, self._loop).result()

    def _progress(self, job: Job, announced: int) -> tuple[float, float]:
        """The share of its windows that is computed, and the seconds that the rest takes of the whole machine."""
        left = max(0, job.left.total())
        return round(1 - left / max(1, announced), 3), self._service.upscaler.scheduler.seconds_left(job)
