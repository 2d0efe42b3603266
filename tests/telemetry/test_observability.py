"""What an operator sees: metrics, the log, traces."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.logs import TextFormatter
from app.telemetry.record import STAGES, StageClock
from app.telemetry.tracing import child_of
from harness.pictures import encode
from harness.server import Server, head, quick_server

BICUBIC = {"model": "bicubic", "scale": "2", "format": "png"}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of the W3C's recommendation
TRACE_ID = CALLER.split("-")[1]


@pytest.fixture(scope="module")
def observed() -> Iterator[Server]:
    with quick_server(log_format="json", max_body_bytes="100000") as running:
        yield running


def samples(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of ``/metrics`` by its name and its labels."""
    response = httpx.get(f"{server.url}/metrics", timeout=60)
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float:
    return samples(server).get((name, frozenset(labels.items())), 0.0)


def lines(server: Server) -> list[dict[str, object]]:
    """The log's whole lines, each of which must be an object."""
    found = [json.loads(line) for line in server.log().split("\n")[:-1]]
    assert all(isinstance(line, dict) for line in found)
    return found


def request_line(server: Server, request_id: str) -> dict[str, object]:
    def find() -> list[dict[str, object]]:
        return [line for line in lines(server) if line.get("request_id") == request_id and "status" in line]

    server.wait_until(find)
    (line,) = find()
    return line


# -- metrics -----------------------------------------------------------------------------------------------------


def test_a_picture_is_counted_by_route_status_and_model(observed: Server) -> None:
    labels = {"method": "POST", "route": "/upscale", "status": "200", "model": "bicubic"}
    before = samples(observed)
    with observed.client() as client:
        assert client.post("/upscale", content=encode(np.zeros((30, 40, 3), np.uint8)), params=BICUBIC).is_success
    key = ("enlarger_requests_total", frozenset(labels.items()))
    observed.wait_until(lambda: samples(observed).get(key, 0) == before.get(key, 0) + 1)
    after = samples(observed)

    def grown(name: str, **more: str) -> float:
        at = (name, frozenset(more.items()))
        return after.get(at, 0.0) - before.get(at, 0.0)

    assert grown("enlarger_input_pixels_total", model="bicubic") == 30 * 40
    assert grown("enlarger_output_pixels_total", model="bicubic") == 60 * 80
    assert grown("enlarger_computed_pixels_total", network="bicubic-x2") >= 30 * 40
    assert grown("enlarger_compute_seconds_total", network="bicubic-x2") > 0
    assert grown("enlarger_batch_windows_count") == grown("enlarger_batch_windows_sum") > 0
    for stage in STAGES:
        assert grown("enlarger_stage_seconds_count", stage=stage) == 1, stage
        assert grown("enlarger_stage_seconds_sum", stage=stage) > 0, stage


def test_what_is_refused_is_counted_by_its_code(observed: Server) -> None:
    before = samples(observed)
    with observed.client() as client:
        assert client.post("/upscale", content=b"no picture").status_code == 415
        assert client.post("/upscale", content=bytes(100_001)).status_code == 413
        assert client.get("/nowhere").status_code == 404
    for code in ("unsupported_format", "body_too_large", "not_found"):
        key = ("enlarger_refused_requests_total", frozenset({("code", code)}))
        observed.wait_until(lambda key=key: samples(observed).get(key, 0) == before.get(key, 0) + 1)


def test_a_client_that_leaves_is_counted(observed: Server) -> None:
    before = value(observed, "enlarger_cancelled_requests_total")
    observed.connect(head(1000) + b"half").close()
    observed.wait_until(lambda: value(observed, "enlarger_cancelled_requests_total") == before + 1)


def test_gauges_and_infos(observed: Server) -> None:
    assert value(observed, "enlarger_ready") == 1
    observed.wait_until(lambda: value(observed, "enlarger_queue_seconds") == value(observed, "enlarger_jobs") == 0)
    loaded = {"network": "fast-x4", "precision": "fp32"}
    found = [set(labels) for name, labels in samples(observed) if name == "enlarger_network_info"]
    assert any(set(loaded.items()) < labels for labels in found)
    assert any(name == "enlarger_build_info" for name, _ in samples(observed))
    assert value(observed, "process_resident_memory_bytes") > 2**20


def test_strangers_make_no_new_time_series(observed: Server) -> None:
    with observed.client() as client:
        client.get("/nowhere")
        client.request("GET", "/models/none")
        client.request("PROPFIND", "/upscale")
        before = set(samples(observed))
        for number in range(20):
            client.get(f"/nowhere/{number}")
            client.get(f"/models/unknown-{number}")
            client.request(f"VERB{chr(65 + number)}", "/upscale")
            client.post("/upscale", content=b"x", params={"model": f"made-up-{number}"})
    assert len(set(samples(observed)) - before) <= 15  # the route's first POST: two counters and a histogram


# -- the log -----------------------------------------------------------------------------------------------------


