"""Work that nobody waits for: computed in the time that requests leave, and never quite forgotten."""

import threading
import time

import numpy as np
import pytest

from app.errors import OverloadedError, ShuttingDownError, TooMuchMemoryError
from app.http.limits import ConcurrencyLimiter
from app.inference import scheduler as scheduler_module
from app.inference import turns
from app.inference.job import Job
from app.inference.scheduler import Scheduler
from app.inference.stopping import Stop, current_stop, giving_up
from app.inference.zoo import ModelSpec
from harness.fakes import PATIENCE, FakeEngine, Pixels, make_spec, nearest, running

SPEC = make_spec()


def window(tag: int) -> Pixels:
    return np.full((8, 8, 3), tag, np.uint8)


def submit(job: Job, tag: int, count: int) -> list:
    return [job.submit(SPEC, window(tag)) for _ in range(count)]


def hold(scheduler: Scheduler, engine: FakeEngine) -> Job:
    engine.gate.clear()
    plug = scheduler.open([(SPEC, 64)], time.monotonic() + 1e6)
    plug.submit(SPEC, window(255))
    assert engine.reached.wait(PATIENCE)
    return plug


def test_requests_come_first_however_long_the_background_has_waited() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        plug = hold(scheduler, engine)
        behind = scheduler.open_background([(SPEC, 3 * 64)])
        futures = submit(behind, 1, 3)
        ahead = scheduler.open([(SPEC, 3 * 64)], time.monotonic() + 1e6)
        waited = submit(ahead, 2, 3)
        plug.close()
        engine.gate.set()
        for future in waited:
            future.result(PATIENCE)
        assert not any(future.done() for future in futures)
        ahead.close()
        for future in futures:
            future.result(PATIENCE)
        behind.close()


def test_what_is_computed_of_the_background_is_given_up_for_a_request_and_computed_again() -> None:
    given_up, reached, calls = threading.Event(), threading.Event(), []

    def run(spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        calls.append(int(windows[0][0, 0, 0]))
        if calls == [1]:
            with giving_up(given_up.set, (RuntimeError,)):
                reached.set()
                assert given_up.wait(PATIENCE)
                raise RuntimeError("Exiting due to terminate flag being set to true")
        return [nearest(window, spec.scale) for window in windows]

    scheduler = Scheduler(run, lambda spec: 1e-6, 60)
    behind = scheduler.open_background([(SPEC, 64)])
    (future,) = submit(behind, 1, 1)
    assert reached.wait(PATIENCE)
    ahead = scheduler.open([(SPEC, 64)], time.monotonic() + 1e6)
    (waited,) = submit(ahead, 2, 1)
    assert waited.result(PATIENCE)[0, 0, 0] == 2
    assert not future.done()
    assert behind.left.total() == 64
    ahead.close()
    assert future.result(PATIENCE)[0, 0, 0] == 1
    assert (calls, behind.left.total()) == ([1, 2, 1], 0)
    behind.close()
    scheduler.close()


def test_what_patience_has_begun_is_computed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", -1.0)
    stops: list[Stop | None] = []
    engine = FakeEngine(before=lambda windows: stops.append(current_stop()))
    with running(engine) as scheduler:
        behind = scheduler.open_background([(SPEC, 64)])
        (future,) = submit(behind, 1, 1)
        future.result(PATIENCE)
        behind.close()
    assert stops == [None]


def test_what_a_background_job_does_beside_the_engine_waits_for_requests() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        behind = scheduler.open_background([(SPEC, 64)])
        ahead = scheduler.open([(SPEC, 64)], time.monotonic() + 1e6)
        went_on = threading.Event()

        def work() -> None:
            with behind.beside():
                went_on.set()

        thread = threading.Thread(target=work)
        thread.start()
        with ahead.beside():  # which is for the others
            assert not went_on.wait(0.1)
        ahead.close()
        assert went_on.wait(PATIENCE)
        thread.join()
        behind.close()


def test_half_of_the_cores_work_beside_the_engine_for_background_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "usable_cores", lambda: 4)
    with running(FakeEngine()) as scheduler:
        jobs = [scheduler.open_background([(SPEC, 64)]) for _ in range(3)]
        third = threading.Event()

        def work() -> None:
            with jobs[2].beside():
                third.set()

        thread = threading.Thread(target=work)
        with jobs[0].beside():
            with jobs[1].beside():
                thread.start()
                assert not third.wait(0.1)
            assert third.wait(PATIENCE)
        thread.join()
        for job in jobs:
            job.close()


def test_one_window_is_computed_when_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.0)
    engine = FakeEngine()
    with running(engine) as scheduler:
        plug = hold(scheduler, engine)
        behind = scheduler.open_background([(SPEC, 64)])
        (future,) = submit(behind, 1, 1)
        ahead = scheduler.open([(SPEC, 10_000 * 64)], time.monotonic() + 1e6)
        submit(ahead, 2, 20)
        engine.gate.set()
        future.result(PATIENCE)
        assert not ahead.cancelled
        for job in (plug, behind, ahead):
            job.close()


def test_the_background_counts_in_no_admission_and_is_refused_only_at_the_end() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        behind = scheduler.open_background([(SPEC, 10**12)])
        assert scheduler.backlog() == 0
        assert scheduler.seconds_left(behind) > 0
        scheduler.open([(SPEC, 64)], time.monotonic() + 1e6).close()
        behind.close()
        scheduler.refuse_new()
        with pytest.raises(ShuttingDownError):
            scheduler.open_background([(SPEC, 64)])


def test_memory_for_the_background_waits_for_room_that_a_request_would_be_refused() -> None:
    limiter = ConcurrencyLimiter(2, 100, 1000)
    limiter.take(2)
    with pytest.raises(OverloadedError):
        limiter.take(1)
    held, freed = threading.Event(), threading.Event()

    def work() -> None:
        with limiter.hold(150, lambda seconds: freed.wait(PATIENCE) and None):
            held.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not held.is_set()
    limiter.release(2, 1.0)
    freed.set()
    assert held.wait(PATIENCE)
    thread.join()
    limiter.take(2)
    with pytest.raises(TooMuchMemoryError), limiter.hold(201, time.sleep):
        pass
