"""A teacher's images: made once, the same whoever makes them, cut as LR and HR are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor, nn

from training.data import teacher
from training.data.teacher import TaughtPairs, make_taught, taught_folder, whole_pairs
from training.recipe import TAUGHT_MARGIN, DataRecipe, TeacherRecipe

SCALE = 2
ASKED = TeacherRecipe("a test's teacher", pairs=5, side=24, factors=(2.0, 1.5), shares=(0.5, 0.5))
CROPS = DataRecipe(crop=8, batch=3)


class Doubled(nn.Module):
    """A teacher whose images can be told: nearest neighbour, darkened by a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, lr: Tensor) -> Tensor:
        return self.share * lr.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.roll(skimage.data.astronaut(), 50 * number, axis=0)[:64, :72]
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(teacher, "read_teacher", lambda path: (Doubled(), SCALE))
    path = tmp_path / "teacher.pth"
    path.write_bytes(b"its digest alone counts here")
    return path


def contents(pairs: TaughtPairs) -> tuple[Sequence[bytes], Sequence[bytes]]:
    return [lr.tobytes() for lr in pairs.lr], [sr.tobytes() for sr in pairs.sr]


def test_every_pair_is_a_crop_and_what_the_teacher_makes_of_it(photos: Path, weights: Path, tmp_path: Path) -> None:
    pairs = make_taught(ASKED, weights, photos, SCALE, tmp_path)
    assert len(pairs) == 5
    for lr, sr in zip(pairs.lr, pairs.sr, strict=True):
        expected = lr.repeat(SCALE, axis=0).repeat(SCALE, axis=1) / 2
        assert np.abs(sr - expected).max() <= 1.0  # bf16, where the machine has it
    assert len(set(contents(pairs)[0])) == 5


def test_a_longer_set_begins_with_the_shorter_one(photos: Path, weights: Path, tmp_path: Path) -> None:
    short = contents(make_taught(replace(ASKED, pairs=3), weights, photos, SCALE, tmp_path / "a"))
    grown = contents(make_taught(ASKED, weights, photos, SCALE, tmp_path / "a"))
    whole = contents(make_taught(ASKED, weights, photos, SCALE, tmp_path / "b"))
    assert grown == whole
    assert (grown[0][:3], grown[1][:3]) == short


def test_a_pair_that_a_kill_left_half_written_is_made_again(photos: Path, weights: Path, tmp_path: Path) -> None:
    whole = contents(make_taught(ASKED, weights, photos, SCALE, tmp_path))
    folder = taught_folder(ASKED, weights, photos, SCALE, tmp_path)
    for name, lost in (("lr", 10), ("sr", 3 * (ASKED.side * SCALE) ** 2 + 7)):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-lost])
    assert whole_pairs(folder, ASKED.side, SCALE) == 3
    assert contents(make_taught(ASKED, weights, photos, SCALE, tmp_path)) == whole


def test_another_teacher_has_a_set_of_its_own(photos: Path, weights: Path, tmp_path: Path) -> None:
    folder = taught_folder(ASKED, weights, photos, SCALE, tmp_path)
    assert folder == taught_folder(replace(ASKED, pairs=500), weights, photos, SCALE, tmp_path)
    assert folder != taught_folder(replace(ASKED, seed=1), weights, photos, SCALE, tmp_path)
    weights.write_bytes(b"other weights")
    assert folder != taught_folder(ASKED, weights, photos, SCALE, tmp_path)


def test_batches_are_cut_alike_and_depend_on_the_step_alone(photos: Path, weights: Path, tmp_path: Path) -> None:
    pairs = make_taught(ASKED, weights, photos, SCALE, tmp_path)
    whole = list(pairs.batches(CROPS, 1, 0, 40))
    resumed = list(pairs.batches(CROPS, 1, 30, 40))
    for (lr, sr), (same_lr, same_sr) in zip(whole[30:], resumed, strict=True):
        assert (lr == same_lr).all()
        assert (sr == same_sr).all()
    for lr, sr in whole:
        assert lr.shape == (3, 8, 8, 3)
        assert np.abs(sr - lr.repeat(SCALE, axis=1).repeat(SCALE, axis=2) / 2).max() <= 1.0


