"""A picture on its way to the client: sent as it is computed, computed as it is read, and never ended short."""

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import IncompleteRead
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.http.streaming import STALL_SECONDS
from harness.pictures import decoded, encode
from harness.server import BICUBIC, Server, head, quick_server
from harness.watched import (
    FAIL,
    HOLD,
    LITTLE,
    SPOIL,
    TARGET,
    answer,
    ask,
    marked,
    noise,
    open_wide,
    settled,
    tiles,
    watched_server,
)

END = b"0\r\n\r\n"  # of a chunked body


@pytest.fixture(scope="module")
def gate_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "open"


@pytest.fixture
def gate(gate_path: Path) -> Iterator[Path]:
    """While this file is missing, a watched server does not get past a tile that says HOLD."""
    yield gate_path
    gate_path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def watched(gate_path: Path) -> Iterator[Server]:
    with watched_server(gate_path) as running:
        yield running


def small_picture_answers(server: Server, photo: np.ndarray) -> bool:
    with server.client() as client:
        response = client.post("/upscale", content=encode(photo[:20, :20]), params=BICUBIC)
    return response.status_code == 200 and decoded(response.content).shape == (80, 80, 3)


# -- as it is computed, as it is read ----------------------------------------------------------------------------


def test_the_first_band_leaves_while_others_are_computed(watched: Server, gate: Path, photo: np.ndarray) -> None:
    before = tiles(watched)
    with ask(watched, marked(photo, HOLD, 150)) as connection:
        response = answer(connection)
        planned = int(response.headers["enlarger-tiles"])
        start = response.read1(65536)
        assert start.startswith(b"\x89PNG")
        assert b"IDAT" in start
        assert not gate.exists()
        assert tiles(watched) - before < planned
        gate.touch()
        assert decoded(start + response.read()).shape == (1200, 1804, 3)
    assert tiles(watched) - before == planned


def test_no_more_is_computed_than_the_reader_takes(watched: Server) -> None:
    before = tiles(watched)
    with ask(watched, noise(1200, 600), receive_buffer=LITTLE) as connection:
        response = answer(connection)
        start = response.read(1)
        computed = settled(lambda: tiles(watched) - before)
        assert computed < int(response.headers["enlarger-tiles"]) / 2
        open_wide(connection)
        assert decoded(start + response.read()).shape == (4800, 2400, 3)
        assert tiles(watched) - before == int(response.headers["enlarger-tiles"])


def test_what_was_computed_ahead_of_a_stalled_reader_is_computed_again(watched: Server) -> None:
    before = tiles(watched)
    with ask(watched, noise(1200, 600), receive_buffer=LITTLE) as connection:
        response = answer(connection)
        planned, start = int(response.headers["enlarger-tiles"]), response.read(1)
        settled(lambda: tiles(watched) - before)
        time.sleep(STALL_SECONDS + 0.5)
        open_wide(connection)
        assert decoded(start + response.read()).shape == (4800, 2400, 3)
    assert tiles(watched) - before > planned


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_threads_that_compute_give_way_to_the_one_that_answers(watched: Server, photo: np.ndarray) -> None:
    """Whoever has used the processor for a picture is nicer than the event loop, which is the main thread."""

    def used() -> dict[str, tuple[int, int]]:
        """By thread: its nice value and its ticks of processor time, as proc(5) counts fields."""
        folder = Path(f"/proc/{watched.process.pid}/task")
        lines = {path.name: (path / "stat").read_text().rpartition(")")[2].split() for path in folder.iterdir()}
        return {thread: (int(fields[16]), int(fields[11]) + int(fields[12])) for thread, fields in lines.items()}

    before = used()
    discard(watched, encode(np.tile(photo, (2, 2, 1))), model="fast", scale="4", format="png")
    loop = str(watched.process.pid)
    niceness, busy = used()[loop][0], []
    for thread, (nice, ticks) in used().items():
        if thread != loop and ticks - before.get(thread, (0, 0))[1] > 5:
            busy.append(nice)
    assert len(busy) >= 2  # the scheduler's and one that encodes; ONNX Runtime's further ones, where there are cores
    assert min(busy) > niceness


# -- memory ------------------------------------------------------------------------------------------------------


def discard(server: Server, image: bytes, **options: str) -> int:
    """Lets a picture be enlarged, reads it away, and gives the number of bytes."""
    with server.client() as client, client.stream("POST", "/upscale", content=image, params=options) as response:
        assert response.status_code == 200
        return sum(map(len, response.iter_raw()))


def test_a_wide_picture_needs_little_memory(photo: np.ndarray) -> None:
    image = encode(np.asarray(Image.fromarray(photo).resize((4000, 1200))), "JPEG")
    with quick_server() as server:
        discard(server, image, model="fast", scale="4", format="png")
        assert server.peak_memory() < 350e6, f"{server.peak_memory() / 1e6:.0f} MB"


