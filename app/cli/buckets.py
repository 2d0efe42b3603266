"""``enlarger`` with buckets, ``--cluster`` and ``--remote URL``; imported only if one of them is used."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from app.cli.batch import Task, plan_files
from app.errors import EnlargerError
from app.images.encoders import BY_SUFFIX, FORMATS
from app.images.formats import SUFFIXES
from app.jobs.book import Book, database_url
from app.jobs.bucket_plan import Copy, Plan, open_source, plan_copies
from app.jobs.records import Job, JobSpec, new_id
from app.jobs.remote import Remote
from app.jobs.store import Store, is_url
from app.main import create_engine, create_upscaler
from app.settings import CLIENT_KEY, Settings
from app.upscale.parameters import UpscaleParameters
from app.upscale.upscaler import Upscaler

Item = TypeVar("Item")

AT_A_TIME = 8  # images in flight with a remote service, and jobs submitted at once
LOOK_SECONDS, LOOK_COUNT = 1.0, 500
SECONDS_A_BYTE = 4e-6  # a guess whether a job is small or large before its image has been read


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remote", metavar="URL", help=f"send the work to this service (its key: {CLIENT_KEY})")
    parser.add_argument("--cluster", action="store_true", help="share the work among the replicas of ENLARGER_JOBS")


def run(options: argparse.Namespace, parameters: UpscaleParameters) -> int:
    """The exit status. ``options``: those of the command, with files and output as text, and those of
    ``add_options``."""
    if options.remote and not any(map(is_url, options.files)):
        files = plan_files(
            [Path(each) for each in options.files],
            Path(options.output) if options.output else None,
            options.format,
            options.skip_existing,
        )
        return run_remote(options, list(files), parameters)
    if len(options.files) != 1 or not options.output:
        raise EnlargerError("Name one bucket or folder, and with -o another one.")
    source, only = open_source(options.files[0], SUFFIXES)
    plan = plan_copies(source, only, Store.open(options.output), SUFFIXES, lambda own: extension(own, options.format))
    if plan.skipped:
        print(f"{plan.skipped} already exist", file=sys.stderr)
    if options.cluster or options.remote:
        base = options.files[0].rpartition("/")[0] if only else options.files[0]
        for place in (base, options.output):
            if not is_url(place):
                raise EnlargerError(f"{place} is on this machine; a cluster needs buckets.")
        share = hand_to_remote if options.remote else hand_to_cluster
        return share(options, plan, base.rstrip("/"), options.output.rstrip("/"), parameters)
    return run_here(plan, source, Store.open(options.output), parameters, options.format)


def extension(own: str, format_name: str | None) -> str:
    return FORMATS[format_name or BY_SUFFIX.get(own, "png")].extension


def asked(parameters: UpscaleParameters, target: str) -> dict[str, str]:
    """The parameters of a job, with the format that its target's name asks for."""
    values = parameters.model_dump(mode="json", exclude_defaults=True)
    told = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    return {"format": BY_SUFFIX[Path(target).suffix.lower()]} | told


def failure(name: str, detail: str) -> None:
    tqdm.write(f"enlarger: {name}: {detail}", file=sys.stderr)


# -- here --------------------------------------------------------------------------------------------------------------


def run_here(plan: Plan, source: Store, sink: Store, parameters: UpscaleParameters, format_name: str | None) -> int:
    settings, failed = Settings(), 0
    engine = create_engine(settings)
    with create_upscaler(settings, engine) as upscaler:
        for copy in tqdm(plan.copies, unit="picture"):
            try:
                enlarge_object(copy, source, sink, parameters, upscaler)
            except EnlargerError as error:
                failed += 1
                failure(copy.source, error.detail)
    return 1 if failed else 0


def enlarge_object(copy: Copy, source: Store, sink: Store, parameters: UpscaleParameters, upscaler: Upscaler) -> None:
    image = upscaler.open(source.get(copy.source))
    plan = upscaler.plan(image, parameters, [BY_SUFFIX[Path(copy.target).suffix.lower()]])
    with tempfile.TemporaryFile() as file:
        for piece in upscaler.run(upscaler.decode(image, plan)):
            file.write(piece)
        file.seek(0)
        sink.put(copy.target, file)


