"""What is plotted: the right points at the right places, labels apart, and every column of a log."""

import csv
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from tests.support.records import BICUBIC, FAST, FAST_INT8
from training.__main__ import main
from training.log import read_log
from training.report.figures import curves, draw_scatter, extent, scatter
from training.report.records import Record, Speed, public_facts

LOG = "step,loss,rate,psnr_y,seconds,loader_share\n100,0.04,1e-3,,10,0\n200,0.03,1e-3,28.1,20,0\n300,0.02,1e-3,,30,0\n"


def zoo(crowd: int) -> list[Record]:
    """Three files of today, and as many more at one place of the plot, beside a public network."""
    records = [replace(r, speed=Speed(s, "a CPU")) for r, s in ((BICUBIC, 30), (FAST, 2.4), (FAST_INT8, 6))]
    for number in range(crowd):
        metrics = {"Set5": {"psnr_y": round(32.05 + number / 100, 2)}}
        records.append(replace(FAST, name=f"another{number}", metrics=metrics, speed=Speed(0.1, "a CPU")))
    return records


def drawn_at(figure: Figure) -> set[tuple[float, float]]:
    return {tuple(place) for group in figure.axes[0].collections for place in group.get_offsets().tolist()}


def test_every_measured_file_and_every_public_network_is_drawn() -> None:
    figure = scatter(zoo(2), 4, "Set5")
    public = {(n["lr_mpx_per_s"], n["psnr_y"]["Set5"]) for n in public_facts()["network"]}
    ours = {(30, 28.421), (2.4, 31.156), (6, 31.1), (0.1, 32.05), (0.1, 32.06)}
    assert drawn_at(figure) == ours | public
    labels = {label.get_text().removesuffix("*") for label in figure.axes[0].texts}
    names = {network["name"] for network in public_facts()["network"]}
    assert labels == names | {"bicubic", "fast", "fast int8", "another0", "another1"}
    assert figure.axes[0].get_xscale() == "log"


def test_a_network_without_a_figure_on_the_test_set_is_not_drawn() -> None:
    figure = scatter(zoo(0), 4, "B100")
    assert (2.4, 26.996) in drawn_at(figure)
    assert len(drawn_at(figure)) == 1 + sum("B100" in n["psnr_y"] for n in public_facts()["network"])


@pytest.mark.parametrize("crowd", [0, 6])
def test_labels_cover_neither_each_other_nor_a_point_and_lie_within(crowd: int) -> None:
    figure = scatter(zoo(crowd), 4, "Set5")
    axes = figure.axes[0]
    words = {label.get_text(): extent(label) for label in axes.texts}
    words["the legend"] = axes.get_legend().get_window_extent()
    for (a, box), (b, other) in combinations(words.items(), 2):
        assert not box.overlaps(other), f"{a} covers {b}"
    for place in drawn_at(figure):
        x, y = axes.transData.transform(place)
        assert not Bbox.from_bounds(x - 3, y - 3, 6, 6).count_overlaps(list(words.values())), place
    for name, box in words.items():
        assert axes.bbox.fully_containsx(box.x0), name
        assert axes.bbox.fully_containsx(box.x1), name
        assert axes.bbox.fully_containsy(box.y0), name
        assert axes.bbox.fully_containsy(box.y1), name


def test_a_plot_is_written_for_each_scale_of_which_something_is_known(tmp_path: Path) -> None:
    records = [*zoo(0), replace(BICUBIC, scale=2, speed=Speed(9, "a CPU")), replace(FAST, scale=3, speed=None)]
    draw_scatter(records, ["Set14", "Set5"], tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["scatter-x2.png", "scatter-x4.png"]
    for path in (tmp_path / "new").iterdir():
        assert path.stat().st_size < 150_000
        with Image.open(path) as picture:
            assert picture.width > 700
    assert scatter([replace(FAST, speed=None)], 4, "Set5") is None


def test_curves_draw_each_loss_of_the_log_and_the_validation(tmp_path: Path) -> None:
    text = LOG.replace("loss,", "loss,adversarial,").replace("0.04,", "0.04,,").replace("0.03,", "0.03,0.7,")
    (tmp_path / "log.csv").write_text(text.replace("0.02,", "0.02,0.6,"))
    figure = curves(read_log(tmp_path / "log.csv"), "a run")
    drawn = {axes.get_ylabel(): axes.lines[0].get_xydata().tolist() for axes in figure.axes}
    assert drawn == {
        "loss": [[100, 0.04], [200, 0.03], [300, 0.02]],
        "adversarial": [[200, 0.7], [300, 0.6]],
        "validation PSNR (dB)": [[200, 28.1]],
    }


def test_the_curves_of_a_run_are_written_beside_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fast-x4").mkdir()
    (tmp_path / "fast-x4" / "log.csv").write_text(LOG)
    assert main(["--runs", str(tmp_path), "curves", "fast-x4"]) == 0
    path = tmp_path / "fast-x4" / "fast-x4-curves.png"
    assert capsys.readouterr().out == f"{path}\n"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    assert main(["--runs", str(tmp_path), "curves", "other"]) == 2
    assert "no log" in capsys.readouterr().err


def test_a_log_without_lines_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "log.csv", "w", newline="") as file:
        csv.writer(file).writerow(["step", "loss"])
    with pytest.raises(ValueError, match="has no lines yet"):
        read_log(tmp_path / "log.csv")