def test_memory_does_not_grow_with_the_height(photo: np.ndarray) -> None:
    """With tiles of one size: a low picture has smaller ones, so that its first band comes early, and needs less."""
    peaks = []
    for height in (1000, 10_000):
        image = encode(np.asarray(Image.fromarray(photo).resize((600, height))), "JPEG")
        with quick_server(tile_pixels="16384") as server:
            discard(server, image, model="bicubic", scale="4", format="png")
            peaks.append(server.peak_memory())
    low, high = peaks
    assert high < 1.15 * low, f"{low / 1e6:.0f} MB, then {high / 1e6:.0f} MB for ten times the height"


def test_stalled_readers_need_little_memory(photo: np.ndarray) -> None:
    readers, image = 10, encode(np.asarray(Image.fromarray(photo).resize((1024, 1024))), "JPEG")
    target = f"/upscale?{httpx.QueryParams(model='espcn', scale=4, format='png')}"
    with quick_server() as server, ExitStack() as stack:
        for _ in range(3):
            discard(server, image, model="espcn", scale="4", format="png")
        before = server.memory()
        for _ in range(readers):
            connection = stack.enter_context(server.connect(head(len(image), target) + image, LITTLE))
            assert answer(connection).read(1)
        time.sleep(STALL_SECONDS + 0.5)
        each = (server.memory() - before) / readers
        assert each < 8e6, f"{each / 1e6:.1f} MB"


# -- clients that leave or dawdle --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top", "line"), [(0, r"POST /upscale 499"), (150, "the client disconnected")], ids=["before the 200", "after it"]
)
def test_a_client_that_leaves_frees_the_engine_within_a_tile(
    watched: Server, gate: Path, photo: np.ndarray, top: int, line: str
) -> None:
    before, logged = tiles(watched), len(watched.log())
    with ask(watched, marked(photo, HOLD, top)) as connection:
        if top:
            answer(connection).read1(65536)
        watched.wait_until(lambda: tiles(watched) > before)
        held = settled(lambda: tiles(watched))
    with watched.client() as client:  # two rounds of the server's loop: it has seen that the client is gone
        assert [client.get("/healthz").status_code for _ in range(2)] == [200, 200]
    gate.touch()
    assert small_picture_answers(watched, photo)
    assert tiles(watched) == held + 1  # the small picture's own
    watched.wait_until(lambda: line in watched.log()[logged:])


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    with quick_server(send_seconds="1") as running:
        yield running


@pytest.mark.parametrize("sip", [0, 1000], ids=["stalled", "20 kB/s"])
def test_a_slow_reader_is_cut(impatient: Server, sip: int) -> None:
    logged, connections = len(impatient.log()), impatient.open_files()
    with ask(impatient, noise(1200, 600), receive_buffer=LITTLE) as connection:
        response = answer(connection)
        end = time.monotonic() + 120
        while "aborted: the client took longer for a chunk than 1 s" not in impatient.log()[logged:]:
            assert time.monotonic() < end, "a slow reader was borne with"
            if sip:
                response.read(sip)
            time.sleep(0.05)
        impatient.wait_until(lambda: impatient.open_files() == connections)  # nothing is left of the connection
        with pytest.raises((IncompleteRead, ConnectionResetError)):
            response.read()


# -- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1"])  # towards 1.0 it answers 426
@pytest.mark.parametrize("fault", [FAIL, SPOIL], ids=["network", "bug"])
def test_a_fault_after_the_200_breaks_the_transfer(
    watched: Server, photo: np.ndarray, fault: tuple[int, int, int], version: str
) -> None:
    with ask(watched, marked(photo, fault, 150), version) as connection:
        sent = b"".join(iter(lambda: connection.recv(65536), b""))
    top, _, body = sent.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding: chunked" in top.lower()
    assert b"\x89PNG" in body
    assert not body.endswith(END)
    assert small_picture_answers(watched, photo)


def test_a_whole_transfer_has_its_end(watched: Server, photo: np.ndarray) -> None:
    sent = b""
    with ask(watched, encode(photo), "1.1") as connection:
        while not sent.endswith(END):
            piece = connection.recv(65536)
            assert piece, "closed before its end"
            sent += piece