def test_every_line_is_json_and_tells_the_request(observed: Server) -> None:
    with observed.client() as client:
        headers = {"X-Request-Id": "a-picture", "traceparent": CALLER}
        image = encode(np.zeros((30, 40, 3), np.uint8))
        response = client.post("/upscale", content=image, params=BICUBIC, headers=headers)
    line = request_line(observed, "a-picture")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/upscale", 200)
    assert (line["model"], line["outcome"], line["level"]) == ("bicubic", "answered", "info")
    assert (line["input_pixels"], line["output_pixels"]) == (1200, 4800)
    assert set(STAGES) <= set(line["stages"])  # type: ignore[call-overload]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["time"]))
    assert (line["trace_id"], line["parent_id"]) == (TRACE_ID, CALLER.split("-")[2])
    assert response.headers["traceresponse"] == f"00-{TRACE_ID}-{line['span_id']}-01"


def test_a_refusal_tells_its_code(observed: Server) -> None:
    with observed.client() as client:
        client.post("/upscale", content=b"no picture", headers={"X-Request-Id": "no-picture"})
    line = request_line(observed, "no-picture")
    assert (line["status"], line["code"]) == (415, "unsupported_format")
    assert "model" not in line


def test_a_line_break_in_a_path_makes_no_second_line(observed: Server) -> None:
    with observed.client() as client:
        client.get("/a%0A%7B%22forged%22:1%7D", headers={"X-Request-Id": "forger"})
    assert request_line(observed, "forger")["path"] == '/a\n{"forged":1}'


@pytest.mark.parametrize(
    "path",
    ["/x%0A2026-01-01 00:00:00,000 INFO forged", "/x%0D%1B[2Jforged", "/x%E2%80%A8forged%C2%85", "/%E2%80%AEforged"],
)
def test_a_path_forges_no_line_of_the_text_log(server: Server, path: str) -> None:
    """By line breaks, controls, and those of Unicode."""
    before = len(server.log())
    with server.client() as client:
        assert client.get(path, headers={"X-Request-Id": "forger"}).status_code == 404
    server.wait_until(lambda: "forged" in server.log()[before:])
    lines = [line for line in server.log()[before:].splitlines() if "forged" in line]
    assert len(lines) == 1
    assert "enlarger.requests: GET /" in lines[0]
    assert lines[0].isprintable()


def test_a_traceback_is_part_of_its_event() -> None:
    try:
        raise RuntimeError("first\n2026-01-01 00:00:00,000 INFO forged")
    except RuntimeError as error:
        told = (type(error), error, error.__traceback__)
    event = logging.LogRecord("enlarger", logging.ERROR, __file__, 1, "a %s", ("bug",), told)
    first, *others = TextFormatter().format(event).splitlines()
    assert first.endswith("ERROR enlarger: a bug")
    assert any("forged" in line for line in others)
    assert all(line.startswith("    ") for line in others)


# -- traces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        CALLER.upper(),
        CALLER.replace(TRACE_ID, "0" * 32),
        CALLER.replace(CALLER.split("-")[2], "0" * 16),
        CALLER + "-more",
        "ff" + CALLER[2:],
    ],
)
def test_a_malformed_caller_begins_a_new_trace(header: str) -> None:
    context = child_of(header)
    assert context.trace_id != TRACE_ID
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", context.header)
    assert context.parent_id == ""


def test_a_later_version_may_say_more() -> None:
    assert child_of("01" + CALLER[2:] + "-more").trace_id == TRACE_ID


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP endpoint that keeps what it gets."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


def test_spans_go_to_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with collector() as (endpoint, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        with quick_server(tracing="true", log_format="json") as server, server.client() as client:
            image = encode(np.zeros((30, 40, 3), np.uint8))
            response = client.post("/upscale", content=image, params=BICUBIC, headers={"traceparent": CALLER})
            own_id = response.headers["traceresponse"].split("-")[2]
        assert got, "nothing was sent before the end"
    exported = [trace_service.ExportTraceServiceRequest.FromString(data) for data in got]
    spans = [s for e in exported for r in e.resource_spans for scope in r.scope_spans for s in scope.spans]
    (span,) = (span for span in spans if span.span_id.hex() == own_id)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == tuple(CALLER.split("-")[1:3])
    told = {attribute.key: attribute.value for attribute in span.attributes}
    assert told["http.route"].string_value == "/upscale"
    assert told["http.response.status_code"].int_value == 200
    assert told["enlarger.compute_seconds"].double_value > 0


# -- stages ------------------------------------------------------------------------------------------------------


def test_a_stage_within_a_stage_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 4.0, 10.0, 20.0, 21.0])
    monkeypatch.setattr("app.telemetry.record.time.perf_counter", lambda: next(now))
    clock = StageClock()
    with clock.stage("stitch"), clock.stage("wait"):
        pass
    with clock.stage("encode"):
        pass
    assert clock.seconds == {"stitch": 7.0, "wait": 3.0, "encode": 1.0}
