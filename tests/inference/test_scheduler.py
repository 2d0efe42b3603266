"""The queue under every kind of load: whose turn it is, what is batched, and that each job gets exactly one outcome."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count, pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from app.errors import (
    CancelledError,
    ComputeError,
    DeadlineError,
    EnlargerError,
    OutOfMemoryError,
    OverloadedError,
    ShuttingDownError,
    TooMuchWorkError,
)
from app.inference.batching import MOST_WINDOWS, Rates
from app.inference.job import HEAVY_WINDOW, Job
from app.inference.scheduler import Scheduler
from app.inference.turns import SILENCE
from app.inference.zoo import ModelSpec
from harness.fakes import PATIENCE, FakeEngine, Pixels, make_spec, nearest, running, wait_until

SPEC = make_spec()
SIDE = 8
PIXELS = SIDE * SIDE  # of one window
PLUG = 255


def window(tag: int, width: int = SIDE) -> Pixels:
    return np.full((SIDE, width, 3), tag, np.uint8)


def start(
    scheduler: Scheduler,
    tag: int,
    windows: int = 1,
    spec: ModelSpec = SPEC,
    width: int = SIDE,
    seconds: float = PATIENCE,
) -> tuple[Job, list[Future[Pixels]]]:
    """A job with so many windows in the queue, all of them filled with ``tag``."""
    job = scheduler.open([(spec, windows * SIDE * width)], time.monotonic() + 1e6)
    job.deadline = time.monotonic() + seconds  # set when it is admitted, so that any will do
    return job, [job.submit(spec, window(tag, width)) for _ in range(windows)]


def hold(scheduler: Scheduler, engine: FakeEngine) -> tuple[Job, list[Future[Pixels]]]:
    """Keeps the runner busy until the gate opens, so that what follows is queued before any of it is computed."""
    engine.gate.clear()
    held = start(scheduler, PLUG, spec=make_spec("plug"))
    assert engine.reached.wait(PATIENCE)
    return held


def finish(job: Job, futures: list[Future[Pixels]]) -> list[Pixels]:
    with job:
        return [job.result(future) for future in futures]


def fail_on(tag: int, error: Exception) -> FakeEngine:
    def check(windows: list[Pixels]) -> None:
        if any(window[0, 0, 0] == tag for window in windows):
            raise error

    return FakeEngine(before=check)


def test_a_small_job_beside_a_huge_one_is_served_in_turn() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        hold(scheduler, engine)
        jobs = [start(scheduler, 1, windows=40), start(scheduler, 2, windows=3), start(scheduler, 3, windows=3)]
        engine.gate.set()
        for job in jobs:
            finish(*job)
    assert engine.computed[1:10] == [1, 2, 3] * 3
    assert engine.computed[10:] == [1] * 37


def test_turns_are_of_equal_cost_however_small_the_windows() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        hold(scheduler, engine)
        jobs = [start(scheduler, 1, windows=4, width=4 * SIDE), start(scheduler, 2, windows=12, width=SIDE)]
        engine.gate.set()
        for job in jobs:
            finish(*job)
    assert engine.computed[1:] == [1, *[2] * 4, 1, *[2] * 4, 1, *[2] * 4, 1]


def test_a_job_that_had_nothing_to_compute_has_no_credit() -> None:
    """A slow reader's next windows take turns with the others', they do not go before them."""
    engine = FakeEngine()
    with running(engine) as scheduler:
        hold(scheduler, engine)
        huge = start(scheduler, 1, windows=40)
        job = scheduler.open([(SPEC, 6 * PIXELS)], time.monotonic() + PATIENCE)
        futures = [job.submit(SPEC, window(2))]
        late: list[Future[Pixels]] = []
        engine._before = lambda windows: (
            late or len(engine.computed) < 20 or late.extend(job.submit(SPEC, window(2)) for _ in range(5))
        )
        engine.gate.set()
        finish(*huge)
        finish(job, [*futures, *late])
    places = [place for place, tag in enumerate(engine.computed) if tag == 2 and place > 10]
    assert len(places) == 5
    assert {after - before for before, after in pairwise(places)} == {2}


def test_a_job_that_comes_late_waits_for_one_window_of_each_other_and_not_for_the_picture() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        hold(scheduler, engine)
        huge = start(scheduler, 1, windows=40)
        late: list[tuple[Job, list[Future[Pixels]]]] = []
        engine._before = lambda windows: late or late.append(start(scheduler, 2))
        engine.gate.set()
        finish(*huge)
        finish(*late[0])
    assert engine.computed.index(2) <= 3


def test_windows_of_one_job_come_back_in_their_places() -> None:
    engine = FakeEngine()
    with (
        running(engine, batch_macs=3 * PIXELS) as scheduler,
        scheduler.open([(SPEC, 20 * PIXELS)], time.monotonic() + 60) as job,
    ):
        futures = [job.submit(SPEC, window(tag)) for tag in range(20)]
        assert [int(job.result(future)[0, 0, 0]) for future in futures] == list(range(20))


def test_windows_of_several_jobs_share_batches_up_to_the_limit() -> None:
    engine = FakeEngine()
    with running(engine, batch_macs=4 * PIXELS) as scheduler:
        hold(scheduler, engine)
        jobs = [start(scheduler, tag, windows=3) for tag in (1, 2, 3)]
        engine.gate.set()
        for tag, job in enumerate(jobs, start=1):
            for result in finish(*job):
                np.testing.assert_array_equal(result, nearest(window(tag), SPEC.scale))
    assert [len(batch) for batch in engine.batches[1:]] == [4, 4, 1]
    assert Counter(engine.computed[1:]) == {1: 3, 2: 3, 3: 3}


def test_networks_and_shapes_are_never_mixed_in_a_batch() -> None:
    engine = FakeEngine()
    kinds = [(SPEC, 8), (SPEC, 16), (make_spec(scale=3), 8), (make_spec("other"), 8)]
    with running(engine, batch_macs=64 * PIXELS) as scheduler:
        hold(scheduler, engine)
        jobs = [
            start(scheduler, tag, windows=2, spec=spec, width=width)
            for tag, (spec, width) in enumerate(kinds)
            for _ in range(2)
        ]
        engine.gate.set()
        for job in jobs:
            finish(*job)
    assert all(len(kind) == 1 for kind in engine.kinds)
    assert sorted(engine.batches[1:]) == [[tag] * 4 for tag in range(4)]


@pytest.mark.parametrize("leave", [Job.cancel, Job.close], ids=["cancel", "close"])
def test_what_is_queued_is_dropped_when_its_job_leaves(leave: Callable[[Job], None]) -> None:
    engine = FakeEngine()
    with running(engine, batch_macs=4 * PIXELS) as scheduler:
        hold(scheduler, engine)
        job, futures = start(scheduler, 1, windows=5)
        other = start(scheduler, 2, windows=5)
        leave(job)
        assert all(future.cancelled() for future in [*futures, job.submit(SPEC, window(1))])
        with pytest.raises(CancelledError):
            job.result(futures[0])
        engine.gate.set()
        finish(*other)
        job.close()
        job.close()
    assert 1 not in engine.computed
    assert engine.computed.count(2) == 5


def test_cancelling_wakes_the_thread_that_waits_for_a_result() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler, ThreadPoolExecutor(1) as pool:
        hold(scheduler, engine)
        job, futures = start(scheduler, 1)
        waiting = pool.submit(finish, job, futures)
        job.cancel()
        with pytest.raises(CancelledError):
            waiting.result(timeout=PATIENCE)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.05])
def test_a_job_waits_no_longer_than_its_deadline(seconds: float) -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        hold(scheduler, engine)
        job, futures = start(scheduler, 1, windows=3, seconds=seconds)
        with pytest.raises(DeadlineError):
            finish(job, futures)
        engine.gate.set()
        finish(*start(scheduler, 2))
    assert 1 not in engine.computed


def test_a_result_that_is_there_is_given_even_after_the_deadline() -> None:
    with running(FakeEngine()) as scheduler:
        job, futures = start(scheduler, 1)
        futures[0].result(timeout=PATIENCE)
        job.deadline = time.monotonic() - 1
        assert len(finish(job, futures)) == 1


def test_overload_is_refused_with_the_time_until_there_is_room_and_nothing_accepted_is_lost() -> None:
    engine = FakeEngine()
    with running(engine, rate=1 / PIXELS, max_seconds=10) as scheduler:  # a second a window
        engine.gate.clear()
        alone = scheduler.open([(SPEC, 25 * PIXELS)], time.monotonic() + 60)  # over the limit, but the queue was empty
        with pytest.raises(OverloadedError) as refused:
            start(scheduler, 2)
        assert refused.value.retry_after == pytest.approx(15)
        assert (refused.value.limit, refused.value.actual) == (10, 25)
        futures = [alone.submit(SPEC, window(1)) for _ in range(25)]
        engine.gate.set()
        assert len(finish(alone, futures)) == 25
        assert scheduler.backlog() == 0
        assert len(finish(*start(scheduler, 3))) == 1
    assert Counter(engine.computed) == {1: 25, 3: 1}


def test_jobs_are_admitted_until_the_queue_is_longer_than_allowed() -> None:
    with running(FakeEngine(), rate=1 / PIXELS, max_seconds=10) as scheduler:
        admitted = []
        with pytest.raises(OverloadedError) as refused:
            admitted.extend(scheduler.open([(SPEC, 4 * PIXELS)], time.monotonic() + 60) for _ in range(100))
        assert refused.value.retry_after == pytest.approx(2)
        assert scheduler.backlog() == pytest.approx(12)


def test_what_cannot_be_done_by_its_deadline_is_not_admitted() -> None:
    with running(FakeEngine(), rate=1 / PIXELS) as scheduler:  # a second a window
        with pytest.raises(TooMuchWorkError) as refused:
            scheduler.open([(SPEC, 6 * PIXELS), (make_spec("other"), 5 * PIXELS)], time.monotonic() + 10)
        assert (refused.value.limit, refused.value.actual) == (10, 11)
        scheduler.open([(SPEC, 8 * PIXELS)], time.monotonic() + 10)
        with pytest.raises(OverloadedError) as late:
            scheduler.open([(SPEC, 5 * PIXELS)], time.monotonic() + 10)
        assert late.value.retry_after == pytest.approx(3, abs=0.1)


def test_a_job_whose_reader_is_slow_keeps_nobody_waiting() -> None:
    with running(FakeEngine(), rate=1 / PIXELS, max_seconds=10) as scheduler:
        slow = scheduler.open([(SPEC, 20 * PIXELS)], time.monotonic() + 60)
        assert scheduler.backlog() == pytest.approx(20), "it may begin at any moment"
        slow.result(slow.submit(SPEC, window(1)))
        assert scheduler.backlog() > 0, "it may only be encoding what it has"
        time.sleep(1.1 * SILENCE)
        assert scheduler.backlog() == 0, "nothing of it is queued"
        finish(*start(scheduler, 2))


def test_no_new_job_is_admitted_while_draining_and_those_in_flight_go_on() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        hold(scheduler, engine)
        job, futures = start(scheduler, 1, windows=3)
        scheduler.refuse_new()
        with pytest.raises(ShuttingDownError):
            start(scheduler, 2)
        futures.append(job.submit(SPEC, window(1)))
        engine.gate.set()
        assert len(finish(job, futures)) == 4


@pytest.mark.parametrize("error", [ComputeError("no memory"), ValueError("a secret")], ids=repr)
@pytest.mark.parametrize("batch", [1, 8])
def test_a_failing_window_fails_its_own_job_alone(error: Exception, batch: int) -> None:
    engine = fail_on(2, error)
    with running(engine, batch_macs=batch * PIXELS) as scheduler:
        hold(scheduler, engine)
        jobs = {tag: start(scheduler, tag, windows=2) for tag in (1, 2, 3)}
        engine.gate.set()
        for tag in (1, 3):
            for result in finish(*jobs[tag]):
                np.testing.assert_array_equal(result, nearest(window(tag), SPEC.scale))
        with pytest.raises(ComputeError) as raised:
            finish(*jobs[2])
        assert "a secret" not in raised.value.detail
        assert len(finish(*start(scheduler, 4))) == 1, "the runner survives"


# -- what a batch costs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("macs", "width", "sizes"), [(1, 8, [8]), (2, 8, [4, 4]), (1, 16, [4, 4]), (9, 8, [1] * 8)])
def test_a_batch_is_bounded_by_what_it_costs(macs: int, width: int, sizes: list[int]) -> None:
    engine, spec = FakeEngine(), make_spec(macs=macs)
    with running(engine, batch_macs=8 * PIXELS) as scheduler:
        hold(scheduler, engine)
        jobs = [start(scheduler, tag, windows=4, spec=spec, width=width) for tag in (1, 2)]
        engine.gate.set()
        for job in jobs:
            finish(*job)
    assert [len(batch) for batch in engine.batches[1:]] == sizes


def test_batches_have_few_sizes() -> None:
    engine = FakeEngine()
    with running(engine, batch_macs=1000 * PIXELS) as scheduler:
        hold(scheduler, engine)
        job = start(scheduler, 1, windows=MOST_WINDOWS + 7)
        engine.gate.set()
        finish(*job)
    assert [len(batch) for batch in engine.batches[1:]] == [MOST_WINDOWS, 4, 2, 1]


def test_a_batch_takes_from_every_job_in_turn() -> None:
    engine = FakeEngine()
    with running(engine, batch_macs=4 * PIXELS) as scheduler:
        hold(scheduler, engine)
        jobs = [start(scheduler, tag, windows=count) for tag, count in ((1, 8), (2, 1), (3, 1))]
        engine.gate.set()
        for job in jobs:
            finish(*job)
    assert sorted(engine.batches[1]) == [1, 1, 2, 3]


# -- out of memory -----------------------------------------------------------------------------------------------


def short_of_memory(most: int, error: type[Exception] = MemoryError) -> FakeEngine:
    def check(windows: list[Pixels]) -> None:
        if len(windows) > most:
            raise error("out of memory")

    return FakeEngine(before=check)


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
def test_a_batch_too_large_for_the_memory_is_halved_once_and_for_good(error: type[Exception]) -> None:
    engine = short_of_memory(4, error)
    with running(engine, batch_macs=8 * PIXELS) as scheduler:
        hold(scheduler, engine)
        jobs = [start(scheduler, tag, windows=8) for tag in (1, 2)]
        other = start(scheduler, 3, windows=8, spec=make_spec("other"))
        engine.gate.set()
        for tag, job in enumerate(jobs, start=1):
            for result in finish(*job):
                np.testing.assert_array_equal(result, nearest(window(tag), SPEC.scale))
        finish(*other)
    sizes = [(len(batch), 3 in batch) for batch in engine.batches[1:]]
    assert [size for size, is_other in sizes if not is_other] == [8, 4, 4, 4, 4], "the new budget is remembered"
    assert [size for size, is_other in sizes if is_other] == [8, 4, 4], "another network's is its own"


def test_what_does_not_fit_alone_is_told_so_and_the_service_lives_on() -> None:
    engine = short_of_memory(0)
    with running(engine) as scheduler:
        job, futures = start(scheduler, 1)
        with pytest.raises(OutOfMemoryError) as raised:
            finish(job, futures)
        error = raised.value
        assert (error.status, error.code, error.retryable) == (503, "out_of_memory", True)
        engine._before = lambda windows: None
        assert len(finish(*start(scheduler, 2))) == 1


def test_halves_that_do_not_fit_either_are_given_up_and_the_next_batch_is_smaller() -> None:
    engine = short_of_memory(2)
    with running(engine, batch_macs=8 * PIXELS) as scheduler:
        hold(scheduler, engine)
        job, futures = start(scheduler, 1, windows=8)
        engine.gate.set()
        for future in futures:
            with pytest.raises(OutOfMemoryError):
                job.result(future)
        job.close()
        assert [len(batch) for batch in engine.batches[1:]] == [8, 4, 4]
        assert len(finish(*start(scheduler, 2, windows=4))) == 4
    assert max(len(batch) for batch in engine.batches[4:]) == 2


# -- who leaves, who is in a hurry -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4])
def test_a_client_that_leaves_frees_the_engine_within_a_batch(batch: int) -> None:
    engine = FakeEngine()
    with running(engine, batch_macs=batch * PIXELS) as scheduler:
        engine.gate.clear()
        job, _ = start(scheduler, 1, windows=40)
        assert engine.reached.wait(PATIENCE)
        other = start(scheduler, 2)
        job.cancel()
        engine.gate.set()
        finish(*other)
    assert engine.computed.count(1) <= batch


@pytest.mark.parametrize(("seconds", "first"), [(9.5, 2), (1e4, 1)], ids=["in danger", "at ease"])
def test_a_job_in_danger_of_its_deadline_is_served_before_those_whose_turn_it_is(seconds: float, first: int) -> None:
    engine = FakeEngine()
    with running(engine, rate=1 / PIXELS, max_seconds=1e9) as scheduler:  # a second a window, as it believes
        hold(scheduler, engine)
        jobs = [start(scheduler, 1, windows=8, seconds=1e5), start(scheduler, 2, windows=8, seconds=seconds)]
        engine.gate.set()
        for job in jobs:
            finish(*job)
    assert engine.computed[1] == first


def test_a_job_that_cannot_meet_its_deadline_any_more_keeps_to_its_turn() -> None:
    engine = FakeEngine()
    with running(engine, rate=1 / PIXELS, max_seconds=1e9) as scheduler:
        hold(scheduler, engine)
        easy = start(scheduler, 1, windows=8, seconds=1e5)
        hopeless = start(scheduler, 2, windows=8, seconds=5)
        engine.gate.set()
        finish(*easy)
        finish(*hopeless)
    assert engine.computed[1:5] == [1, 2, 1, 2]


def test_what_is_late_is_not_computed() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler:
        hold(scheduler, engine)
        job, futures = start(scheduler, 1, windows=3, seconds=0.01)
        time.sleep(0.02)
        engine.gate.set()
        for future in futures:
            with pytest.raises(DeadlineError):
                future.result(PATIENCE)
        job.close()
    assert engine.computed == [PLUG]


def test_small_windows_dear_for_their_size_do_not_spoil_the_rate_of_large_ones() -> None:
    rates = Rates(lambda spec: 1e-6)
    for _ in range(100):
        rates.learn(SPEC, 100_000, 0.1)
        rates.learn(SPEC, 100, 0.001)  # ten times as dear a pixel
    assert rates.seconds(SPEC, 1_000_000) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("change", [-1, 1], ids=["missing", "left over"])
def test_a_wrong_number_of_results_fails_the_batch_and_the_runner_survives(change: int) -> None:
    def run(spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        return [nearest(windows[0], spec.scale)] * (len(windows) + change * (windows[0][0, 0, 0] == 1))

    scheduler = Scheduler(run, lambda spec: 1e-6, 60)
    try:
        with pytest.raises(ComputeError):
            finish(*start(scheduler, 1, seconds=PATIENCE))
        assert len(finish(*start(scheduler, 2))) == 1
    finally:
        scheduler.close()


def test_closing_ends_the_queue_at_once_and_the_runner_with_its_batch() -> None:
    engine = FakeEngine()
    with running(engine) as scheduler, ThreadPoolExecutor(1) as pool:
        held_job, held = hold(scheduler, engine)
        job, queued = start(scheduler, 1, windows=20)
        closing = pool.submit(scheduler.close)
        with pytest.raises(CancelledError):
            job.result(queued[-1])
        assert job.submit(SPEC, window(1)).cancelled()
        with pytest.raises(ShuttingDownError):
            start(scheduler, 2)
        assert not closing.done(), "a batch in the engine cannot be broken off"
        engine.gate.set()
        closing.result(timeout=PATIENCE)
        assert len(finish(held_job, held)) == 1
    assert engine.computed == [PLUG]
    assert not any(thread.is_alive() for thread in scheduler._threads)


def test_an_idle_scheduler_closes_and_may_be_closed_again() -> None:
    scheduler = Scheduler(FakeEngine().run, lambda spec: 1e-6, 60)
    scheduler.close()
    scheduler.close()
    assert not any(thread.is_alive() for thread in scheduler._threads)


@pytest.mark.parametrize("first_estimate", [0.01, 1.0, 100.0], ids=["too low", "true", "too high"])
def test_the_rate_of_a_network_is_learned_and_that_of_another_is_not_touched(
    first_estimate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count()  # each look at the clock is a second after the one before: a second a batch
    clock = SimpleNamespace(perf_counter=lambda: next(seconds), monotonic=time.monotonic)
    monkeypatch.setattr("app.inference.scheduler.time", clock)
    with running(FakeEngine(), rate=first_estimate / PIXELS, max_seconds=1e9) as scheduler:
        finish(*start(scheduler, 1, windows=300))
        assert scheduler.estimate(SPEC, PIXELS) == pytest.approx(1.0, rel=0.01)
        assert scheduler.estimate(make_spec("other"), PIXELS) == pytest.approx(first_estimate)


def test_the_backlog_is_what_is_left_of_the_accepted_work() -> None:
    engine = FakeEngine()
    with running(engine, rate=1 / PIXELS) as scheduler:
        held = hold(scheduler, engine)
        job = start(scheduler, 1, windows=5)
        assert scheduler.backlog() == pytest.approx(5)
        job[0].close()
        assert scheduler.backlog() == pytest.approx(0)
        engine.gate.set()
        finish(*held)


KINDS = ("plain", "poisoned", "cancelled", "late")
OUTCOMES = {
    "plain": {"done"},
    "poisoned": {"compute_failed"},
    "cancelled": {"done", "cancelled"},
    "late": {"done", "deadline_exceeded"},
}
POISON = 13


def live(scheduler: Scheduler, seed: int) -> tuple[str, str]:
    """One job from its admission to its end: its kind and its outcome."""
    rng = random.Random(seed)
    kind, tag = KINDS[seed % len(KINDS)], POISON if seed % len(KINDS) == 1 else rng.randrange(100, 250)
    job, futures = start(scheduler, tag, rng.randint(1, 6), seconds=0.0 if kind == "late" else PATIENCE)
    canceller = threading.Thread(target=job.cancel)
    if kind == "cancelled":
        canceller.start()
    try:
        results = finish(job, futures)
    except EnlargerError as error:
        return kind, error.code
    finally:
        if kind == "cancelled":
            canceller.join()
    assert all((result == tag).all() for result in results), "another job's pixels"
    return kind, "done"


@pytest.mark.parametrize("batch", [1, 4])
def test_of_200_jobs_from_8_threads_each_has_exactly_one_outcome(batch: int) -> None:
    with (
        running(fail_on(POISON, ValueError("poison")), batch_macs=batch * PIXELS) as scheduler,
        ThreadPoolExecutor(8) as pool,
    ):
        outcomes = list(pool.map(lambda seed: live(scheduler, seed), range(200)))
        assert scheduler.backlog() == 0
        assert not scheduler.jobs()
    assert len(outcomes) == 200
    assert all(outcome in OUTCOMES[kind] for kind, outcome in outcomes), Counter(outcomes)


# -- beside one another ------------------------------------------------------------------------------------------


class Lanes:
    """Who is called is noted; the first ``2 * pairs`` calls beside one another go on only when two of them have met."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.pairs = 0
        self._barrier = threading.Barrier(2, timeout=PATIENCE)

    def run_alone(self, spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        return self._run("alone", spec, windows)

    def run_beside(self, spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        meets = len(self.calls) < 2 * self.pairs
        results = self._run("beside", spec, windows)
        if meets:
            self._barrier.wait()
        return results

    def _run(self, how: str, spec: ModelSpec, windows: list[Pixels]) -> list[Pixels]:
        tag = int(windows[0][0, 0, 0])
        self.calls.append((how, tag))
        if tag == PLUG:
            raise RuntimeError("no picture")
        return [nearest(window, spec.scale) for window in windows]


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


@pytest.fixture
def two_lanes(lanes: Lanes) -> Iterator[Scheduler]:
    scheduler = Scheduler(lanes.run_alone, lambda spec: 1e-6, 60, run_beside=lanes.run_beside)
    yield scheduler
    scheduler.close()


def test_a_pictures_windows_are_computed_two_at_a_time(lanes: Lanes, two_lanes: Scheduler) -> None:
    lanes.pairs = 2
    for result in finish(*start(two_lanes, 1, windows=6)):
        np.testing.assert_array_equal(result, nearest(window(1), SPEC.scale))
    assert lanes.calls[:4] == [("beside", 1)] * 4
    assert len(lanes.calls) == 6


def test_a_window_with_nothing_beside_it_has_all_cores(lanes: Lanes, two_lanes: Scheduler) -> None:
    for tag in range(3):
        finish(*start(two_lanes, tag))
    assert lanes.calls == [("alone", tag) for tag in range(3)]


def test_a_window_whose_picture_has_more_to_come_leaves_cores_for_that(lanes: Lanes, two_lanes: Scheduler) -> None:
    with two_lanes.open([(SPEC, 2 * PIXELS)], time.monotonic() + PATIENCE) as job:
        job.result(job.submit(SPEC, window(1)))  # nothing else is queued, but announced
        job.result(job.submit(SPEC, window(2)))
    assert lanes.calls == [("beside", 1), ("alone", 2)]


def test_two_pictures_of_one_window_are_computed_beside_one_another(lanes: Lanes, two_lanes: Scheduler) -> None:
    lanes.pairs = 1
    with two_lanes._changed:  # both are queued before either is taken
        jobs = [start(two_lanes, 1), start(two_lanes, 2)]
    for job in jobs:
        finish(*job)
    assert sorted(lanes.calls) == [("beside", 1), ("beside", 2)]


@pytest.mark.parametrize(
    ("now", "how"), [(0.3, "alone"), (0.0, "beside")], ids=["the other lane is nearly ready", "it has just begun"]
)
def test_a_last_window_waits_for_all_cores_if_they_are_free_soon(
    now: float, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of three windows is thought to take 0.2 s alone, so 0.4 s beside another; the first is done at ``now``."""
    calls: list[tuple[str, int]] = []
    gates = {tag: threading.Event() for tag in (1, 2, 3)}
    clock = SimpleNamespace(now=0.0)
    looking = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: clock.now)
    monkeypatch.setattr("app.inference.scheduler.time", looking)
    monkeypatch.setattr("app.inference.job.time", looking)

    def run(how: str, spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        tag = int(windows[0][0, 0, 0])
        calls.append((how, tag))
        assert gates[tag].wait(PATIENCE)
        return [nearest(window, spec.scale) for window in windows]

    scheduler = Scheduler(partial(run, "alone"), lambda spec: 0.2 / PIXELS, 60, run_beside=partial(run, "beside"))
    with scheduler.open([(SPEC, 3 * PIXELS)], PATIENCE) as job:
        futures = [job.submit(SPEC, window(tag)) for tag in gates]
        wait_until(lambda: len(calls) == 2)
        clock.now = now
        gates[3].set()
        gates[1].set()
        job.result(futures[0])
        if how == "beside":
            job.result(futures[2])
        gates[2].set()
        for future in futures[1:]:
            job.result(future)
    scheduler.close()
    assert sorted(calls[:2]) == [("beside", 1), ("beside", 2)]
    assert calls[2] == (how, 3)


def test_a_window_that_fails_beside_others_fails_alone(two_lanes: Scheduler) -> None:
    with two_lanes.open([(SPEC, 5 * PIXELS)], time.monotonic() + PATIENCE) as job:
        futures = [job.submit(SPEC, window(tag)) for tag in (1, PLUG, 2, PLUG, 3)]
        for place in (1, 3):
            with pytest.raises(ComputeError):
                job.result(futures[place])
        assert [job.result(futures[place])[0, 0, 0] for place in (0, 2, 4)] == [1, 2, 3]


def test_a_lane_takes_half_of_the_machines_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told and learned of a window beside others is half the time it took, of one alone all of it."""
    looks, told = count(), list[float]()  # each look at the clock is a second after the one before: a second a batch
    clock = SimpleNamespace(perf_counter=lambda: next(looks), monotonic=time.monotonic)
    monkeypatch.setattr("app.inference.scheduler.time", clock)
    engine = FakeEngine()
    scheduler = Scheduler(
        engine.run,
        lambda spec: 1e-9,
        60,
        on_batch=lambda title, windows, pixels, seconds: told.append(seconds),
        run_beside=engine.run,
    )
    with scheduler.open([(SPEC, 3 * PIXELS)], time.monotonic() + PATIENCE) as job:
        for tag in range(3):
            job.result(job.submit(SPEC, window(tag)))
        assert job.clock.seconds["compute"] == 2
    scheduler.close()
    assert told == [0.5, 0.5, 1.0]


# -- windows that take seconds -----------------------------------------------------------------------------------

DEAR = make_spec("dear", macs=2 * HEAVY_WINDOW // PIXELS)


class Watched:
    """Two lanes on which a dear window goes on until ``gate`` opens; what runs at a time is counted."""

    def __init__(self) -> None:
        self.gate, self.reached = threading.Event(), threading.Event()
        self.calls: list[tuple[str, str]] = []
        self.dear = self.most_dear = 0
        self._lock = threading.Lock()

    def run(self, how: str, spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        self.calls.append((how, spec.name))
        if spec is DEAR:
            with self._lock:
                self.dear += 1
                self.most_dear = max(self.most_dear, self.dear)
            self.reached.set()
            assert self.gate.wait(PATIENCE)
            with self._lock:
                self.dear -= 1
        return [nearest(window, spec.scale) for window in windows]


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def with_dear(watched: Watched) -> Iterator[Scheduler]:
    run = watched.run
    scheduler = Scheduler(partial(run, "alone"), lambda spec: 1e-6, 60, run_beside=partial(run, "beside"))
    yield scheduler
    watched.gate.set()
    scheduler.close()


def test_of_dear_windows_one_is_computed_at_a_time_with_all_cores(watched: Watched, with_dear: Scheduler) -> None:
    jobs = [start(with_dear, tag, windows=3, spec=DEAR) for tag in (1, 2)]
    assert watched.reached.wait(PATIENCE)
    watched.gate.set()
    for job in jobs:
        finish(*job)
    assert watched.most_dear == 1
    assert len(watched.calls) == 6
    assert watched.calls[-1] == ("alone", "dear")


def test_a_quick_picture_does_not_wait_for_a_dear_window(watched: Watched, with_dear: Scheduler) -> None:
    dear = start(with_dear, 1, windows=3, spec=DEAR)
    assert watched.reached.wait(PATIENCE)
    assert len(finish(*start(with_dear, 2, windows=5))) == 5, "done while the dear window goes on"
    assert watched.calls == [("alone", "dear")] + [("beside", "nearest")] * 5
    watched.gate.set()
    finish(*dear)


def test_a_cancelled_dear_picture_makes_room_for_the_next(watched: Watched, with_dear: Scheduler) -> None:
    job, futures = start(with_dear, 1, windows=3, spec=DEAR)
    assert watched.reached.wait(PATIENCE)
    following = start(with_dear, 2, windows=1, spec=DEAR)
    job.close()
    assert all(future.cancelled() for future in futures[1:])
    watched.gate.set()
    assert len(finish(*following)) == 1
    assert len(watched.calls) == 2


def test_a_dear_window_that_fails_makes_room_for_the_next(watched: Watched) -> None:
    failing = [True]

    def run(spec: ModelSpec, windows: list[Pixels], strengths: list[float]) -> list[Pixels]:
        if failing.pop() if failing else False:
            raise RuntimeError("no picture")
        return [nearest(window, spec.scale) for window in windows]

    scheduler = Scheduler(run, lambda spec: 1e-6, 60, run_beside=run)
    try:
        with pytest.raises(ComputeError):
            finish(*start(scheduler, 1, spec=DEAR))
        assert len(finish(*start(scheduler, 2, windows=2, spec=DEAR))) == 2
    finally:
        scheduler.close()
