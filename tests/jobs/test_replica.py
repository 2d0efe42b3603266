"""Replicas as processes, with the real databases: nothing that was accepted is lost, and nothing is done twice."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.jobs.book import NEWEST, Book
from app.jobs.records import UPLOAD, Job, JobSpec, new_id
from app.jobs.replica import STARTS
from harness.postgres import Postgres
from harness.replica import Fork, Nursery, Order, notes_in

PATIENCE = 180.0  # seconds
HOOK = "https://example.org/"


class Cluster:
    """A database, and replicas that share its jobs."""

    def __init__(self, url: str, folder: Path, nursery: Nursery) -> None:
        self.url, self.book, self.notes = url, Book(url), folder / "notes"
        self.replicas: list[Fork] = []
        self._nursery = nursery

    def start(self, seconds: float = 0.1) -> Fork:
        """One that works on each job for so many seconds, unless the job says otherwise."""
        replica = self._nursery.fork(Order(self.url, str(self.notes), seconds))
        self.replicas.append(replica)
        self.wait_for(lambda: replica.has_noted("ready"))
        return replica

    def submit(self, count: int = 1, seconds: float = 0.1, work: float | None = None, **more: Any) -> list[str]:
        """``seconds``: as estimated; ``work``: as it really takes."""
        ids = [new_id() for _ in range(count)]
        owner, parameters = more.pop("owner", "me"), {} if work is None else {"work": str(work)}
        for job_id in ids:
            self.book.enqueue(job_id, owner, JobSpec(UPLOAD, parameters, seconds=seconds, **more))
        return ids

    def jobs(self, ids: list[str]) -> list[Job]:
        return self.book.find(*ids)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, notes_in(self.notes)
            time.sleep(0.05)

    def wait(self, ids: list[str]) -> list[Job]:
        self.wait_for(lambda: all(job.done for job in self.jobs(ids)))
        return self.jobs(ids)

    def noted(self, event: str, ids: list[str]) -> Counter[str]:
        """How often each of the jobs was begun, or ended."""
        return Counter(
            str(note["job"]) for note in notes_in(self.notes) if note["event"] == event and note["job"] in ids
        )

    def wait_until_noted(self, event: str, ids: list[str]) -> None:
        self.wait_for(lambda: len(self.noted(event, ids)) == len(ids))


@contextmanager
def cluster_of(url: str, folder: Path, nursery: Nursery) -> Iterator[Cluster]:
    cluster = Cluster(url, folder, nursery)
    try:
        yield cluster
    finally:
        for replica in cluster.replicas:
            replica.kill()
        cluster.book.close()


def url_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    if kind == "embedded":
        return f"sqlite:///{folder}/jobs.sqlite3"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.url()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture(params=["embedded", "shared"])
def cluster(request: pytest.FixtureRequest, nursery: Nursery, tmp_path: Path) -> Iterator[Cluster]:
    """With each of the databases, an empty one, and no replica yet."""
    with cluster_of(url_of(request.param, request, tmp_path), tmp_path, nursery) as made:
        yield made


@pytest.fixture
def shared(postgres: Postgres, nursery: Nursery, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(postgres.url(), tmp_path, nursery) as made:
        yield made


@pytest.fixture(scope="module", params=["embedded", "shared"])
def calm(
    request: pytest.FixtureRequest, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """One replica that nothing happens to, for all tests that need no more."""
    folder = tmp_path_factory.mktemp("calm")
    with cluster_of(url_of(request.param, request, folder), folder, nursery) as made:
        made.start()
        yield made


def test_what_a_killed_service_had_begun_and_what_waited_is_done_after_the_next_start(cluster: Cluster) -> None:
    first = cluster.start(seconds=60)
    ids = cluster.submit(4)
    cluster.wait_until_noted("begin", ids[:2])
    first.kill()
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
    sleeping.signal(signal.SIGSTOP)
    shared.start()
    (before,) = shared.wait([job_id])
    sleeping.signal(signal.SIGCONT)
    (other,) = shared.submit()
    shared.wait([other])
    sleeping.close(PATIENCE)  # it has lived on for long enough to end what it had begun, had it not been stopped
    assert shared.jobs([job_id]) == [before]


def test_what_a_replica_hands_back_is_done_by_its_successor(cluster: Cluster) -> None:
    leaving = cluster.start(seconds=60)
    ids = cluster.submit(3)
    cluster.wait_until_noted("begin", ids[:2])
    leaving.close(PATIENCE)
    assert {job.status for job in cluster.jobs(ids)} == {"queued"}
    cluster.start()
    assert {job.status for job in cluster.wait(ids)} == {"succeeded"}


def test_a_canceled_job_ends_where_it_is_worked_on_and_one_that_waits_never_begins(calm: Cluster) -> None:
    begun = calm.submit(2, work=60)
    calm.wait_until_noted("begin", begun)
    (waiting,) = calm.submit()
    for job_id in (*begun, waiting):
        calm.book.cancel(job_id)
    (after,) = calm.submit()  # its turn comes only when those have ended
    calm.wait_until_noted("begin", [after])
    assert {job.status for job in calm.jobs([*begun, waiting])} == {"canceled"}
    assert not calm.noted("begin", [waiting])
    assert not calm.noted("end", begun)


def test_a_finished_job_cannot_be_canceled(calm: Cluster) -> None:
    ids = calm.submit()
    before = calm.wait(ids)
    calm.book.cancel(ids[0])
    assert calm.jobs(ids) == before


def test_a_job_that_crashes_every_replica_is_given_up_and_its_webhook_tells_once(
    nursery: Nursery, tmp_path: Path
) -> None:
    with cluster_of(f"sqlite:///{tmp_path}/jobs.sqlite3", tmp_path, nursery) as cluster:
        (job_id,) = cluster.submit(filename="crash", webhook=HOOK)
        (harmless,) = cluster.submit()
        for _ in range(STARTS + 1):
            replica = cluster.start()
            cluster.wait_for(lambda replica=replica: not replica.lives or cluster.jobs([job_id])[0].done)
        (job,) = cluster.jobs([job_id])
        assert job.status == "failed"
        assert job.error
        assert job.error["code"] == "crashed_before"
        assert cluster.noted("begin", [job_id]) == {job_id: STARTS}
        assert {each.status for each in cluster.wait([harmless])} == {"succeeded"}
        cluster.wait_until_noted("told failed", [job_id])
        (after,) = cluster.submit(webhook=HOOK)
        cluster.wait_until_noted("told succeeded", [after])
        assert cluster.noted("told failed", [job_id]) == {job_id: 1}


def test_a_webhook_that_comes_before_the_outcome_waits_for_it_and_tells_once(calm: Cluster) -> None:
    """As when a replica dies in between: it has handed the webhook in, and another one works on the job again."""
    (job_id,) = calm.submit(work=2, webhook=HOOK)
    calm.wait_until_noted("begin", [job_id])
    calm.book.enqueue_webhook(job_id)
    calm.wait_until_noted("told succeeded", [job_id])
    (after,) = calm.submit(webhook=HOOK)
    calm.wait_until_noted("told succeeded", [after])
    assert sum(calm.noted(f"told {state}", [job_id]).total() for state in ("processing", "succeeded")) == 1


def test_the_oldest_comes_first_and_small_ones_do_not_wait_for_all_large_ones(calm: Cluster) -> None:
    busy = [*calm.submit(2, work=60), *calm.submit(2, seconds=100, work=60)]
    calm.wait_until_noted("begin", busy)
    large = calm.submit(12, seconds=100, work=0.3)
    small = calm.submit(4)
    for job_id in busy:
        calm.book.cancel(job_id)
    jobs = calm.wait([*large, *small])
    finished = {job.id: job.finished or 0 for job in jobs}
    assert max(finished[job_id] for job_id in small) < sorted(finished[job_id] for job_id in large)[-4]
    began = {job.id: job.started or 0 for job in jobs}
    assert max(began[job_id] for job_id in large[:4]) < min(began[job_id] for job_id in large[-4:])
    assert max(began[job_id] for job_id in small[:2]) <= min(began[job_id] for job_id in small[2:])


def test_the_same_id_again_is_the_same_job(calm: Cluster) -> None:
    (job_id,) = calm.submit()
    for _ in range(3):
        calm.book.enqueue(job_id, "me", JobSpec(UPLOAD, {}, seconds=0.1))
    calm.wait([job_id])
    calm.wait(calm.submit())
    assert calm.noted("begin", [job_id]) == {job_id: 1}


def test_a_list_is_paged_without_losing_or_repeating_any_while_others_come(calm: Cluster) -> None:
    ids = calm.submit(7, owner="lister")
    calm.submit(owner="another")
    pages: list[list[str]] = []
    before: str | None = NEWEST
    while before:
        jobs, before = calm.book.of_owner("lister", 3, before)
        pages.append([job.id for job in jobs])
        calm.submit(2, owner="lister")
    assert pages == [ids[:3:-1], ids[3:0:-1], ids[:1]]


def test_a_database_that_restarts_again_and_again_loses_nothing(shared: Cluster, postgres: Postgres) -> None:
    """It crashes while jobs wait for their turn, begin, and end: whichever question meets that asks again."""
    shared.start()
    ids = shared.submit(30)
    for begun in (2, 10, 20):
        shared.wait_for(lambda begun=begun: len(shared.noted("begin", ids)) >= begun)
        postgres.stop("immediate")
        time.sleep(1)  # long enough that jobs meet it
        postgres.start()
    assert {job.status for job in shared.wait(ids)} == {"succeeded"}
