"""Pictures to training pairs: the reductions against slow definitions, the packed files, the batches, the thread."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from training.data import degradations
from training.data import pairs as data
from training.data.degradations import DEGRADATIONS, RANDOM_DEGRADATIONS, area, bicubic, found, reduction_matrix
from training.data.pairs import PairSet, Prefetcher, batches, list_pictures, read_picture
from training.recipe import DataRecipe

# -- reductions --------------------------------------------------------------------------------------------------


def keys(x: float) -> float:
    """Keys' cubic, written from the paper's three cases."""
    x = abs(x)
    if x <= 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x <= 2:
        return ((-0.5 * x + 2.5) * x - 4) * x + 2
    return 0.0


def imresize_line(line: list[float], scale: int) -> list[float]:
    """``contributions`` of MATLAB's ``imresize.m`` in its own 1-based terms, one sample after the other."""
    n = len(line)
    mirrored = [*range(n), *reversed(range(n))]
    result = []
    for x in range(1, n // scale + 1):
        u = x * scale + 0.5 * (1 - scale)
        left = math.floor(u - 4 * scale / 2)
        indices = range(left, left + math.ceil(4 * scale) + 2)
        weights = [keys((u - i) / scale) / scale for i in indices]
        total = sum(weights)
        result.append(sum(w / total * line[mirrored[(i - 1) % (2 * n)]] for w, i in zip(weights, indices, strict=True)))
    return result


def imresize(plane: np.ndarray, scale: int) -> np.ndarray:
    rows = np.array([imresize_line(column, scale) for column in plane.T.tolist()]).T
    return np.array([imresize_line(row, scale) for row in rows.tolist()])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("outputs", [1, 2, 5, 30])
def test_reduction_matrix(outputs: int, scale: int) -> None:
    length = outputs * scale
    matrix = reduction_matrix(length, scale)
    assert matrix.shape == (outputs, length)
    assert matrix.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert matrix == pytest.approx(matrix[::-1, ::-1], abs=1e-6)  # left and right are the same


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("outputs", [1, 2, 7])
def test_reduction_matrix_mirrors_the_edges(outputs: int, scale: int) -> None:
    line = np.random.default_rng(outputs).random(outputs * scale)
    margin = 3  # LR samples
    mirrored = np.pad(line, margin * scale, mode="symmetric")
    expected = (reduction_matrix(len(mirrored), scale) @ mirrored)[margin:-margin]
    assert reduction_matrix(len(line), scale) @ line == pytest.approx(expected, abs=1e-6)


def test_reduction_matrix_by_two_has_the_known_weights() -> None:
    row = reduction_matrix(40, 2)[10]
    half = [0.43359375, 0.11328125, -0.03515625, -0.01171875]  # Keys at 1/4, 3/4, 5/4, 7/4, halved
    assert row[17:25] == pytest.approx([*reversed(half), *half], abs=1e-7)
    assert not row[:17].any()
    assert not row[25:].any()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_imresize(scale: int) -> None:
    image = skimage.data.astronaut()[100 : 100 + 5 * scale, 200 : 200 + 7 * scale]
    exact = np.stack([imresize(image[..., c].astype(float), scale) for c in range(3)], axis=2).clip(0, 255)
    assert np.abs(bicubic(image, scale) - exact).max() <= 0.5 + 1e-3  # rounding, and float32 at its edge


def test_bicubic_clips_what_overshoots() -> None:
    stripes = np.zeros((16, 32, 3), np.uint8)
    stripes[:, 16:] = 255
    reduced = bicubic(stripes, 2)
    assert reduced.min() == 0
    assert reduced.max() == 255
    assert (np.diff(reduced[:, :, 0].astype(int), axis=1) >= 0).all()  # nothing wrapped around


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_a_constant_picture_stays_constant(degradation: str, scale: int) -> None:
    image = np.empty((4 * scale, 6 * scale, 3), np.uint8)
    image[:] = (0, 131, 255)
    reduced = DEGRADATIONS[degradation](image, scale)
    assert reduced.dtype == np.uint8
    assert reduced.shape == (4, 6, 3)
    assert (reduced == (0, 131, 255)).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_area_is_the_mean_of_each_square_rounded_half_up(scale: int) -> None:
    image = np.random.default_rng(scale).integers(0, 256, (3 * scale, 5 * scale, 3), np.uint8)
    image[0, :2] = image[1, :2] = ((0,) * 3, (1,) * 3)  # at scale 2: a mean of exactly one half
    count = scale * scale
    reduced = area(image, scale)
    for y, x, c in np.ndindex(3, 5, 3):
        total = int(image[y * scale : (y + 1) * scale, x * scale : (x + 1) * scale, c].astype(int).sum())
        assert reduced[y, x, c] == (2 * total + count) // (2 * count), (y, x, c)


# -- pictures ----------------------------------------------------------------------------------------------------


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs, one of them not a multiple of anything, one in a folder below."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(skimage.data.astronaut()[:121, 100:233]).save(folder / "astronaut.PNG")
    Image.fromarray(skimage.data.chelsea()[60:160, 100:220]).save(folder / "chelsea.png")
    Image.fromarray(skimage.data.coffee()[100:172, 200:296]).save(folder / "below" / "coffee.bmp")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_list_pictures_is_sorted_and_takes_only_pictures(folder: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(folder)) for path in list_pictures(folder)]
    assert names == ["astronaut.PNG", "below/coffee.bmp", "chelsea.png"]
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "absent"):
        with pytest.raises(ValueError, match=f"no pictures in .*{nothing}"):
            list_pictures(tmp_path / nothing)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_read_picture_gives_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(picture(9, 10)).convert(mode)
    image.save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png", multiple=4)
    assert pixels.dtype == np.uint8
    assert (pixels == np.asarray(image.convert("RGB"))[:8, :8]).all()


