"""Webhooks as their receivers see them: verified by the reference library, repeated until they are taken."""

import base64
import http.server
import ipaddress
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from app.jobs.egress import Egress
from app.jobs.records import UPLOAD, Job, JobSpec, new_id
from app.jobs.webhooks import DELAYS, Webhooks

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))  # type: ignore[attr-defined]
        if self.path == "/hang":
            self.rfile.read(1)  # until the sender gives up
            return
        self.send_response(self.server.statuses.pop(0))  # type: ignore[attr-defined]
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.statuses = [], [200]  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def job_for(receiver: Any, path: str = "/hook", **more: Any) -> Job:
    spec = JobSpec(UPLOAD, {}, webhook=f"http://127.0.0.1:{receiver.server_port}{path}")
    return Job(new_id(), "me", more.pop("status", "succeeded"), spec, created=0.0, finished=10.0, **more)


def webhooks() -> Webhooks:
    return Webhooks(SECRET, Egress(["127.0.0.1"], [ipaddress.ip_network("127.0.0.0/8")]), 60)


def test_the_reference_library_verifies_what_arrives(receiver: Any) -> None:
    job = job_for(receiver)
    assert webhooks().deliver(job, 1) is None
    ((headers, body),) = receiver.received
    message = Webhook(SECRET).verify(body, headers)
    assert message["type"] == "job.succeeded"
    assert message["timestamp"] == "1970-01-01T00:00:10.000Z"
    assert message["data"] == json.loads(json.dumps(job.document(60)))
    assert headers["webhook-id"] == f"msg_{job.id}"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


@pytest.mark.parametrize("status", [500, 404, 302, 429])
def test_what_is_not_taken_is_sent_again_later_and_later_with_the_same_id(receiver: Any, status: int) -> None:
    receiver.statuses[:] = [status] * (len(DELAYS) + 1)
    job, sender = job_for(receiver), webhooks()
    delays = [sender.deliver(job, attempt) for attempt in range(1, len(DELAYS) + 2)]
    assert delays.pop() is None  # given up
    assert all(delay and 0.8 * told <= delay <= 1.2 * told for delay, told in zip(delays, DELAYS, strict=True))
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert len(receiver.received) == len(DELAYS) + 1  # and no redirect was followed


def test_a_receiver_that_is_gone_is_left_in_peace(receiver: Any) -> None:
    receiver.statuses[:] = [410]
    assert webhooks().deliver(job_for(receiver), 1) is None


def test_one_that_does_not_answer_is_asked_again(receiver: Any) -> None:
    job = job_for(receiver)
    receiver.shutdown()
    receiver.server_close()
    assert webhooks().deliver(job, 1)


def test_one_that_takes_it_and_says_nothing_is_left_after_a_while(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.egress.SECONDS", 2.0)
    assert webhooks().deliver(job_for(receiver, "/hang"), 1)
    assert len(receiver.received) == 1


def test_one_inside_is_not_told_though_its_name_was_outside_when_the_job_came(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec(UPLOAD, {}, webhook=f"https://changed.test:{receiver.server_port}/hook")
    job = Job(new_id(), "me", "succeeded", spec, created=0.0, finished=10.0)
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.server_port))]
    monkeypatch.setattr("app.jobs.egress.socket.getaddrinfo", lambda *_, **__: inside)
    assert Webhooks(SECRET, Egress(["*"]), 60).deliver(job, 1)
    assert not receiver.received
