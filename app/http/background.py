"""A picture enlarged for a job: checked, scheduled and limited like a request's, in the time that requests leave."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from app.http.negotiation import choose_output
from app.http.parameters import UpscaleParameters
from app.http.routes import picture_headers, planned
from app.http.service import Service
from app.images.decoder import decode, inspect
from app.inference.job import Job
from app.jobs.records import JobSpec
from app.jobs.running import Running
from app.jobs.worker import Enlarged
from app.telemetry.record import Record
from app.telemetry.tracing import child_of
from app.threads import give_way, run_beside
from app.upscale.memory import held_bytes
from app.upscale.passes import load_of
from app.upscale.pipeline import Work, check_depth, prepare, upscale
from app.upscale.tiler import TileBudget


class Background:
    """``loop``: the service's, on which pictures of requests and of jobs wait for a decoder together."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._loop = service, loop

    @contextmanager
    def enlarge(self, running: Running, spec: JobSpec, image: bytes, filename: str | None) -> Iterator[Enlarged]:
        """See ``jobs.worker.Enlarge``; called in a thread of the job's own."""
        give_way()
        service, record = self._service, Record(f"job-{running.id}", child_of(""))
        parameters = UpscaleParameters.model_validate(spec.parameters)
        header = inspect(image, service.limits)
        load = load_of(planned(service, parameters, header.height, header.width), header.has_alpha)
        with service.scheduler.open_background(load, record.clock) as job:
            running.follow(partial(progress_of, job, service), job.cancel)
            try:
                work = self._decode(record, parameters, spec.accept, image)
                with service.room.hold(held_bytes(work), running.sleep):
                    headers = picture_headers(service, work, parameters, filename)
                    name = f"{filename or 'picture'}"
                    yield Enlarged(upscale(work, job), work.encoder.media_type, name, headers)
            finally:
                service.ledger.end(record)

    def _decode(self, record: Record, parameters: UpscaleParameters, accept: str, image: bytes) -> Work:
        service = self._service

        def decode_and_plan() -> Work:
            service.ledger.begin(record, image)
            source = decode(image, service.limits)
            size = parameters.result_size(source.height, source.width)
            output = choose_output(parameters, accept, source, size)
            specs = service.zoo.passes(parameters.model, size[0] / source.height, size[1] / source.width)
            budget = TileBudget(pixels=service.settings.tile_pixels, band_bytes=service.settings.band_bytes)
            work = prepare(source, specs, output, budget, size)
            check_depth(work, service.precisions)
            return work

        decoding = run_beside(decode_and_plan, limiter=service.decoders)
        return asyncio.run_coroutine_threadsafe(decoding, self._loop).result()


def progress_of(job: Job, service: Service) -> tuple[float, float]:
    """The share of its windows that is computed, and the seconds that the rest takes of the whole machine."""
    left = max(0, job.left.total())
    return round(1 - left / job.announced, 3) if job.announced else 1.0, service.scheduler.seconds_left(job)