# -- on the replicas of a deployment -----------------------------------------------------------------------------------


def hand_to_cluster(
    options: argparse.Namespace, plan: Plan, source: str, sink: str, parameters: UpscaleParameters
) -> int:
    """Writes the jobs directly into the database of ``ENLARGER_JOBS``; with its URL no service is needed."""
    settings = Settings()
    if not settings.jobs.location:
        raise EnlargerError("--cluster needs ENLARGER_JOBS, the database of the replicas.")
    book = Book(database_url(settings.jobs.location))
    try:

        def hand_in(copy: Copy) -> tuple[str, str]:
            target = f"{sink}/{copy.target}"
            seconds = copy.size * SECONDS_A_BYTE
            spec = JobSpec(f"{source}/{copy.source}", asked(parameters, copy.target), target, seconds=seconds)
            return book.enqueue(new_id(), "cluster", spec, once=target), copy.source

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            waiting = dict(tqdm(pool.map(hand_in, plan.copies), total=len(plan.copies), desc="submitted", unit="job"))
        return 1 if follow(book, waiting) else 0
    finally:
        book.close()


def follow(book: Book, waiting: dict[str, str]) -> int:
    """Waits until all are finished; returns how many failed."""
    failed = 0
    with tqdm(total=len(waiting), desc="finished", unit="picture") as bar:
        while waiting:
            done: list[Job] = [job for job in book.find(*list(waiting)[:LOOK_COUNT]) if job.done]
            for job in done:
                name = waiting.pop(job.id)
                bar.update()
                if job.status != "succeeded":
                    failed += 1
                    failure(name, (job.error or {}).get("detail") or job.status)
            if not done:
                time.sleep(LOOK_SECONDS)
    return failed


def hand_to_remote(
    options: argparse.Namespace, plan: Plan, source: str, sink: str, parameters: UpscaleParameters
) -> int:
    """Over HTTP, from bucket to bucket: the images do not pass through this machine."""
    remote, failed = remote_of(options), 0
    try:

        def enlarge(copy: Copy) -> str | None:
            given = asked(parameters, copy.target)
            job = remote.submit_url(f"{source}/{copy.source}", f"{sink}/{copy.target}", given)
            return outcome(list(remote.follow(job))[-1])

        failed = each_of(plan.copies, enlarge, lambda copy: copy.source)
    finally:
        remote.close()
    return 1 if failed else 0


# -- by a service ------------------------------------------------------------------------------------------------------


def run_remote(options: argparse.Namespace, tasks: list[Task], parameters: UpscaleParameters) -> int:
    remote = remote_of(options)
    try:

        def enlarge(task: Task) -> str | None:
            image, given = task.source.read_bytes(), asked(parameters, task.target.name)
            job = remote.submit(image, task.source.name, given)
            if job is None:
                remote.stream(image, task.source.name, given, task.target)
                return None
            job = list(remote.follow(job))[-1]
            if job["status"] == "succeeded":
                remote.fetch(job, task.target)
            return outcome(job)

        return 1 if each_of(tasks, enlarge, lambda task: str(task.source)) else 0
    finally:
        remote.close()


def remote_of(options: argparse.Namespace) -> Remote:
    return Remote(options.remote, os.environ.get(CLIENT_KEY))


def outcome(job: dict[str, Any]) -> str | None:
    """The error, if there was one."""
    return None if job["status"] == "succeeded" else (job["error"] or {}).get("detail") or job["status"]


def each_of(items: Sequence[Item], enlarge: Callable[[Item], str | None], name: Callable[[Item], str]) -> int:
    """A few at a time; returns how many failed."""

    def attempt(item: Item) -> str | None:
        try:
            return enlarge(item)
        except EnlargerError as error:
            return error.detail
        except OSError as error:
            return error.strerror or str(error)

    failed = 0
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for item, wrong in zip(items, tqdm(pool.map(attempt, items), total=len(items), unit="picture"), strict=True):
            if wrong:
                failed += 1
                failure(name(item), wrong)
    return failed
