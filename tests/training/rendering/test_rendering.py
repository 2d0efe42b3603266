"""Rendered pictures: each follows from its numbers alone, and what is judged by is not trained on."""

import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from training.__main__ import main
from training.rendering.browser import screenshot
from training.rendering.command import HELD_OUT, SIDE, drawings, windows
from training.rendering.drawings import find_drawings, line_art, render
from training.rendering.pages import PAGES, Page
from training.rendering.pixelart import SQUARES, pixel_art
from training.rendering.text import SCRIPTS_FILE, Script, fonts_of, scripts

LATIN = Script("latin", ("DejaVu Sans",), ("All human beings are born free and equal in dignity and rights.",))
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="30"><rect width="30" height="30" fill="red"/></svg>'
REQUIRED = os.environ.get("BROWSER_TESTS") == "1"  # set by .ci/run, which installs the programs


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (REQUIRED or shutil.which(program)), reason=f"{program} is not here")


@pytest.mark.parametrize("seed", range(12))
def test_line_art_is_sound_xml_that_its_seed_decides(seed: int) -> None:
    svg, again = (line_art(np.random.default_rng(seed)) for _ in range(2))
    assert svg == again
    names = {element.tag.split("}")[1] for element in ElementTree.fromstring(svg).iter()}
    assert {"svg", "path", "clipPath"} <= names


@pytest.mark.parametrize("seed", range(12))
def test_pixel_art_has_sharp_squares_of_few_colours(seed: int) -> None:
    pixels = pixel_art(SIDE, LATIN, np.random.default_rng(seed))
    assert (pixels.shape, pixels.dtype) == ((SIDE, SIDE, 3), np.uint8)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 8
    edges = [np.flatnonzero((np.diff(pixels.astype(int), axis=axis) != 0).any(axis=(1 - axis, 2))) for axis in (0, 1)]
    assert any(all(len({int(place % square) for place in along}) <= 1 for along in edges) for square in SQUARES), (
        "every edge lies on one grid"
    )


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_is_decided_by_its_numbers_and_says_what_its_script_says(kind: str) -> None:
    html, again, other = (PAGES[kind](Page(np.random.default_rng(seed), [LATIN])) for seed in (1, 1, 2))
    assert html == again != other
    assert "DejaVu Sans" in html
    assert any(word in html for word in LATIN.words)


def test_windows_show_the_detail_and_leave_out_what_is_empty() -> None:
    picture = np.full((500, 2000, 3), 255, np.uint8)
    picture[200:260, 900:1000:4] = 0
    found = windows(picture, (200, 300), 3, np.random.default_rng(1))
    assert {window.shape for window in found} == {(200, 300, 3)}
    assert all(window.min() == 0 for window in found)
    assert windows(np.full_like(picture, 9), (200, 300), 3, np.random.default_rng(1)) == []
    assert windows(None, (200, 300), 3, np.random.default_rng(1)) == []


def test_drawings_to_judge_by_are_not_trained_on(tmp_path: Path) -> None:
    for number in range(5 * HELD_OUT):
        (tmp_path / f"{number}.svg").write_text(SVG)
    (tmp_path / "photo.svg").write_text('<svg><image href="data:image/jpeg;base64,"/></svg>')
    works = list(drawings(tmp_path / "data", tmp_path, 10_000, 10))
    judged = {work.name for work in works if work.folder == tmp_path / "data" / "drawings"}
    trained = {work.name for work in works if work.folder == tmp_path / "data" / "rendered" / "drawings"}
    assert judged
    assert judged.isdisjoint(trained)
    assert len(trained) > 80
    assert "photo" not in trained | judged, "a picture in an SVG is no drawing"


def test_a_folder_without_drawings_says_where_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="openclipart-svg"):
        find_drawings(tmp_path)


@needs("rsvg-convert")
def test_an_svg_is_rendered_as_large_as_asked() -> None:
    image = render(SVG.encode(), 400)
    assert image is not None
    assert image.size == (400, 200)
    assert (image.getpixel((50, 50)), image.getpixel((300, 50))) == ((255, 0, 0, 255), (0, 0, 0, 0))
    assert render(b"<svg", 400) is None


@needs("chromium")
def test_a_page_is_the_same_at_four_times_its_size() -> None:
    box = "position:absolute;inset:10px 20px 30px 40px;background:red"
    html = f'<body style="margin:0;background:#08f"><div style="{box}">'
    for factor in (1, 4):
        pixels = screenshot(html, 320, 200, factor)
        assert pixels.shape == (200 * factor, 320 * factor, 3)
        rows, columns = np.nonzero((pixels == (255, 0, 0)).all(axis=2))
        assert [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1] == [
            factor * length for length in (10, 170, 40, 300)
        ]


@needs("fc-list")
def test_scripts_have_installed_fonts() -> None:
    assert "latin" in scripts()
    assert all(script.fonts for script in scripts().values())
    assert fonts_of("zz") == ()
    assert SCRIPTS_FILE.is_file()


@needs("chromium")
@needs("rsvg-convert")
def test_the_command_renders_each_kind_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    svg = tmp_path / "svg"
    svg.mkdir()
    for number in range(HELD_OUT):
        (svg / f"{number}.svg").write_text(SVG)
    amounts = ["--drawings", "2", "--line-art", "1", "--pages", "3", "--pixel-art", "1", "--judged", "2"]
    command = ["--data", str(tmp_path), "render", "--svg", str(svg), *amounts]
    assert main(command) == 0
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.webp")}
    kinds = {str(path.parent.relative_to(tmp_path)) for path in made}
    assert kinds >= {"rendered/drawings", "rendered/text", "rendered/screenshots", "rendered/pixel-art", "screenshots"}
    for path in made:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert image.size == (SIDE, SIDE) or path.parent in (tmp_path / "drawings", tmp_path / "screenshots")
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.webp")} == made
    capfd.readouterr()
