"""The Prometheus instruments. The values of every label are known in advance: routes, statuses, codes, models,
stages."""

import platform
from collections.abc import Callable, Iterable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from app.telemetry.record import STAGES, Record

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")  # anything else that a client sends is "other"
CONTENT_TYPE = CONTENT_TYPE_LATEST
STAGE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
REQUEST_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The instruments of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._add_request_instruments(registry)
        self._add_work_instruments(registry)

    def _add_request_instruments(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "enlarger_requests",
            "Requests answered, by model once the image was planned.",
            ["method", "route", "status", "model"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "enlarger_request_seconds",
            "Time from a request's headers to the last byte of its response.",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "enlarger_stage_seconds",
            "What a picture has spent in each stage, in all. queue: until its first window was computed. compute: the "
            "batches its windows were in, which other stages overlap with.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            "enlarger_refused_requests", "Requests answered with a problem document.", ["code"], registry=registry
        )
        self._cancelled = Counter(
            "enlarger_cancelled_requests", "Requests whose client disconnected before the end.", registry=registry
        )
        self._broken = Counter(
            "enlarger_broken_transfers",
            "Images aborted after the 200, because of a fault or a client that reads too slowly.",
            ["reason"],
            registry=registry,
        )
        for reason in ("broken", "too_slow"):
            self._broken.labels(reason)
        for stage in STAGES:
            self._stage_seconds.labels(stage)

    def _add_work_instruments(self, registry: CollectorRegistry) -> None:
        self._input_pixels = Counter(
            "enlarger_input_pixels", "LR pixels of accepted images.", ["model"], registry=registry
        )
        self._output_pixels = Counter(
            "enlarger_output_pixels", "HR pixels of images sent completely.", ["model"], registry=registry
        )
        self._batch_windows = Histogram(
            "enlarger_batch_windows", "Windows per batch.", buckets=BATCH_BUCKETS, registry=registry
        )
        self._computed_pixels = Counter(
            "enlarger_computed_pixels",
            "LR pixels shown to a network, context included.",
            ["network"],
            registry=registry,
        )
        self._compute_seconds = Counter(
            "enlarger_compute_seconds", "Time the engine has spent on a network.", ["network"], registry=registry
        )
        self._network = Gauge(
            "enlarger_network_info",
            "1 for each loaded network.",
            ["network", "precision", "provider"],
            registry=registry,
        )

    def describe_build(self, version: str, runtime: str) -> None:
        """``version``: the service's; ``runtime``: ONNX Runtime's."""
        build = {"version": version, "python": platform.python_version(), "onnxruntime": runtime}
        Info("enlarger_build", "The versions that are running.", registry=self.registry).info(build)

    def describe_network(self, network: str, precision: str, provider: str) -> None:
        self._network.labels(network, precision, provider).set(1)

    def watch(
        self,
        queue_seconds: Callable[[], float],
        jobs: Callable[[], int],
        ready: Callable[[], bool],
        restarts: Callable[[], int],
    ) -> None:
        """Gauges that are evaluated when they are read."""
        gauges: Iterable[tuple[str, str, Callable[[], float]]] = [
            ("enlarger_queue_seconds", "Seconds the accepted work is estimated to take.", queue_seconds),
            ("enlarger_jobs", "Images being enlarged.", jobs),
            ("enlarger_worker_restarts", "Workers that the supervisor has replaced before this one.", restarts),
            ("enlarger_ready", "1 while new work is accepted.", ready),
        ]
        for name, meaning, value in gauges:
            Gauge(name, meaning, registry=self.registry).set_function(value)

    def watch_jobs(self, count: Callable[[], int], seconds: Callable[[], float]) -> None:
        """Of the jobs that all replicas have before them, as this one has seen last."""
        Gauge("enlarger_queued_jobs", "Unfinished jobs of all replicas.", registry=self.registry).set_function(count)
        meaning = "Estimated seconds that these jobs take one replica."
        Gauge("enlarger_queued_job_seconds", meaning, registry=self.registry).set_function(seconds)

    def observe_batch(self, network: str, windows: int, pixels: int, seconds: float) -> None:
        """One call of the engine; LR pixels."""
        self._batch_windows.observe(windows)
        self._computed_pixels.labels(network).inc(pixels)
        self._compute_seconds.labels(network).inc(seconds)

    def observe(self, record: Record, method: str, route: str, status: int, seconds: float) -> None:
        """Records a request that has ended, however it did."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status), record.model).inc()
        self._request_seconds.labels(route).observe(seconds)
        if record.outcome == "cancelled" or record.code == "cancelled":
            self._cancelled.inc()
        elif record.outcome != "answered":
            self._broken.labels(record.outcome).inc()
        elif record.code:
            self._refused.labels(record.code).inc()
        for stage in STAGES:
            if stage in record.clock.seconds:
                self._stage_seconds.labels(stage).observe(record.clock.seconds[stage])
        if record.input_pixels:
            self._input_pixels.labels(record.model).inc(record.input_pixels)
        if record.output_pixels and status == 200 and record.outcome == "answered":
            self._output_pixels.labels(record.model).inc(record.output_pixels)

    def text(self) -> bytes:
        """The metrics in the exposition format of ``CONTENT_TYPE``."""
        return generate_latest(self.registry)