def test_a_student_of_a_smaller_scale_learns_from_the_same_set(photos: Path, weights: Path, tmp_path: Path) -> None:
    drawn, taught = (make_taught(ASKED, weights, photos, scale, tmp_path) for scale in (SCALE, 1))
    for (lr, sr), (same_lr, reduced) in zip(
        drawn.batches(CROPS, 1, 0, 20), taught.batches(CROPS, 1, 0, 20), strict=True
    ):
        assert (lr == same_lr).all()
        assert reduced.shape == lr.shape
        means = sr.reshape(3, 8, SCALE, 8, SCALE, 3).mean(axis=(2, 4))
        assert np.abs(reduced - means).mean() < 2  # of the same place, whichever way it was turned


def test_a_teacher_of_a_smaller_scale_cannot_teach(photos: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="enlarges by 2"):
        make_taught(ASKED, weights, photos, 3, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_the_crops_is_flat(photos: Path, weights: Path, tmp_path: Path, share: float) -> None:
    pairs = make_taught(ASKED, weights, photos, SCALE, tmp_path)
    batches = list(pairs.batches(replace(CROPS, flat=share), 1, 0, 100))
    colours = [
        (lr[0, 0], lr, sr)
        for lrs, srs in batches
        for lr, sr in zip(lrs, srs, strict=True)
        if np.ptp(lr, (0, 1)).max() == 0
    ]
    assert abs(len(colours) / 300 - share) < 0.1
    assert all((sr == colour).all() for colour, _, sr in colours)
    if share:
        ends = np.mean([np.isin(colour, (0, 255)) for colour, _, _ in colours])
        assert 0.2 < ends < 0.5


def test_edges_of_a_pair_are_not_taught(photos: Path, weights: Path, tmp_path: Path) -> None:
    """There the teacher saw its own padding."""
    pairs = make_taught(replace(ASKED, pairs=1), weights, photos, SCALE, tmp_path)
    marked = np.zeros_like(pairs.lr)
    inside = slice(TAUGHT_MARGIN, -TAUGHT_MARGIN)
    marked[:, inside, inside] = 255
    pairs.lr = marked
    assert all((lr == 255).all() for lr, _ in pairs.batches(replace(CROPS, crop=10), 1, 0, 60))


def test_flat_images_are_drawn_less_often(photos: Path, weights: Path, tmp_path: Path) -> None:
    pairs = make_taught(replace(ASKED, pairs=2), weights, photos, SCALE, tmp_path)
    flat = np.array(pairs.sr)
    flat[0] = 90
    marks = np.array(pairs.lr)
    marks[0], marks[1] = 0, 255
    pairs.sr, pairs.lr = flat, marks
    drawn = {
        sampling: np.mean([lr.mean() / 255 for lr, _ in pairs.batches(replace(CROPS, sampling=sampling), 1, 0, 60)])
        for sampling in ("uniform", "detail")
    }
    assert 0.3 < drawn["uniform"] < 0.7
    assert drawn["detail"] > 0.9


def test_a_recipe_with_a_teacher_needs_its_weights(photos: Path, tmp_path: Path) -> None:
    for missing in (None, tmp_path / "absent.pth"):
        with pytest.raises(ValueError, match="--teacher FILE"):
            make_taught(ASKED, missing, photos, SCALE, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"factors": (4.0, 2.0)},
        {"factors": (4.0, 2.0), "shares": (0.5, 0.4)},
        {"factors": (4.0, 2.0), "shares": (1.5, -0.5)},
        {"factors": (0.5,)},
        {"pairs": 0},
        {"side": 2 * TAUGHT_MARGIN},
    ],
)
def test_what_makes_no_set_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\[teacher\]"):
        TeacherRecipe("a test's teacher", **wrong)  # type: ignore[arg-type]
