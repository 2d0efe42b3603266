"""Fitting the limits of ``model=auto``: seeded pictures, and limits that answer best."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.images.decoder import decode
from app.images.formats import DecodeLimits
from app.images.traits import NAMES, Traits
from app.upscale.auto_tree import DRAWN_TREE, PHOTO_TREE
from app.upscale.tree import Split
from harness.files import saved
from tests.support.auto import photograph
from training.auto import command, pictures
from training.auto.command import Known, Trees, table
from training.auto.fit import balanced_error, paths_of, refined, rounded
from training.auto.pictures import COUNTS, SPOILERS, clean_photo, pixels, qr_code, spoiled_photo


def rows(**columns: list[float]) -> np.ndarray:
    length = len(next(iter(columns.values())))
    found = np.zeros((length, len(NAMES)))
    for name, values in columns.items():
        found[:, NAMES.index(name)] = values
    return found


def test_a_limit_is_put_between_the_classes() -> None:
    given = rows(noise=[1, 2, 3, 7, 8, 9])
    labels = ["a", "a", "a", "b", "b", "b"]
    fitted = refined(Split("noise", 0, "a", "b"), given, labels)
    assert isinstance(fitted, Split)
    assert 3 < fitted.limit <= 7
    assert balanced_error(fitted, given, np.array(labels)) == 0


def test_each_question_is_fitted_where_it_is_asked() -> None:
    rng = np.random.default_rng(0)
    noise, sharp = rng.random(300) * 10, rng.random(300)
    labels = np.where(noise >= 4, "c", np.where(sharp < 0.3, "a", "b"))
    tree = Split("noise", 9, Split("sharp", 0.9, "a", "b"), "c")
    fitted = refined(tree, rows(noise=list(noise), sharp=list(sharp)), list(labels))
    assert isinstance(fitted, Split)
    assert isinstance(fitted.below, Split)
    assert fitted.limit == pytest.approx(4, abs=0.3)
    assert fitted.below.limit == pytest.approx(0.3, abs=0.03)
    assert paths_of(fitted) == [(), (True,)]


@pytest.mark.parametrize(("low", "high"), [(0.123, 0.187), (88.2, 89.9), (0.5471, 0.5473), (3, 4)])
def test_limits_have_few_digits(low: float, high: float) -> None:
    found = rounded(low, high)
    assert low < found <= high
    assert len(f"{found:g}") <= max(4, len(f"{high:g}") + 1)


def test_there_are_600_to_judge_by() -> None:
    assert sum(COUNTS.values()) == 600


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    path = tmp_path / "photo.png"
    path.write_bytes(saved(photograph(200), "PNG"))
    return [path]


def test_pictures_are_the_same_for_the_same_seed(photos: list[Path]) -> None:
    limits = DecodeLimits()
    for number in range(len(SPOILERS)):
        first, again = (spoiled_photo(photos, list(SPOILERS), number, np.random.default_rng(3)) for _ in range(2))
        assert first == again
        assert first[0] == list(SPOILERS)[number]
        assert decode(first[1], limits).width > 80
    for maker in (lambda rng: clean_photo(photos, 0, rng), lambda rng: qr_code(True, 1, rng)):
        assert maker(np.random.default_rng(4)) == maker(np.random.default_rng(4))


def test_the_halves_share_no_code() -> None:
    _, fit = qr_code(False, 0, np.random.default_rng(4))
    _, test = qr_code(True, 0, np.random.default_rng(4))
    assert fit != test


def test_the_table_counts_what_was_taken() -> None:
    trees = Trees(Split("equal", 0.5, "photo", "drawn"), Split("noise", 5, "clean", "spoiled"))
    known = [
        Known("clean", "clean", "PNG", Traits()),
        Known("spoiled", "spoiled", "noise", replace(Traits(), noise=9)),
        Known("spoiled", "spoiled", "blur", Traits()),
        Known("codes", "drawn", "PNG", replace(Traits(), equal=0.9)),
    ]
    lines = table(trees, known).splitlines()
    assert "| spoiled | 1 | 1 | 0 | 50.0% |" in lines
    assert "| codes | 0 | 0 | 1 | 100.0% |" in lines
    assert "| all 4 | | | | 75.0% |" in lines
    assert lines[-1] == "Mistakes: 1 spoiled (blur) as clean."


def test_what_is_written_is_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "auto_tree.py"
    copy.write_text(command.FILE.read_text())
    monkeypatch.setattr(command, "FILE", copy)
    command.write(Trees(DRAWN_TREE, PHOTO_TREE))
    assert copy.read_text() == Path(command.auto_tree.__file__).read_text()
    assert isinstance(DRAWN_TREE, Split)
    command.write(Trees(replace(DRAWN_TREE, limit=0.125), PHOTO_TREE))
    assert "0.125" in copy.read_text()


def test_pixel_art_and_codes_are_files(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "scripts", lambda: {"latin": _Words()})
    for number in range(4):
        _, data = pixels(number, np.random.default_rng(number))
        assert decode(data, DecodeLimits()).width == 384


class _Words:
    def phrase(self, rng: np.random.Generator, shortest: int, longest: int) -> str:
        return "free and equal"
