"""SIGTERM with a drain delay: the port stays open for a while, so that a balancer learns of it from an answer."""

import signal
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from harness.pictures import decoded, encode
from harness.server import BICUBIC, Server, head, quick_server
from harness.watched import LITTLE, TARGET, answer, ask, noise, open_wide


@pytest.fixture
def leaving() -> Iterator[Server]:
    with quick_server(drain_delay_seconds="600", drain_seconds="120") as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        yield server
        server.process.send_signal(signal.SIGTERM)  # the second one ends the delay


def test_it_says_so_and_refuses_new_work(leaving: Server, photo: np.ndarray) -> None:
    with leaving.client() as client:
        ready = client.get("/readyz")
        refused = client.post("/upscale", content=encode(photo), params=BICUBIC)
        alive = client.get("/healthz")
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
    assert int(refused.headers["retry-after"]) >= 1
    assert alive.status_code == 200
    assert {response.headers["connection"] for response in (ready, refused, alive)} == {"close"}
    assert "enlarger_ready 0.0" in httpx.get(f"{leaving.url}/metrics").text


def test_it_refuses_before_the_body(leaving: Server) -> None:
    with leaving.connect(head(10**6, TARGET)) as connection:
        assert answer(connection).status == 503


def test_a_second_signal_ends_the_delay(leaving: Server) -> None:
    leaving.process.send_signal(signal.SIGTERM)
    assert leaving.process.wait(timeout=60) == 0


def test_a_picture_in_flight_is_finished_after_the_delay() -> None:
    image = noise(1200, 600)
    with (
        quick_server(drain_delay_seconds="1", drain_seconds="120") as server,
        ask(server, image, receive_buffer=LITTLE) as download,
    ):
        response = answer(download)
        start = response.read(1)
        server.process.send_signal(signal.SIGTERM)
        server.wait_until(lambda: "Shutting down" in server.log())
        open_wide(download)
        assert decoded(start + response.read()).shape == (4800, 2400, 3)
        assert server.process.wait(timeout=60) == 0


def test_without_a_delay_the_port_closes_at_once() -> None:
    with quick_server(drain_seconds="3600") as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0, "it waits for nobody"
