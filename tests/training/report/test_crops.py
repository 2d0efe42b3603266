"""Crops side by side: the same box of every version, unchanged but for its size, and the box where they differ."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from app.inference.zoo import load_zoo
from harness import MODELS
from training.__main__ import main
from training.data.degradations import DEGRADATIONS, bicubic
from training.report.crops import COLUMNS, GAP, MARGIN, Box, Panel, fitting_font, most_different, side_by_side, versions
from training.report.sample import (
    DEGRADED,
    DEGRADED_ZOOM,
    DRAWS,
    draw_degradations,
    enlarged,
    sample_pair,
)


@pytest.fixture
def hr() -> np.ndarray:
    return skimage.data.astronaut()[:96, 100:220]


def test_the_versions_stand_in_order_at_the_size_of_the_original(hr: np.ndarray) -> None:
    lr = bicubic(hr, 4)
    network = Panel("a network", 255 - hr)
    panels = versions(lr, hr, [network])
    assert [panel.label for panel in panels] == ["LR (nearest)", "bicubic", "a network", "original"]
    assert all(panel.pixels.shape == hr.shape for panel in panels)
    assert (panels[0].pixels[::4, ::4] == lr).all()
    assert (panels[0].pixels[3::4, 3::4] == lr).all()
    assert (panels[3].pixels == hr).all()


def test_the_box_is_where_pictures_differ_most(hr: np.ndarray) -> None:
    other = hr.copy()
    other[40:60, 70:95] = 255 - other[40:60, 70:95]
    other[5:8, 5:8] = 255 - other[5:8, 5:8]
    assert most_different([hr, other], 25, 20) == Box(70, 40, 25, 20)
    assert most_different([hr, hr, other], 25, 20) == Box(70, 40, 25, 20)
    assert most_different([hr, other], 500, 20) == Box(0, 40, 120, 20)  # no wider than the picture


def test_each_panel_holds_its_own_pixels_of_the_box(hr: np.ndarray) -> None:
    panels = versions(bicubic(hr, 4), hr, [Panel(str(i), np.roll(hr, i + 1, axis=1)) for i in range(COLUMNS)])
    box, zoom = Box(30, 20, 40, 24), 2
    figure = np.asarray(side_by_side(panels, box, zoom))
    columns = len(panels) // 2 + len(panels) % 2  # two rows
    row_height = figure.shape[0] - 2 * MARGIN
    row_height = (row_height + GAP) // 2
    for index, panel in enumerate(panels):
        x = MARGIN + index % columns * (box.width * zoom + GAP)
        y = MARGIN + index // columns * row_height
        shown = figure[y : y + box.height * zoom, x : x + box.width * zoom]
        assert (shown == panel.pixels[20:44, 30:70].repeat(zoom, 0).repeat(zoom, 1)).all(), panel.label
        below = figure[y + box.height * zoom : y + row_height - GAP, x : x + box.width * zoom]
        assert below.min() < 100, f"{panel.label}: nothing is written below it"


@pytest.mark.parametrize("box", [Box(-1, 0, 5, 5), Box(0, 92, 5, 5), Box(116, 0, 5, 5), Box(0, 0, 0, 5)])
def test_a_box_outside_the_picture_is_an_error(box: Box, hr: np.ndarray) -> None:
    with pytest.raises(ValueError, match="does not lie in a picture of 120 x 96 pixels"):
        box.cut(hr)


def test_a_long_label_is_written_smaller_so_that_it_stays_below_its_panel() -> None:
    words = "a network with a name"
    assert fitting_font("fast", 192).getlength("fast") < 192
    wide, narrow = fitting_font(words, 400), fitting_font(words, 120)
    assert narrow.getlength(words) <= 120 < wide.getlength(words)
    with pytest.raises(ValueError, match="does not fit"):
        fitting_font(words, 20)


def test_the_picture_is_enlarged_as_the_service_does_it() -> None:
    zoo = load_zoo(MODELS)
    hr = skimage.data.coffee()[:90, :121]
    files = [(zoo.find("bicubic", 3), "fp32"), (zoo.find("fast", 3), "int8")]
    panels = enlarged(zoo, files, *sample_pair(hr, 3))
    assert [panel.label for panel in panels] == ["LR (nearest)", "bicubic", "bicubic", "fast int8", "original"]
    assert (panels[-1].pixels == hr[:90, :120]).all()
    pillow, own = (panel.pixels[9:-9, 9:-9].astype(int) for panel in panels[1:3])
    assert np.abs(pillow - own).max() <= 2  # Pillow rounds between its two passes
    error = [np.mean((panel.pixels.astype(float) - hr[:90, :120]) ** 2) for panel in panels]
    assert error[3] < error[1] < error[0]


def test_an_evaluation_draws_crops_of_the_trained_networks(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(skimage.data.astronaut()[:128, 160:288]).save(picture)
    options = ["--measure", "--figures", str(tmp_path / "figures"), "--picture", str(picture)]
    assert main(["evaluate", "espcn-x4", "fast-x4", "bicubic-x2", *options]) == 0
    (path,) = (tmp_path / "figures").iterdir()  # no speed: no plot; interpolation alone: no crops
    assert path.name == "crops-x4.png"
    with Image.open(path) as figure:
        assert figure.width == 2 * MARGIN + 5 * (64 * 3 + GAP) - GAP
    assert main(["evaluate", "fast-x4", *options, "--box", "100", "0", "64", "64"]) == 2  # beyond the picture


def test_degradations_are_drawn_alike_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_degradations(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as figure:
        panels = len(DEGRADATIONS) + 2 + 2 * DRAWS  # and the two fixed conditions
        rows = -(-panels // COLUMNS)
        assert figure.height > rows * DEGRADED.height * DEGRADED_ZOOM
