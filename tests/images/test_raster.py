"""Rows come back as they went in, wherever they are held, and the file leaves nothing behind."""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from app.images.raster import SPILL_BYTES, Raster

LARGE = (SPILL_BYTES // 3000 + 7, 1000)  # height, width of RGB that goes to a file


def noise(height: int, width: int, channels: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)


def planes_of(pixels: np.ndarray) -> list[Image.Image]:
    if pixels.dtype == np.uint16:
        return [Image.fromarray(np.ascontiguousarray(pixels[:, :, channel])) for channel in range(pixels.shape[2])]
    return [Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), LARGE, (3, SPILL_BYTES)], ids=str)
@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (4, np.uint8), (1, np.uint16), (3, np.uint16)]
)
def test_rows_come_back(size: tuple[int, int], channels: int, dtype: type) -> None:
    pixels = noise(*size, channels, dtype)
    held = Raster(planes_of(pixels))
    expected = pixels[:, :, :3]  # of RGBA, the A is another's to keep
    assert held.spilled == (expected.nbytes > SPILL_BYTES)
    height = size[0]
    for top, bottom in {(0, 1), (0, height), (height // 2, height), (height - 1, height)}:
        assert np.array_equal(held.rows(top, bottom), expected[top:bottom])


@pytest.mark.parametrize(("top", "bottom"), [(0, 0), (3, 2), (-1, 2), (0, 8)])
def test_rows_that_are_not_there(top: int, bottom: int) -> None:
    with pytest.raises(ValueError, match="of an image of 7"):
        Raster(planes_of(noise(7, 5, 3))).rows(top, bottom)


def test_the_file_has_no_name_and_goes_with_the_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    held = Raster(planes_of(noise(*LARGE, 3)))
    assert held.spilled
    assert not list(tmp_path.iterdir())
    del held
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_must_do_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    pixels = noise(*LARGE, 3)
    held = Raster(planes_of(pixels))
    assert not held.spilled
    assert np.array_equal(held.rows(0, LARGE[0]), pixels)
    assert "kept in memory" in caplog.text


@pytest.mark.parametrize("missing", [("posix_fallocate",), ("preadv",), ("posix_fallocate", "preadv")])
def test_a_system_that_lacks_a_call_holds_pictures_in_files_too(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    for name in missing:  # as on macOS
        monkeypatch.delattr(os, name)
    for dtype in (np.uint8, np.uint16):
        pixels = noise(*LARGE, 3, dtype)
        held = Raster(planes_of(pixels))
        assert held.spilled
        assert np.array_equal(held.rows(0, LARGE[0]), pixels)
        assert np.array_equal(held.rows(LARGE[0] - 2, LARGE[0]), pixels[-2:])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full is Linux'")
def test_memory_must_do_where_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(buffering: int) -> BinaryIO:
        return open("/dev/full", "r+b", buffering=buffering)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    pixels = noise(*LARGE, 3)
    held = Raster(planes_of(pixels))
    assert not held.spilled
    assert np.array_equal(held.rows(5, 9), pixels[5:9])