# -- packed pairs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_pairs_are_the_pictures_and_their_reductions(
    folder: Path, tmp_path: Path, degradation: str, scale: int
) -> None:
    pairs = PairSet(folder, scale, degradation, tmp_path / "cache")
    paths = list_pictures(folder)
    assert len(pairs) == len(paths) == 3
    for index, path in enumerate(paths):
        lr, hr = pairs.pair(index)
        original = read_picture(path)
        height, width = lr.shape[0] * scale, lr.shape[1] * scale
        assert pairs.sizes[index] == lr.shape[:2] == (original.shape[0] // scale, original.shape[1] // scale)
        assert (hr == original[:height, :width]).all()
        assert (lr == DEGRADATIONS[degradation](hr, scale)).all()


def packs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the number of pictures at every packing from now on."""
    counts: list[int] = []
    pack = data._pack

    def counted(paths: list[Path], *how: object) -> None:
        counts.append(len(paths))
        pack(paths, *how)

    monkeypatch.setattr(data, "_pack", counted)
    return counts


def test_pictures_are_packed_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, cache = packs(monkeypatch), tmp_path / "cache"
    first, second = (PairSet(folder, 2, "area", cache) for _ in range(2))
    assert counts == [3]
    assert all((a == b).all() for i in range(3) for a, b in zip(first.pair(i), second.pair(i), strict=True))
    assert (first.detail == second.detail).all()
    PairSet(folder, 3, "area", cache)
    PairSet(folder, 2, "bicubic", cache)
    assert counts == [3, 3, 3]  # another scale and another degradation are other pairs
    PairSet(folder, 2, "area", cache)
    assert counts == [3, 3, 3]


def test_a_changed_folder_is_packed_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, cache = packs(monkeypatch), tmp_path / "cache"
    PairSet(folder, 2, "area", cache)
    Image.fromarray(picture(30, 30)).save(folder / "z.png")
    assert len(PairSet(folder, 2, "area", cache)) == 4
    (folder / "chelsea.png").unlink()
    assert len(PairSet(folder, 2, "area", cache)) == 3

    repainted = folder / "below" / "coffee.bmp"
    size = repainted.stat().st_size
    Image.fromarray(255 - read_picture(repainted)).save(repainted)
    assert repainted.stat().st_size == size  # BMP: another picture of just as many bytes
    _, hr = PairSet(folder, 2, "area", cache).pair(1)
    assert (hr == read_picture(repainted)).all()
    assert counts == [3, 4, 3, 3]


def test_interrupted_packing_leaves_no_index(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def interrupted(image: np.ndarray, scale: int) -> np.ndarray:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(image)
        return area(image, scale)

    with monkeypatch.context() as patch:
        patch.setitem(degradations.DEGRADATIONS, "area", interrupted)
        with pytest.raises(KeyboardInterrupt):
            PairSet(folder, 2, "area", tmp_path / "cache")
    assert len(done) == 2
    assert not list((tmp_path / "cache").glob("*.json"))

    pairs = PairSet(folder, 2, "area", tmp_path / "cache")
    assert len(pairs) == 3
    for index in range(3):
        lr, hr = pairs.pair(index)
        assert (lr == area(np.asarray(hr), 2)).all()


def test_pictures_smaller_than_one_lr_pixel_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(picture(3, 40)).save(folder / "low.png")
    with pytest.raises(ValueError, match="no picture of 1 is as large as 4 x 4 px"):
        PairSet(folder, 4, "bicubic", tmp_path / "cache")
    Image.fromarray(picture(8, 12)).save(folder / "small.png")
    pairs = PairSet(folder, 4, "bicubic", tmp_path / "cache")
    assert pairs.sizes == [(2, 3)]
    assert (pairs.pair(0)[1] == read_picture(folder / "small.png")).all()


# -- batches -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(folder: Path, tmp_path: Path) -> PairSet:
    return PairSet(folder, 3, "area", tmp_path / "cache")


def test_a_batch_depends_on_seed_and_step_alone(pairs: PairSet) -> None:
    def of(seed: int, first: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(batches(pairs, DataRecipe(crop=8, batch=4, sampling="detail"), seed, first, 7))

    unbroken = of(seed=5, first=0)
    assert len(unbroken) == 7
    for first in (1, 4, 6):
        resumed = of(seed=5, first=first)
        assert len(resumed) == 7 - first
        for (lr, hr), (lr_unbroken, hr_unbroken) in zip(resumed, unbroken[first:], strict=True):
            assert (lr == lr_unbroken).all()
            assert (hr == hr_unbroken).all()
    assert not any((unbroken[0][0] == lr).all() for lr, _ in unbroken[1:])
    assert not (unbroken[0][0] == of(seed=6, first=0)[0][0]).all()


def test_patches_are_cut_and_turned_together(pairs: PairSet) -> None:
    for lr, hr in batches(pairs, DataRecipe(crop=10, batch=16), 1, 0, 6):
        assert (lr.dtype, lr.shape) == (np.uint8, (16, 10, 10, 3))
        assert (hr.dtype, hr.shape) == (np.uint8, (16, 30, 30, 3))
        for lr_patch, hr_patch in zip(lr, hr, strict=True):
            assert (area(hr_patch, 3) == lr_patch).all()  # a mean knows no direction, so this is exact


def test_every_position_and_every_symmetry_of_the_square_occurs(tmp_path: Path) -> None:
    """From a picture whose every pixel is different, a patch tells where it was cut and how it was turned."""
    y, x = np.mgrid[:12, :14]
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.stack([20 * (y // 2), 18 * (x // 2), 0 * y], axis=2).astype(np.uint8)).save(folder / "grid.png")
    grid = PairSet(folder, 2, "area", tmp_path / "cache")  # LR 6 x 7
    lr, _ = next(batches(grid, DataRecipe(crop=4, batch=400), 1, 0, 1))
    corners = lr[:, [0, 0, -1, -1], [0, -1, 0, -1], :2] // (20, 18)  # [N, corner, (y, x)]
    positions = {tuple(corner) for corner in corners.min(axis=1).tolist()}
    assert positions == {(top, left) for top in range(3) for left in range(4)}
    turned = corners - corners.min(axis=1, keepdims=True)
    assert len({tuple(order.ravel().tolist()) for order in turned}) == 8


def test_a_picture_as_large_as_one_crop_is_used_and_smaller_ones_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, side in (("small", 14), ("exact", 16)):
        Image.fromarray(np.full((side, 40, 3), side, np.uint8)).save(folder / f"{name}.png")
    pairs = PairSet(folder, 2, "area", tmp_path / "cache")
    lr, _ = next(batches(pairs, DataRecipe(crop=8, batch=64), 1, 0, 1))
    assert (lr == 16).all()
    with pytest.raises(ValueError, match=r"no picture is as large as one crop \(18 px\)"):
        next(batches(pairs, DataRecipe(crop=9, batch=4), 1, 0, 1))


def test_permuted_colours_are_the_same_in_both_and_all_orders_occur(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.full((16, 16, 3), (10, 20, 30), np.uint8)).save(folder / "a.png")
    pairs = PairSet(folder, 2, "area", tmp_path / "cache")
    lr, hr = next(batches(pairs, DataRecipe(crop=8, batch=60, permute=True), 1, 0, 1))
    assert (lr[:, 0, 0] == hr[:, 0, 0]).all()
    assert len({tuple(colour) for colour in lr[:, 0, 0].tolist()}) == 6


def test_every_picture_is_there_in_each_reduction(folder: Path, tmp_path: Path) -> None:
    whole = PairSet(folder, 2, "bicubic", tmp_path / "cache")
    both = PairSet(folder, 2, "bicubic", tmp_path / "cache", reductions=(1.0, 1.6))
    assert len(both) == 2 * len(whole)
    for index in range(len(whole)):
        assert np.array_equal(both.pair(2 * index)[1], whole.pair(index)[1])
        h, w = whole.sizes[index]
        assert both.sizes[2 * index + 1] == pytest.approx((h / 1.6, w / 1.6), abs=1)


@pytest.mark.parametrize(("sampling", "share"), [("uniform", 1 / 3), ("detail", 3 / 4)])
def test_sampling_prefers_detailed_pictures(sampling: str, share: float, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    stripes = np.indices((32, 32))[1] % 2  # mean gradient: the stripes' height
    for name, height in (("flat", 0), ("mild", 20), ("strong", 60)):
        pixels = np.repeat((100 + height * stripes)[:, :, None], 3, axis=2).astype(np.uint8)
        pixels[:, :, 2] = height  # so that a patch tells its picture
        Image.fromarray(pixels).save(folder / f"{name}.png")
    pairs = PairSet(folder, 2, "area", tmp_path / "cache")
    assert pairs.detail == pytest.approx([0, 20 * 2 / 3, 60 * 2 / 3], abs=1e-3)
    _, hr = next(batches(pairs, DataRecipe(crop=4, batch=600, sampling=sampling), 1, 0, 1))
    picked = hr[:, 0, 0, 2]
    assert (picked == 60).mean() == pytest.approx(share, abs=0.06)  # three standard deviations
    assert (picked == 0).mean() == pytest.approx(1 / 3 if sampling == "uniform" else 0, abs=0.06)
    assert (sampling == "detail") == (not (picked == 0).any())


# -- the thread --------------------------------------------------------------------------------------------------


def numbered(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index in range(count):
        yield np.array([index], np.uint8), np.array([index + 100], np.uint8)


def test_prefetcher_keeps_the_order() -> None:
    prefetcher = Prefetcher(numbered(30), depth=3)
    received = [prefetcher.next() for _ in range(30)]
    assert [(int(lr[0]), int(hr[0])) for lr, hr in received] == [(i, i + 100) for i in range(30)]
    with pytest.raises(StopIteration):
        prefetcher.next()


def test_prefetcher_raises_what_its_source_raised_after_what_came_before() -> None:
    def failing() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from numbered(2)
        raise OSError("the disk is gone")

    prefetcher = Prefetcher(failing())
    assert [int(prefetcher.next()[0][0]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        prefetcher.next()


def test_prefetcher_works_ahead_but_not_beyond_its_depth() -> None:
    made = []

    def source() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for item in numbered(10):
            made.append(item)
            yield item

    prefetcher = Prefetcher(source(), depth=2)
    end = time.monotonic() + 10
    while len(made) < 3:  # two in the queue, one in hand
        assert time.monotonic() < end, "nothing was made ahead"
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(made) == 3
    for _ in range(10):
        prefetcher.next()
    assert len(made) == 10


# -- the degradation of photographs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM_DEGRADATIONS)
def test_a_random_degradation_draws_from_its_generator_alone(name: str) -> None:
    hr = skimage.data.astronaut()[:96, :80]
    drawn = [RANDOM_DEGRADATIONS[name](hr, 4, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert {(lr.shape, lr.dtype) for lr in drawn} == {((24, 20, 3), np.dtype(np.uint8))}
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_what_is_found_keeps_lr_and_hr_aligned(scale: int) -> None:
    """The centroid of a spot stays where it was, on average to a twentieth of an LR pixel."""
    y, x = np.mgrid[: 32 * scale, : 32 * scale] / scale
    spot = 220 * np.exp(-((y - 14.3) ** 2 + (x - 17.7) ** 2) / (2 * 2.5**2))
    hr = np.repeat(spot[..., None], 3, axis=2).astype(np.uint8)
    shifts = [centroid(found(hr, scale, np.random.default_rng(seed))) - centroid(area(hr, scale)) for seed in range(40)]
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.05, np.mean(shifts, axis=0)
    assert np.abs(shifts).max() < 0.5


def centroid(image: np.ndarray) -> np.ndarray:
    light = np.where(image > 30, image, 0).mean(axis=2)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(light * y).sum(), (light * x).sum()]) / light.sum()


def test_the_web_spoils_mildly_and_what_is_poor_is_worse() -> None:
    hr = skimage.data.chelsea()[:240, :320]
    clean = area(hr, 4).astype(float)
    errors = {
        name: [np.abs(degrade(hr, 4, np.random.default_rng(seed)) - clean).mean() for seed in range(20)]
        for name, degrade in RANDOM_DEGRADATIONS.items()
    }
    assert min(errors["web"]) > 0.5, errors
    assert max(errors["poor"]) < 20, errors
    assert np.mean(errors["web"]) < np.mean(errors["found"]) < np.mean(errors["poor"]), errors


def test_batches_of_photos_are_degraded_anew_and_reproducibly(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(skimage.data.astronaut()[:160, :200]).save(folder / "a.png")
    pairs = PairSet(folder, 2, "bicubic", tmp_path / "cache")
    clean = list(batches(pairs, DataRecipe(crop=16, batch=4), 1, 0, 4))
    whole = list(batches(pairs, DataRecipe(crop=16, batch=4, degradation="found"), 1, 0, 4))
    resumed = list(batches(pairs, DataRecipe(crop=16, batch=4, degradation="found"), 1, 2, 4))
    for (lr, hr), (again, same) in zip(whole[2:], resumed, strict=True):
        assert lr.shape == (4, 16, 16, 3)
        assert hr.shape == (4, 32, 32, 3)
        assert (lr == again).all()
        assert (hr == same).all()
    for lr, hr in whole:  # LR is its own HR's, not a neighbour's
        distance = [[np.abs(area(b, 2).astype(float) - a).mean() for b in hr] for a in lr]
        assert np.argmin(distance, axis=1).tolist() == [0, 1, 2, 3]
    assert len({lr.tobytes() for lr, _ in whole} & {lr.tobytes() for lr, _ in clean}) == 0


def test_photos_to_validate_on_are_degraded_once_and_the_same_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(skimage.data.astronaut()[:64, :80]).save(folder / f"{name}.png")
    first, second = (PairSet(folder, 2, "web", tmp_path / cache) for cache in ("one", "two"))
    assert all((first.pair(i)[0] == second.pair(i)[0]).all() for i in range(2))
    assert (first.pair(0)[0] != first.pair(1)[0]).any(), "each picture has its own degradation"