@pytest.mark.parametrize("fault", [FAIL, SPOIL], ids=["network", "bug"])
def test_a_client_sees_that_a_transfer_broke(watched: Server, photo: np.ndarray, fault: tuple[int, int, int]) -> None:
    with watched.client() as client, pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        client.post("/upscale", content=marked(photo, fault, 150), params=BICUBIC)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(FAIL, 503, "compute_failed"), (SPOIL, 500, "internal_error")],
    ids=["network", "bug"],
)
def test_a_fault_before_the_200_is_a_problem(
    watched: Server, photo: np.ndarray, fault: tuple[int, int, int], status: int, code: str
) -> None:
    headers, logged = {"X-Request-Id": f"told-{code}"}, len(watched.log())
    with watched.client() as client:
        response = client.post("/upscale", content=marked(photo, fault, 0), params=BICUBIC, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert (response.json()["code"], response.json()["request_id"]) == (code, f"told-{code}")
    assert response.headers["x-request-id"] == f"told-{code}"
    assert "the GPU has left" not in response.text
    watched.wait_until(lambda: re.search(f"POST /upscale {status} .* id=told-{code}", watched.log()))
    watched.wait_until(lambda: "Traceback" in watched.log()[logged:])
    assert small_picture_answers(watched, photo)


def test_what_is_refused_is_not_computed(watched: Server) -> None:
    before = tiles(watched)
    with watched.client() as client:
        image = encode(np.zeros((20_000, 8), np.uint8))
        response = client.post("/upscale", content=image, params={**BICUBIC, "format": "jpeg"})
    assert (response.status_code, response.json()["code"]) == (422, "output_too_large")
    assert tiles(watched) == before


def test_a_deadline_before_the_200_is_a_problem(gate: Path, photo: np.ndarray) -> None:
    with watched_server(gate, request_deadline_seconds="0.5") as server:
        with server.client() as client:
            response = client.post("/upscale", content=marked(photo, HOLD, 0), params=BICUBIC)
        gate.touch()
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
        assert response.json()["retryable"] is True
        server.wait_until(lambda: small_picture_answers(server, photo))


def test_what_no_deadline_could_suffice_for_is_the_clients_to_change(photo: np.ndarray) -> None:
    with quick_server(request_deadline_seconds="0.001") as server, server.client() as client:
        response = client.post("/upscale", content=encode(photo), params={"model": "fast"})
    assert (response.status_code, response.json()["code"]) == (422, "too_much_work")
    assert response.json()["retryable"] is False
    assert response.json()["limit"] < response.json()["actual"]


# -- overload ----------------------------------------------------------------------------------------------------


def test_overload_is_refused_with_a_time_to_come_back(gate: Path, photo: np.ndarray) -> None:
    with watched_server(gate, max_queue_seconds="0.001") as server, server.client() as client, ExitStack() as stack:
        proven = tiles(server)  # each network's, at the start
        stack.enter_context(ask(server, marked(photo, HOLD, 0)))
        server.wait_until(lambda: tiles(server) > proven)
        refused = client.post("/upscale", content=encode(photo), params=BICUBIC)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert int(refused.headers["retry-after"]) >= 1
        problem = refused.json()
        assert (problem["code"], problem["retryable"], problem["limit"]) == ("overloaded", True, 0.001)
        with server.connect(head(10**6, TARGET)) as connection:  # and no body
            assert answer(connection).status == 429
        assert client.get("/readyz").status_code == 200
        gate.touch()
        server.wait_until(lambda: small_picture_answers(server, photo))


# -- shutting down -----------------------------------------------------------------------------------------------


@pytest.fixture
def patient() -> Iterator[Server]:
    with quick_server(drain_seconds="120") as running:
        yield running


def test_sigterm_lets_pictures_in_flight_finish_and_takes_no_new_ones(patient: Server, photo: np.ndarray) -> None:
    image, late = noise(1200, 600), encode(photo)
    with (
        patient.client() as client,
        ask(patient, image, receive_buffer=LITTLE) as download,
        patient.connect(head(len(late), TARGET) + late[:1000]) as upload,
    ):
        assert client.get("/readyz").status_code == 200
        response = answer(download)
        start = response.read(1)

        patient.process.send_signal(signal.SIGTERM)
        assert set(readiness(client)) <= {503}
        patient.wait_until(lambda: "Shutting down" in patient.log())
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{patient.url}/readyz")

        upload.sendall(late[1000:])
        refused = answer(upload)
        assert (refused.status, refused.headers["content-type"]) == (503, "application/problem+json")
        assert b'"code":"shutting_down"' in refused.read()

        open_wide(download)
        assert decoded(start + response.read()).shape == (4800, 2400, 3)
    assert patient.process.wait(timeout=20) == 0
    assert "Traceback" not in patient.log()


def readiness(client: httpx.Client) -> Iterator[int]:
    """What ``/readyz`` answers until the connection is closed."""
    with suppress(httpx.TransportError):
        while True:
            yield client.get("/readyz").status_code


def test_sigterm_waits_for_a_stalled_reader_no_longer_than_it_is_told() -> None:
    image = noise(1200, 600)
    with quick_server(drain_seconds="1") as server, ask(server, image, receive_buffer=LITTLE) as connection:
        assert answer(connection).status == 200
        server.process.terminate()
        assert server.process.wait(timeout=20) == 0
