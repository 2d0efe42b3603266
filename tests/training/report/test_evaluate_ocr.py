"""Text that Tesseract reads after networks: what is drawn, what counts as right, the table."""

import doctest
import json
import os
import re
import shutil
from pathlib import Path

import onnx
import pytest

from harness import MODELS
from tests.support.nearest import nearest_graph
from training.__main__ import main
from training.rendering.text import scripts
from training.report import evaluate_ocr
from training.report.evaluate_ocr import (
    HEIGHT,
    ORIGINAL,
    SCALE,
    WIDTH,
    Reading,
    make_text,
    ocr_table,
    read,
    share_right,
)

REQUIRED = os.environ.get("BROWSER_TESTS") == "1"  # set by .ci/run, which installs the programs
THERE = REQUIRED or (shutil.which("tesseract") and shutil.which("chromium"))
reads = pytest.mark.skipif(not THERE, reason="Tesseract or Chromium is not here")


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(evaluate_ocr).failed == 0


def test_the_table_has_means_by_script_and_size() -> None:
    readings = [
        Reading(network, "latin", size, "web", page, right)
        for network, rights in {"a": (0.5, 1.0), "b": (0.0, 0.25)}.items()
        for size in (8, 12)
        for page, right in enumerate(rights)
    ]
    lines = ocr_table(readings).splitlines()
    assert lines[0] == "| web | latin 8 | latin 12 | mean |"
    assert lines[2:4] == ["| `a` | 75.0 | 75.0 | 75.0 |", "| `b` | 12.5 | 12.5 | 12.5 |"]


@reads
@pytest.mark.parametrize(("name", "language"), [("latin", "eng"), ("cyrillic", "rus")])
def test_large_text_is_read(name: str, language: str) -> None:
    text, again, other = (make_text(scripts()[name], 14, page) for page in (0, 0, 1))
    assert text == again != other
    hr = text.drawn(SCALE)
    assert hr.shape == (SCALE * HEIGHT, SCALE * WIDTH, 3)
    assert share_right(text.content, read(hr, language)) > 0.95


@reads
def test_networks_are_compared_on_spoiled_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rival = tmp_path / "theirs.onnx"
    onnx.save(nearest_graph("theirs", SCALE), rival)
    told = tmp_path / "ocr.json"
    asked = ["--scripts", "latin", "--sizes", "9", "14", "--pages", "1", "--conditions", "web", "screen"]
    command = ["evaluate-ocr", "bicubic", "--models", str(MODELS), "--rival", str(rival), *asked, "--json", str(told)]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert re.findall(r"^\| (\w+) \| latin 9 \| latin 14 \| mean \|$", table, re.MULTILINE) == ["web", "screen"]
    rights = {(r["network"], r["way"], r["size"]): r["right"] for r in json.loads(told.read_text())}
    assert {network for network, _, _ in rights} == {"bicubic", "theirs", ORIGINAL}
    for way in ("web", "screen"):
        assert rights["bicubic", way, 9] < rights[ORIGINAL, way, 9]
        assert rights["bicubic", way, 14] > 0.5


@reads
def test_a_script_that_nothing_reads_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_ocr, "installed_languages", lambda: {"eng"})
    assert main(["evaluate-ocr", "bicubic", "--models", str(MODELS), "--scripts", "greek"]) == 2
    assert "no language of greek" in capsys.readouterr().err
