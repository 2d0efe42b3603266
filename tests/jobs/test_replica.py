"""Replicas as processes, with the real databases: nothing that was accepted is lost, and nothing is done twice."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from app.jobs.book import Book, Cursor
from app.jobs.records import UPLOAD, Job, JobSpec, new_id
from harness import ROOT
from harness.postgres import Postgres

PATIENCE = 180.0  # seconds


class Cluster:
    """A database, and replicas that work on each job for so many seconds."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.book, self.notes = url, Book(url), folder / "notes"
        self.replicas: list[subprocess.Popen[str]] = []

    def start(self, seconds: float = 0.3) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "harness.replica", self.url, str(self.notes), str(seconds)]
        pipe = subprocess.PIPE
        replica = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        self.replicas.append(replica)
        assert replica.stdout
        assert replica.stdout.readline().startswith("ready")
        return replica

    def close(self, replica: subprocess.Popen[str]) -> None:
        assert replica.stdin
        replica.stdin.close()
        assert replica.wait(PATIENCE) == 0

    def submit(self, count: int = 1, seconds: float = 0.1, **more: Any) -> list[str]:
        ids = [new_id() for _ in range(count)]
        for job_id in ids:
            self.book.enqueue(job_id, "me", JobSpec(UPLOAD, {}, seconds=seconds, **more))
        return ids

    def jobs(self, ids: list[str]) -> list[Job]:
        return self.book.find(*ids)

    def wait(self, ids: list[str], until: Callable[[Job], bool] = lambda job: job.done) -> list[Job]:
        end = time.monotonic() + PATIENCE
        while not all(map(until, jobs := self.jobs(ids))):
            assert time.monotonic() < end, Counter(job.status for job in jobs)
            time.sleep(0.1)
        return jobs

    def noted(self, event: str, ids: list[str]) -> Counter[str]:
        """How often each of the jobs was begun, or ended."""
        lines = map(json.loads, self.notes.read_text().splitlines()) if self.notes.exists() else iter(())
        return Counter(line["job"] for line in lines if line["event"] == event and line["job"] in ids)

    def wait_until_noted(self, event: str, ids: list[str]) -> None:
        end = time.monotonic() + PATIENCE
        while len(self.noted(event, ids)) < len(ids):
            assert time.monotonic() < end
            time.sleep(0.05)


