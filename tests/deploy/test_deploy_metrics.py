"""The dashboard and the alerts ask for metrics and labels that ``/metrics`` really has."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.metrics import Metrics
from app.telemetry.record import STAGES, Record
from app.telemetry.tracing import child_of
from harness import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "enlarger.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
BY_PROMETHEUS = {"instance", "job"}  # labels it adds to whatever it scrapes


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and it."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


EXPRESSIONS = list(expressions())


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """The labels of every sample that a process exposes once each thing has happened to it."""
    metrics = Metrics()
    metrics.describe_build("1.2.3", "1.31")
    metrics.describe_network("fast-x4", "fp32", "CPUExecutionProvider")
    metrics.watch(lambda: 1.0, lambda: 1, lambda: True, lambda: 0)
    metrics.observe_batch("fast-x4", 1, 100, 0.1)
    for outcome in ("answered", "cancelled", "too_slow", "broken"):
        record = Record("id", child_of(""), model="fast", outcome=outcome, input_pixels=1, output_pixels=16)
        record.clock.seconds.update(dict.fromkeys(STAGES, 0.1))
        metrics.observe(record, "POST", "/upscale", 200, 1.0)
    metrics.observe(Record("id", child_of(""), code="overloaded"), "POST", "/upscale", 429, 0.01)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_an_expression_finds_its_metrics(exposed: dict[str, set[str]], title: str, expression: str) -> None:
    selectors = re.findall(r"\b([a-z_]+(?:_[a-z]+)+)\b(?:\{([^}]*)\})?(?!\s*\()", re.sub(r"\$__\w+", "", expression))
    asked = [(name, labels) for name, labels in selectors if name.startswith(("enlarger_", "process_"))]
    assert asked, "it asks for no metric"
    for name, labels in asked:
        assert name in exposed, f"{name} is not exposed"
        for label in re.findall(r"(\w+)\s*[=!]~?", labels):
            assert label in exposed[name] | BY_PROMETHEUS, f"{name} has no label {label}"
    for group in re.findall(r"by \(([^)]*)\)", expression):
        for label in (part.strip() for part in group.split(",")):
            assert all(label in exposed[name] | BY_PROMETHEUS for name, _ in asked), f"no label {label} to group by"


def test_the_dashboard_shows_every_metric(exposed: dict[str, set[str]]) -> None:
    shown = " ".join(expression for _, expression in EXPRESSIONS)
    own = {re.sub(r"_(total|sum|count|bucket|created)$", "", name) for name in exposed if name.startswith("enlarger_")}
    assert {name for name in own if name not in shown} == set()


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
