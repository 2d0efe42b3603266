"""Runs that are given up in their middle, by every runtime: nothing comes of them, and the next is as any other."""

import threading

import numpy as np
import pytest

from app.inference.engine import Engine
from app.inference.stopping import Stop, Stopped, stopped_by
from app.inference.zoo import load_zoo
from harness.fakes import PATIENCE, noise
from harness.zoo import small_zoo


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return Engine(load_zoo(small_zoo("fast")), request.param, 2)


def test_a_run_that_is_given_up_ends_before_its_time_and_leaves_the_next_as_it_was(engine: Engine) -> None:
    spec, window = engine.zoo.find("fast", 4), noise(300, 300, 3)
    (whole,) = engine.run_beside(spec, [window])
    stop, began, ended = Stop(), threading.Event(), []

    def run() -> None:
        with stopped_by(stop):
            try:
                while True:
                    engine.run_beside(spec, [window])
                    began.set()
            except Stopped as error:
                ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(PATIENCE)  # and one run after another goes on
    stop.set()
    thread.join(PATIENCE)
    assert len(ended) == 1
    with stopped_by(stop), pytest.raises(Stopped):
        engine.run_beside(spec, [window])
    np.testing.assert_array_equal(engine.run_beside(spec, [window])[0], whole)
