"""Batches cut on a device, against those that a processor cuts. A GPU does the same; here the device is the CPU."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from training.data.device import DevicePairs, fits, tables
from training.data.pairs import PairSet, batches
from training.recipe import DataRecipe

CPU = torch.device("cpu")
STEPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of different sizes, one of them hardly larger than a crop."""
    folder = tmp_path_factory.mktemp("photos")
    for name, (height, width) in {"astronaut": (90, 131), "coffee": (200, 75), "rocket": (49, 51)}.items():
        Image.fromarray(getattr(skimage.data, name)()[100 : 100 + height, 200 : 200 + width]).save(
            folder / f"{name}.png"
        )
    return folder


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "data",
    [
        DataRecipe(crop=12, batch=16),
        DataRecipe(crop=9, batch=16, sampling="detail", permute=True),
        DataRecipe(crop=5, batch=16, reductions=(1, 1.6)),
    ],
    ids=["plain", "permuted", "reduced"],
)
def test_a_device_cuts_what_a_processor_cuts(folder: Path, scale: int, data: DataRecipe, tmp_path: Path) -> None:
    pairs = PairSet(folder, scale, "bicubic", tmp_path, data.reductions)
    pictures = DevicePairs(pairs, CPU)
    prepared = tables(pairs, data, 3, 5, 5 + STEPS, 1)
    for table, expected in zip(prepared, batches(pairs, data, 3, 5, 5 + STEPS, 1), strict=True):
        for found, pixels in zip(pictures.cut(table, data.crop), expected, strict=True):
            assert found.dtype == torch.uint8
            np.testing.assert_array_equal(found.numpy(), pixels)


def test_the_pictures_lie_on_a_gpu_that_has_room_for_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = PairSet(folder, 2, "bicubic", tmp_path)
    assert not fits(pairs, CPU)
    for free, room in ((2 * (pairs.lr.nbytes + pairs.hr.nbytes), False), (2**40, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2**40))
        assert fits(pairs, torch.device("cuda")) is room
