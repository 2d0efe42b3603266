"""``/jobs`` as clients use it: a real server, its embedded database, and a receiver of webhooks."""

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from app.errors import StartupError
from app.http.job_service import JobService
from app.settings import Settings
from harness.pictures import encode
from harness.server import Server, quick_server

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
SMALL = {"model": "bicubic", "scale": "2", "format": "png"}
PNG = {"content-type": "image/png"}
PATIENCE = 120.0


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes webhooks, and gives a picture as a source."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.put[self.path] = body  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        body = self.server.picture  # type: ignore[attr-defined]
        self.send_response(200 if self.path.endswith(".png") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def outside(picture: bytes) -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.put, server.picture = [], {}, picture  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def picture() -> bytes:
    return encode(np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8))


@pytest.fixture(scope="module")
def long() -> bytes:
    """A picture of many tiles."""
    return encode(np.random.default_rng(2).integers(0, 256, (300, 300, 3), np.uint8))


@pytest.fixture(scope="module")
def large() -> bytes:
    """A picture that takes longer than any test waits for it."""
    return encode(np.zeros((1500, 1500, 3), np.uint8))


@pytest.fixture(scope="module")
def jobs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def service(jobs_folder: Path) -> Iterator[Server]:
    settings = {"jobs": str(jobs_folder), "jobs_webhook_secret": SECRET, "tile_pixels": "4096"}
    settings |= {"jobs_hosts": '["127.0.0.1"]', "jobs_networks": '["127.0.0.0/8"]'}
    with quick_server(**settings) as running:
        yield running


@pytest.fixture
def http_client(service: Server) -> Iterator[httpx.Client]:
    with service.client() as made:
        yield made


