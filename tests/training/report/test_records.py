"""What was measured: kept, merged, told as a table; and bicubic as every paper has it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.inference.zoo import load_zoo
from harness import MODELS
from tests.support.records import BICUBIC, FAST, FAST_INT8
from training.report.records import (
    BEGIN,
    END,
    Speed,
    against_published,
    known_before,
    merge,
    public_facts,
    read_records,
    table,
    write_markdown,
    write_records,
)

TIMES = "\N{MULTIPLICATION SIGN}"


def test_the_table_is_markdown_with_a_dash_for_what_is_not_known() -> None:
    text = table([BICUBIC, FAST, FAST_INT8], ["Set5", "Set14", "B100"], "fast", ["psnr_y", "ssim_y", "lpips_vgg"])
    assert text.splitlines() == [
        "| model | scale | parameters | kMAC per LR pixel | LR Mpx/s | Set5 | B100 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| `bicubic` | {TIMES}4 | 0 | 3.6 | - | 28.42 / 0.8104 / - | - |",
        f"| `fast` (default) | {TIMES}4 | 70,256 | 70.0 | 2.40 | 31.16 / 0.8788 / 0.214 | 27.00 / 0.7000 / - |",
        f"| `fast`, int8 | {TIMES}4 | 70,256 | 70.0 | - | 31.10 / - / - | - |",
        "",
        "PSNR (dB) on luma / SSIM on luma / LPIPS by VGG16 (less is better); `scale` pixels cropped at each border "
        "(none for LPIPS, DISTS and NIQE), bicubic LR, on the served path (PNG in, PNG out).",
        f"LR Mpx/s: the bare ONNX Runtime session on 256 {TIMES} 256 tiles, 2 cores of a CPU.",
    ]


def test_columns_of_which_nothing_is_known_are_left_out() -> None:
    lines = table([BICUBIC], ["Set5", "Set14"], show=["psnr_y", "lpips_vgg"]).splitlines()
    assert lines[0] == "| model | scale | parameters | kMAC per LR pixel | Set5 |"
    assert lines[2].endswith("| 28.42 |")
    assert lines[-1].startswith("PSNR (dB) on luma;")


def test_a_network_that_was_judged_by_codes_is_not_in_a_table_of_photographs() -> None:
    codes = replace(FAST, name="qr", sha256="q", metrics={"500 small codes": {"codes_read": 0.99, "codes_wrong": 0}})
    unknown = replace(FAST, name="new", sha256="n", metrics={})
    text = table([BICUBIC, codes, unknown], ["Set5"])
    assert "`qr`" not in text
    assert "| `new` |" in text
    assert "| 0.990 / 0 |" in table([codes], ["500 small codes"])


def test_newer_figures_of_the_same_file_are_laid_over_older_ones() -> None:
    newer = replace(BICUBIC, metrics={"Set5": {"psnr_y": 29.0}, "mine": {"psnr_y": 40.0}}, speed=Speed(30, "a CPU"))
    (merged, fast) = merge([BICUBIC, FAST], [newer])
    assert merged.metrics == {
        "Set5": {"psnr_y": 29.0, "ssim_y": 0.81044, "psnr_rgb": 26.7},
        "mine": {"psnr_y": 40.0},
    }
    assert merged.speed == Speed(30, "a CPU")
    assert fast == FAST
    assert merge([FAST], [replace(FAST, speed=None)]) == [FAST]  # what was not measured now stays
    assert BICUBIC.metrics["Set5"]["psnr_y"] == 28.421


def test_figures_of_another_file_of_that_name_are_not_taken() -> None:
    other = replace(FAST, sha256="an earlier training", metrics={"Set5": {"psnr_y": 99.0}})
    assert merge([FAST], [other]) == [FAST]


def test_records_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    assert read_records(path) == []
    write_records(path, [BICUBIC, FAST])
    assert read_records(path) == [BICUBIC, FAST]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": [{"name": "fast"}]}', '{"models": 3}'])
def test_a_file_of_another_kind_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(ValueError, match=r"figures\.json is not the JSON of an evaluation"):
        read_records(tmp_path / "figures.json")


def test_the_table_goes_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{BEGIN}\nan older\ntable\n{END}\n\nmore\n")
    write_markdown(path, "| new |")
    write_markdown(path, "| newer |")
    assert path.read_text() == f"# Title\n\n{BEGIN}\n| newer |\n{END}\n\nmore\n"

    path.write_text(f"no end\n{BEGIN}\n")
    with pytest.raises(ValueError, match="has no lines"):
        write_markdown(path, "| new |")
    assert path.read_text() == f"no end\n{BEGIN}\n"


def test_a_file_is_known_by_what_the_manifest_says_of_it() -> None:
    zoo = load_zoo(MODELS)
    manifest = json.loads((MODELS / "manifest.json").read_text())
    told = {file["sha256"]: file["metrics"] for entry in manifest["models"] for file in entry["files"].values()}
    records = known_before(zoo)
    assert {record.sha256: record.metrics for record in records} == told
    assert all(record.speed is None for record in records)


def test_bicubic_measures_here_what_it_measures_in_the_papers() -> None:
    """The manifest's figures are from the evaluation of the real test sets, which CI does not have.

    The papers enlarge the luma plane, the service the rounded RGB picture: hence the tolerance. A border of another
    width, luma of another range or SSIM with another window would all be further off.
    """
    published = {entry["scale"]: entry for entry in public_facts()["bicubic"]}
    compared = 0
    for record in known_before(load_zoo(MODELS)):
        if record.name != "bicubic":
            continue
        for name, figures in record.metrics.items():
            psnr, ssim = published[record.scale][name]
            assert figures["psnr_y"] == pytest.approx(psnr, abs=0.1), record
            assert figures["ssim_y"] == pytest.approx(ssim, abs=0.0025), record
            compared += 1
    assert compared >= 8  # three scales of Set5 and Set14, two of B100


def test_an_evaluation_tells_bicubic_beside_the_papers() -> None:
    metrics = {**BICUBIC.metrics, "mine": {"psnr_y": 30.0, "ssim_y": 0.9}}
    assert against_published([replace(BICUBIC, metrics=metrics), FAST]) == [
        "bicubic x4 on Set5: 28.42 / 0.8104, in papers 28.42 / 0.8104"
    ]


def test_every_public_network_tells_its_source() -> None:
    for network in public_facts()["network"]:
        assert "arXiv:" in network["source"], network["name"]
        assert 0 < network["lr_mpx_per_s"] < 100
        assert all(25 < psnr < 40 for psnr in network["psnr_y"].values())