@contextmanager
def cluster_of(url: str, folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(url, folder)
    try:
        yield cluster
    finally:
        for replica in cluster.replicas:
            replica.kill()
            replica.wait()
            for pipe in (replica.stdin, replica.stdout):
                assert pipe
                pipe.close()
        cluster.book.close()


@pytest.fixture(params=["embedded", "shared"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """With each of the databases."""
    shared = request.param == "shared"
    url = request.getfixturevalue("postgres").url() if shared else f"sqlite:///{tmp_path}/jobs.sqlite3"
    with cluster_of(url, tmp_path) as made:
        yield made


@pytest.fixture
def shared(postgres: Postgres, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(postgres.url(), tmp_path) as made:
        yield made


def test_what_a_killed_service_had_begun_and_what_waited_is_done_after_the_next_start(cluster: Cluster) -> None:
    first = cluster.start(seconds=60)
    ids = cluster.submit(4)
    cluster.wait_until_noted("begin", ids[:2])
    first.kill()
    first.wait()
    cluster.start()
    assert {job.status for job in cluster.wait(ids)} == {"succeeded"}
    assert set(cluster.noted("end", ids).values()) == {1}


def test_the_jobs_of_a_killed_replica_go_on_elsewhere(shared: Cluster) -> None:
    dying = shared.start(seconds=60)
    ids = shared.submit(2)
    shared.wait_until_noted("begin", ids)
    shared.start()
    dying.kill()
    assert {job.status for job in shared.wait(ids)} == {"succeeded"}
    assert shared.noted("begin", ids) == Counter(dict.fromkeys(ids, 2))


def test_a_replica_that_was_thought_dead_and_wakes_writes_nothing(shared: Cluster) -> None:
    sleeping = shared.start(seconds=2)
    (job_id,) = shared.submit()
    shared.wait_until_noted("begin", [job_id])
    sleeping.send_signal(signal.SIGSTOP)
    shared.start()
    (before,) = shared.wait([job_id])
    sleeping.send_signal(signal.SIGCONT)
    (other,) = shared.submit()
    shared.wait([other])
    shared.close(sleeping)  # it has lived on for long enough to end what it had begun, had it not been stopped
    assert shared.jobs([job_id]) == [before]


def test_what_a_replica_hands_back_is_done_by_its_successor(cluster: Cluster) -> None:
    leaving = cluster.start(seconds=60)
    ids = cluster.submit(3)
    cluster.wait_until_noted("begin", ids[:2])
    cluster.close(leaving)
    assert {job.status for job in cluster.jobs(ids)} == {"queued"}
    cluster.start()
    assert {job.status for job in cluster.wait(ids)} == {"succeeded"}


def test_a_canceled_job_ends_where_it_is_worked_on_and_one_that_waits_never_begins(cluster: Cluster) -> None:
    cluster.start(seconds=60)
    begun = cluster.submit(2)
    cluster.wait_until_noted("begin", begun)
    (waiting,) = cluster.submit()
    for job_id in (*begun, waiting):
        cluster.book.cancel(job_id)
    (after,) = cluster.submit()  # its turn comes only when those have ended
    cluster.wait_until_noted("begin", [after])
    assert {job.status for job in cluster.jobs([*begun, waiting])} == {"canceled"}
    assert not cluster.noted("begin", [waiting])
    assert not cluster.noted("end", begun)


def test_a_finished_job_cannot_be_canceled(cluster: Cluster) -> None:
    cluster.start()
    ids = cluster.submit()
    before = cluster.wait(ids)
    cluster.book.cancel(ids[0])
    assert cluster.jobs(ids) == before


def test_a_job_that_crashes_every_replica_is_given_up_and_its_webhook_tells_once(tmp_path: Path) -> None:
    with cluster_of(f"sqlite:///{tmp_path}/jobs.sqlite3", tmp_path) as cluster:
        (job_id,) = cluster.submit(filename="crash", webhook="https://example.org/")
        (harmless,) = cluster.submit()
        for _ in range(8):
            replica = cluster.start(seconds=0.1)
            while replica.poll() is None and not cluster.jobs([job_id])[0].done:
                time.sleep(0.05)
        (job,) = cluster.jobs([job_id])
        assert job.status == "failed"
        assert job.error
        assert job.error["code"] == "crashed_before"
        assert {each.status for each in cluster.wait([harmless])} == {"succeeded"}
        cluster.wait_until_noted("told failed", [job_id])
        (after,) = cluster.submit(webhook="https://example.org/")
        cluster.wait_until_noted("told succeeded", [after])
        assert cluster.noted("told failed", [job_id]) == {job_id: 1}


def test_a_webhook_that_comes_before_the_outcome_waits_for_it_and_tells_once(cluster: Cluster) -> None:
    """As when a replica dies in between: it has handed the webhook in, and another one works on the job again."""
    cluster.start(seconds=2)
    (job_id,) = cluster.submit(webhook="https://example.org/")
    cluster.wait_until_noted("begin", [job_id])
    cluster.book.enqueue_webhook(job_id)
    cluster.wait_until_noted("told succeeded", [job_id])
    (after,) = cluster.submit(webhook="https://example.org/")
    cluster.wait_until_noted("told succeeded", [after])
    assert sum(cluster.noted(f"told {state}", [job_id]).total() for state in ("processing", "succeeded")) == 1


def test_the_oldest_comes_first_and_small_ones_do_not_wait_for_all_large_ones(shared: Cluster) -> None:
    large = shared.submit(12, seconds=100)
    small = shared.submit(4)
    shared.start(seconds=0.5)
    jobs = shared.wait([*large, *small])
    finished = {job.id: job.finished or 0 for job in jobs}
    assert max(finished[job_id] for job_id in small) < sorted(finished[job_id] for job_id in large)[-4]
    began = {job.id: job.started or 0 for job in jobs}
    assert max(began[job_id] for job_id in large[:4]) < min(began[job_id] for job_id in large[-4:])


def test_the_same_id_again_is_the_same_job(cluster: Cluster) -> None:
    (job_id,) = cluster.submit()
    for _ in range(3):
        cluster.book.enqueue(job_id, "me", JobSpec(UPLOAD, {}, seconds=0.1))
    cluster.start()
    cluster.wait([job_id])
    assert cluster.noted("begin", [job_id]) == {job_id: 1}


def test_a_list_is_paged_without_losing_or_repeating_any(cluster: Cluster) -> None:
    ids = cluster.submit(7)
    cluster.book.enqueue(new_id(), "another", JobSpec(UPLOAD, {}))
    pages, cursor = [], Cursor()
    while cursor:
        jobs, cursor = cluster.book.of_owner("me", 3, cursor)
        pages.append([job.id for job in jobs])
    assert sorted(chain.from_iterable(pages)) == sorted(ids)
    assert [len(page) for page in pages] == [3, 3, 1]


def test_a_database_that_restarts_again_and_again_loses_nothing(postgres: Postgres, tmp_path: Path) -> None:
    """It crashes while jobs wait for their turn, begin, and end: whichever question meets that asks again."""
    with cluster_of(postgres.url(), tmp_path) as cluster:
        cluster.start(seconds=0.1)
        ids = cluster.submit(30)
        for begun in (2, 10, 20):
            while len(cluster.noted("begin", ids)) < begun:
                time.sleep(0.02)
            postgres.stop("immediate")
            time.sleep(1)  # long enough that jobs meet it
            postgres.start()
        assert {job.status for job in cluster.wait(ids)} == {"succeeded"}
