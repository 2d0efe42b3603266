"""Work that nobody waits for: computed in the time that requests leave, and never quite forgotten."""

import threading
import time

import numpy as np
import pytest

from app.errors import OverloadedError, ShuttingDownError, TooMuchMemoryError
from app.http.limits import ConcurrencyLimiter
from app.inference import turns
from app.inference.job import Job
from app.inference.scheduler import Scheduler
from harness.fakes import PATIENCE, FakeEngine, Pixels, make_spec, running

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
