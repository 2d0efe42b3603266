"""deploy/nginx/nginx.conf as it is, in a real nginx before real replicas."""

import json
import re
import signal
from collections.abc import Iterator
from http.client import IncompleteRead
from pathlib import Path

import httpx
import numpy as np
import pytest

from harness.balancer import NGINX, Balancer, balancer, free_port, replica, restarted_in_turn
from harness.pictures import decoded, encode
from harness.server import BICUBIC, Server, head
from harness.watched import FAIL, HOLD, TARGET, answer, marked, watched_server

pytestmark = pytest.mark.skipif(NGINX is None, reason="there is no nginx here; .ci/run installs it")
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def small(photo: np.ndarray) -> bytes:
    return encode(photo[:40, :60])


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "open"


@pytest.fixture(scope="module")
def watched(gate: Path) -> Iterator[Server]:
    with watched_server(gate) as server:
        yield server


@pytest.fixture(scope="module")
def front(watched: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    with balancer(tmp_path_factory.mktemp("nginx"), [watched.address[1]]) as running:
        yield running


# -- what goes through -------------------------------------------------------------------------------------------


def test_a_picture_goes_through_unchanged(front: Balancer, watched: Server, photo: np.ndarray) -> None:
    headers = {"X-Request-Id": "through-nginx"}
    direct, through = (
        httpx.post(f"{url}/upscale", content=encode(photo), params=BICUBIC, headers=headers, timeout=120)
        for url in (watched.url, front.url)
    )
    assert (through.status_code, through.content) == (200, direct.content)
    assert through.headers["transfer-encoding"] == "chunked"
    assert through.headers["x-request-id"] == "through-nginx"


def test_the_first_band_comes_while_others_are_computed(front: Balancer, gate: Path, photo: np.ndarray) -> None:
    image = marked(photo, HOLD, 150)
    with front.connect(head(len(image), TARGET) + image) as connection:
        response = answer(connection)
        start = response.read1(65536)
        assert start.startswith(b"\x89PNG")
        assert not gate.exists()
        gate.touch()
        assert decoded(start + response.read()).shape == (1200, 1804, 3)
    gate.unlink()


def test_problems_of_the_service_pass(front: Balancer) -> None:
    response = httpx.post(f"{front.url}/upscale", content=b"no picture", timeout=120)
    assert (response.status_code, response.headers["content-type"]) == (415, PROBLEM)
    assert response.json()["code"] == "unsupported_format"
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_overload_is_passed_on_and_not_tried_elsewhere(tmp_path: Path, small: bytes, photo: np.ndarray) -> None:
    gate = tmp_path / "open"
    with (
        watched_server(gate, max_queue_seconds="0.001") as server,
        balancer(tmp_path, [server.address[1], server.address[1]]) as running,
    ):
        image = marked(photo, HOLD, 0)
        proven = server.log().count("tile\n")  # each network's, at the start
        with running.connect(head(len(image), TARGET) + image):
            server.wait_until(lambda: server.log().count("tile\n") > proven)
            refused = httpx.post(f"{running.url}/upscale", content=small, params=BICUBIC, timeout=120)
        gate.touch()
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        (line,) = (line for line in running.lines(2) if line["status"] == 429)
        assert "," not in str(line["upstreams"])


# -- what nginx says itself --------------------------------------------------------------------------------------


def test_a_body_too_large_is_a_problem(front: Balancer) -> None:
    with front.connect(head(64 * 2**20 + 1, TARGET)) as connection:  # and no body: it is refused by its length
        response = answer(connection)
        assert (response.status, response.headers["content-type"]) == (413, PROBLEM)
        problem = json.loads(response.read())
    assert (problem["code"], problem["limit"]) == ("body_too_large", 64 * 2**20)
    assert problem["request_id"] == response.headers["x-request-id"]


def test_http_1_0_gets_no_picture_that_could_be_cut_unseen(front: Balancer, small: bytes) -> None:
    with front.connect(head(len(small), TARGET, "1.0") + small) as connection:
        response = answer(connection)
        assert (response.status, response.headers["upgrade"]) == (426, "HTTP/1.1")
        assert json.loads(response.read())["code"] == "http_1_1_required"


def test_metrics_are_not_for_the_world(front: Balancer) -> None:
    assert httpx.get(f"{front.url}/metrics", timeout=60).status_code == 404
    assert httpx.get(f"{front.url}/readyz", timeout=60).status_code == 200


def test_without_a_replica_it_says_when_to_come_back(tmp_path: Path, small: bytes) -> None:
    with balancer(tmp_path, [free_port()]) as running:
        response = httpx.post(f"{running.url}/upscale", content=small, timeout=60)
    assert (response.status_code, response.headers["content-type"]) == (503, PROBLEM)
    assert (response.json()["code"], response.headers["retry-after"]) == ("no_replica", "1")


# -- what breaks -------------------------------------------------------------------------------------------------


def test_a_fault_after_the_200_breaks_the_transfer(front: Balancer, photo: np.ndarray) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        httpx.post(f"{front.url}/upscale", content=marked(photo, FAIL, 150), params=BICUBIC, timeout=120)


def test_a_replica_that_dies_breaks_the_transfer(tmp_path: Path, photo: np.ndarray) -> None:
    with watched_server(tmp_path / "open") as server, balancer(tmp_path, [server.address[1]]) as running:
        image = marked(photo, HOLD, 150)
        with running.connect(head(len(image), TARGET) + image) as connection:
            response = answer(connection)
            assert response.read1(65536).startswith(b"\x89PNG")
            server.process.kill()
            with pytest.raises((IncompleteRead, ConnectionResetError)):
                response.read()


# -- replicas come and go ----------------------------------------------------------------------------------------


def test_replicas_restarted_in_turn_under_load_fail_nobody(tmp_path: Path, small: bytes) -> None:
    seen = restarted_in_turn(tmp_path, small, rounds=4)
    assert seen.failed == []
    assert seen.retried, "no request met a replica on its way out: the test has shown nothing"


def test_a_killed_replica_costs_nobody_a_picture_not_begun(tmp_path: Path, small: bytes) -> None:
    ports = [free_port(), free_port()]
    with replica(ports[0]) as first, replica(ports[1]), balancer(tmp_path, ports) as running:
        with httpx.Client(base_url=running.url, timeout=120) as client:
            assert client.post("/upscale", content=small, params=BICUBIC).status_code == 200
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(timeout=60)
            answers = [client.post("/upscale", content=small, params=BICUBIC).status_code for _ in range(4)]
        assert answers == [200] * 4
        assert any(re.search(r"502, 200|, 200", str(line["upstream_statuses"])) for line in running.lines(5))