def submit(client: httpx.Client, picture: bytes, **headers: str) -> dict[str, Any]:
    answer = client.post("/jobs", params=SMALL, content=picture, headers=PNG | headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == answer.json()["urls"]["get"]
    job: dict[str, Any] = answer.json()
    return job


def wait(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while (now := client.get(job["urls"]["get"]).json())["status"] in ("queued", "processing"):
        assert time.monotonic() < end
        time.sleep(0.1)
    return now


def test_a_job_gives_what_the_streamed_way_gives(http_client: httpx.Client, picture: bytes) -> None:
    job = submit(http_client, picture)
    assert job["status"] in ("queued", "processing")
    done = wait(http_client, job)
    assert (done["status"], done["progress"], done["error"]) == ("succeeded", 1.0, None)
    assert done["created"] <= done["started"]
    assert done["expires"] > done["finished"]
    result = http_client.get(done["urls"]["result"])
    streamed = http_client.post("/upscale", params=SMALL, content=picture, headers=PNG)
    assert result.content == streamed.content
    for name in ("content-type", "content-disposition", "enlarger-model", "enlarger-output-size"):
        assert result.headers[name] == streamed.headers[name]
    assert done["bytes"] == len(result.content)


def test_events_tell_every_change_and_go_on_where_they_broke_off(http_client: httpx.Client, long: bytes) -> None:
    slow = {"model": "fast", "scale": "4"}
    job = http_client.post("/jobs", params=slow, content=long, headers=PNG).json()
    events = follow(http_client, job)
    progress = [event["progress"] for _, event in events]
    assert progress == sorted(progress)
    assert events[-1][1]["status"] == "succeeded"
    assert len(events) >= 2  # how many more depends on how long it takes
    seen = events[-2][0]
    again = follow(http_client, job, seen)
    assert [name for name, _ in again] == [events[-1][0]]
    last = {"accept": "text/event-stream", "last-event-id": events[-1][0]}
    assert http_client.get(job["urls"]["get"], headers=last).status_code == 204


def follow(client: httpx.Client, job: dict[str, Any], seen: str = "") -> list[tuple[str, dict[str, Any]]]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": seen} if seen else {})
    events, data = [], {}
    with client.stream("GET", job["urls"]["get"], headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "data":
                data = json.loads(value)
            elif name == "id":
                events.append((value, data))
    return events


def test_prefer_is_answered_with_a_job_or_within_its_time_with_the_picture(
    http_client: httpx.Client, picture: bytes
) -> None:
    now = http_client.post("/upscale", params=SMALL, content=picture, headers=PNG | {"prefer": "respond-async"})
    assert (now.status_code, now.headers["preference-applied"]) == (202, "respond-async")
    job = wait(http_client, now.json())
    assert job["status"] == "succeeded"
    preferred = PNG | {"prefer": "respond-async, wait=100"}
    waited = http_client.post("/upscale", params=SMALL, content=picture, headers=preferred)
    assert (waited.status_code, waited.headers["preference-applied"]) == (200, "respond-async, wait=100")
    assert waited.content == http_client.get(job["urls"]["result"]).content
    streamed = http_client.post("/upscale", params=SMALL, content=picture, headers=PNG | {"prefer": "wait=100"})
    assert "preference-applied" not in streamed.headers
    assert streamed.headers["transfer-encoding"] == "chunked"


def test_a_result_has_parts_and_a_tag(http_client: httpx.Client, picture: bytes) -> None:
    url = wait(http_client, submit(http_client, picture))["urls"]["result"]
    whole = http_client.get(url)
    data, tag = whole.content, whole.headers["etag"]
    for asked, start, end in (("0-9", 0, 10), ("10-", 10, len(data)), ("-7", len(data) - 7, len(data))):
        part = http_client.get(url, headers={"range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, data[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
    outside = http_client.get(url, headers={"range": f"bytes={len(data)}-"})
    assert (outside.status_code, outside.json()["code"]) == (416, "range_not_satisfiable")
    assert outside.headers["content-range"] == f"bytes */{len(data)}"
    assert http_client.get(url, headers={"if-none-match": f'"x", W/{tag}'}).status_code == 304
    assert http_client.get(url, headers={"range": "bytes=0-9", "if-range": tag}).status_code == 206
    for condition in ('"another"', f"W/{tag}", "Tue, 21 Jul 2026 10:00:00 GMT"):
        other = http_client.get(url, headers={"range": "bytes=0-9", "if-range": condition})
        assert (other.status_code, other.content) == (200, data)
    for odd in ("bytes=5-2", "bytes=0-1,3-4", "bytes=-", "lines=0-1", "bytes=a-b"):
        assert http_client.get(url, headers={"range": odd}).content == data
    head = http_client.head(url, headers={"range": "bytes=0-9"})  # which is for GET alone
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")
    assert head.headers["etag"] == tag


def test_the_same_key_is_the_same_job_and_another_payload_is_refused(
    http_client: httpx.Client, picture: bytes, long: bytes
) -> None:
    first = submit(http_client, picture, **{"idempotency-key": '"one"'})
    again = submit(http_client, picture, **{"idempotency-key": '"one"'})
    assert again["id"] == first["id"]
    other = http_client.post("/jobs", params=SMALL, content=long, headers=PNG | {"idempotency-key": '"one"'})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    changed = http_client.post(
        "/jobs", params=SMALL | {"scale": "3"}, content=picture, headers=PNG | {"idempotency-key": '"one"'}
    )
    assert changed.status_code == 422
    assert submit(http_client, picture, **{"idempotency-key": '"two"'})["id"] != first["id"]


def test_equal_requests_at_the_same_time_make_one_job(service: Server, picture: bytes) -> None:
    answers: list[httpx.Response] = []

    def send() -> None:
        with service.client() as client:
            answers.append(
                client.post("/jobs", params=SMALL, content=picture, headers=PNG | {"idempotency-key": "many"})
            )

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1


def test_what_can_be_refused_is_refused_at_once(http_client: httpx.Client, picture: bytes) -> None:
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"params": SMALL, "content": b"no picture", "headers": PNG}, 415, "unsupported_format"),
        ({"params": SMALL | {"scale": "9"}, "content": picture, "headers": PNG}, 422, "invalid_parameter"),
        ({"params": SMALL | {"model": "none"}, "content": picture, "headers": PNG}, 404, "unknown_model"),
        ({"params": SMALL | {"sinks": "x"}, "content": picture, "headers": PNG}, 422, "invalid_parameter"),
        ({"params": SMALL | {"decode": "true"}, "content": picture, "headers": PNG}, 422, "invalid_parameter"),
        (
            {"params": SMALL | {"webhook": "https://10.0.0.1/"}, "content": picture, "headers": PNG},
            422,
            "forbidden_url",
        ),
        ({"params": SMALL | {"sink": "s3://bucket/a.png"}, "content": picture, "headers": PNG}, 422, "forbidden_url"),
        ({"json": {"source": "https://example.org/a.png"}}, 422, "forbidden_url"),
        ({"json": {"source": "s3://bucket/a.png"}}, 422, "forbidden_url"),
        ({"json": {"source": "s3://bucket/../a.png"}}, 422, "source_unavailable"),
        ({"json": {"sink": "s3://bucket/a.png"}}, 400, "missing_image"),
        ({"json": {"source": "s3://b/a", "else": 1}}, 422, "invalid_parameter"),
        ({"json": {"source": "s3://b/a", "parameters": {"scale": 99}}}, 422, "invalid_parameter"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "invalid_parameter"),
        ({"json": [1]}, 422, "invalid_parameter"),
        (
            {"params": SMALL, "content": picture, "headers": PNG | {"idempotency-key": "x" * 300}},
            422,
            "invalid_parameter",
        ),
    ]
    for request, status, code in cases:
        answer = http_client.post("/jobs", **request)
        assert (answer.status_code, answer.json()["code"]) == (status, code), request
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_picture_that_cannot_be_decoded_fails_with_the_problem_that_a_request_would_get(
    http_client: httpx.Client, picture: bytes
) -> None:
    broken = picture[:300] + bytes(100) + picture[400:]
    told = http_client.post("/upscale", params=SMALL, content=broken, headers=PNG).json()
    job = wait(http_client, submit(http_client, broken))
    assert job["status"] == "failed"
    assert {name: job["error"][name] for name in ("title", "status", "code")} == {
        name: told[name] for name in ("title", "status", "code")
    }
    result = http_client.get(f"/jobs/{job['id']}/result")
    assert (result.status_code, result.json()["code"]) == (422, "job_failed")


def test_a_canceled_job_says_so_and_a_finished_one_is_forgotten(
    http_client: httpx.Client, picture: bytes, large: bytes
) -> None:
    slow = http_client.post("/jobs", params={"model": "fast", "scale": "4"}, content=large, headers=PNG).json()
    early = http_client.get(slow["urls"]["result"])
    assert (early.status_code, early.json()["code"]) == (409, "job_not_finished")
    canceled = http_client.delete(slow["urls"]["cancel"])
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    assert http_client.get(slow["urls"]["result"]).json()["code"] == "job_canceled"
    key = {"idempotency-key": "forgotten"}
    done = wait(http_client, submit(http_client, picture, **key))
    assert http_client.delete(done["urls"]["cancel"]).status_code == 204
    for url in (done["urls"]["get"], done["urls"]["result"]):
        gone = http_client.get(url)
        assert (gone.status_code, gone.json()["code"]) == (410, "job_expired")
    assert http_client.delete(done["urls"]["cancel"]).status_code == 410
    assert submit(http_client, picture, **key)["id"] != done["id"]  # its request is forgotten, too


def test_two_who_cancel_at_once_are_both_told_that_it_is_canceled(service: Server, large: bytes) -> None:
    with service.client() as one, service.client() as two:
        job = one.post("/jobs", params={"model": "fast", "scale": "4"}, content=large, headers=PNG).json()
        started = threading.Barrier(2)

        def cancel(client: httpx.Client) -> int:
            started.wait()
            return client.delete(job["urls"]["cancel"]).status_code

        with ThreadPoolExecutor(2) as pool:
            statuses = sorted(pool.map(cancel, (one, two)))
        assert statuses in ([200, 200], [200, 204])  # the later of them may find it canceled, and forget it
        assert one.get(job["urls"]["result"]).status_code in (409, 410)


def test_a_result_that_is_deleted_while_it_is_read_breaks_off(service: Server, http_client: httpx.Client) -> None:
    noise = encode(np.random.default_rng(3).integers(0, 256, (1300, 1300, 3), np.uint8))
    job = wait(http_client, submit(http_client, noise))
    assert job["bytes"] > 2 * 8 * 2**20  # more than one piece of it beyond what is on its way
    with http_client.stream("GET", job["urls"]["result"]) as answer:
        pieces = answer.iter_bytes(2**16)
        next(pieces)
        with service.client() as other:
            assert other.delete(job["urls"]["cancel"]).status_code == 204
        with pytest.raises(httpx.RemoteProtocolError):
            sum(map(len, pieces))
    assert http_client.get(job["urls"]["result"]).status_code == 410


def test_who_follows_a_job_that_is_forgotten_meanwhile_is_told_when_he_comes_back(
    service: Server, http_client: httpx.Client, large: bytes
) -> None:
    job = http_client.post("/jobs", params={"model": "fast", "scale": "4"}, content=large, headers=PNG).json()
    headers = {"accept": "text/event-stream"}
    with http_client.stream("GET", job["urls"]["get"], headers=headers) as answer, service.client() as other:
        lines = answer.iter_lines()
        assert any(line.startswith("data: ") for line in lines)
        assert [other.delete(job["urls"]["cancel"]).status_code for _ in range(2)] == [200, 204]
        list(lines)  # it ends, and as a stream should
    assert http_client.get(job["urls"]["get"], headers=headers).status_code == 410
    assert "Traceback" not in service.log()


@pytest.mark.parametrize(
    "job_id", ["x", "01a21ac9-1818-4a47-91f7-3b476238d074", "01A21AC9-1818-7A47-91F7-3B476238D074"]
)
def test_an_id_that_no_job_has_is_unknown(http_client: httpx.Client, job_id: str) -> None:
    assert http_client.get(f"/jobs/{job_id}").status_code == 404


def test_a_browser_sees_its_own_jobs_and_no_others(service: Server, picture: bytes) -> None:
    with service.client() as mine, service.client() as theirs:
        ids = [submit(mine, picture)["id"] for _ in range(3)]
        submit(theirs, picture)
        listed = mine.get("/jobs", params={"limit": 2}).json()
        rest = mine.get(listed["next"]).json()
        assert sorted(job["id"] for job in listed["jobs"] + rest["jobs"]) == sorted(ids)
        assert rest["next"] is None
        assert mine.get("/jobs", params={"before": "yesterday"}).status_code == 422
    with service.client() as nobody:
        assert nobody.get("/jobs").json() == {"jobs": [], "next": None}


def test_a_source_elsewhere_a_sink_elsewhere_and_a_webhook(
    http_client: httpx.Client, service: Server, outside: Any, picture: bytes
) -> None:
    base = f"http://127.0.0.1:{outside.server_port}"
    body = {"source": f"{base}/photo.png", "webhook": f"{base}/hook", "sink": f"{base}/big.png", "parameters": SMALL}
    answer = http_client.post("/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = wait(http_client, answer.json())
    assert job["status"] == "succeeded", job
    assert "result" not in job["urls"]
    assert http_client.get(f"/jobs/{job['id']}/result").json()["code"] == "result_elsewhere"
    streamed = http_client.post("/upscale", params=SMALL, content=picture, headers=PNG)
    assert outside.put["/big.png"] == streamed.content
    service.wait_until(lambda: outside.received, seconds=PATIENCE)
    headers, told = outside.received[-1]
    message = Webhook(SECRET).verify(told, headers)
    assert (message["type"], message["data"]["id"]) == ("job.succeeded", job["id"])
    missing = http_client.post("/jobs", json={"source": f"{base}/nothing", "parameters": SMALL}).json()
    failed = wait(http_client, missing)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "source_unavailable")


def test_the_document_of_the_api_has_the_jobs(http_client: httpx.Client) -> None:
    paths = http_client.get("/openapi.json").json()["paths"]
    assert set(paths["/jobs"]) == {"post", "get"}
    assert set(paths["/jobs/{job_id}"]) == {"get", "delete"}
    assert set(paths["/jobs/{job_id}/result"]) == {"get"}


def test_without_the_setting_there_are_no_jobs(server: Server, client: httpx.Client, picture: bytes) -> None:
    assert client.get("/jobs").status_code == 404
    assert "/jobs" not in client.get("/openapi.json").json()["paths"]
    answer = client.post("/upscale", params=SMALL, content=picture, headers=PNG | {"prefer": "respond-async"})
    assert (answer.status_code, "preference-applied" in answer.headers) == (200, False)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert not {name for name in ("sqlalchemy", "obstore", "psycopg") if name in maps}


def test_expired_jobs_are_gone_with_their_pictures(tmp_path: Path, picture: bytes) -> None:
    with quick_server(jobs=str(tmp_path), jobs_retention_seconds="1") as service, service.client() as client:
        job = submit(client, picture)
        service.wait_until(lambda: client.get(job["urls"]["get"]).status_code == 410, seconds=PATIENCE)
        pictures = tmp_path / "pictures"
        service.wait_until(lambda: not any(each.is_file() for each in pictures.rglob("*")), seconds=PATIENCE)
        assert client.get(job["urls"]["get"]).status_code == 410


def test_with_keys_each_sees_its_own_alone(tmp_path: Path, picture: bytes) -> None:
    with quick_server(jobs=str(tmp_path), api_keys='["one", "two"]') as service, service.client() as client:
        one, two = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
        job = submit(client, picture, **one)
        for path in (job["urls"]["get"], job["urls"]["result"], "/jobs"):
            assert client.get(path).status_code == 401
        assert client.get(job["urls"]["get"], headers=one).status_code == 200
        assert client.get(job["urls"]["get"], headers=two).status_code == 404
        assert client.delete(job["urls"]["get"], headers=two).status_code == 404
        assert client.delete(job["urls"]["get"]).status_code == 401
        assert [each["id"] for each in client.get("/jobs", headers=one).json()["jobs"]] == [job["id"]]
        assert client.get("/jobs", headers=two).json()["jobs"] == []


def test_a_killed_service_goes_on_after_its_next_start(tmp_path: Path, picture: bytes) -> None:
    with quick_server(jobs=str(tmp_path)) as service, service.client() as client:
        jobs = [submit(client, picture) for _ in range(12)]
        service.process.kill()
    with quick_server(jobs=str(tmp_path)) as service, service.client() as client:
        finished = [wait(client, job) for job in jobs]
        assert {job["status"] for job in finished} == {"succeeded"}
        sizes = {client.get(job["urls"]["result"]).headers["etag"] for job in finished}
        assert len(sizes) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"JOBS": "postgresql://127.0.0.1:1/jobs"},
        {"JOBS": "mysql://127.0.0.1/jobs"},
        {"JOBS": "FOLDER", "JOBS_WEBHOOK_SECRET": "secret"},
        {"JOBS": "postgresql://127.0.0.1:1/jobs", "JOBS_STORE": "FOLDER"},
        {"JOBS": "/proc/nowhere"},
    ],
)
def test_wrong_settings_are_told_at_the_start(
    wrong: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(f"ENLARGER_{name}", value.replace("FOLDER", str(tmp_path)))
    with pytest.raises((ValidationError, StartupError)):
        JobService(Settings())


def test_a_folder_has_one_service(service: Server, jobs_folder: Path) -> None:
    with pytest.raises(RuntimeError, match="another service"), quick_server(jobs=str(jobs_folder)):
        pass
