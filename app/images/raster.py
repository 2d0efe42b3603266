"""The rows of a decoded image, held where they cost least: a small image in memory, a large one in an unlinked file."""

import logging
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from app.images.pixels import Pixels

SPILL_BYTES = 2**20
"""An image of more bytes than this goes to a file. Pillow holds RGB at 4 bytes per pixel, so the largest image that is
accepted would lie in memory with 200 MB for as long as its result is computed and sent, once per request."""
STRIP_BYTES = 2**20

log = logging.getLogger("enlarger.raster")


class Raster:
    """Rows of ``[height, width, channels]``, channels 1 or 3, readable in any order and from several threads.

    ``dtype`` is uint8 or uint16.
    """

    def __init__(self, planes: Sequence[Image.Image]) -> None:
        """Copies an image of mode L, RGB or RGBA (its A is dropped), or one 16-bit image (I;16) per channel."""
        self.width, self.height = planes[0].size
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if planes[0].mode.startswith("I;16") else np.uint8)
        self.channels = 3 if planes[0].mode in ("RGB", "RGBA") else len(planes)
        self._row_bytes = self.width * self.channels * self.dtype.itemsize
        self._file = self._spill(planes) if self._row_bytes * self.height > SPILL_BYTES else None
        self._pixels = np.concatenate(list(self._strips(planes))) if self._file is None else None

    @property
    def spilled(self) -> bool:
        return self._file is not None

    def rows(self, top: int, bottom: int) -> Pixels:
        """The rows ``top`` to ``bottom`` - 1: ``[bottom - top, width, channels]``, read-only.

        Raises ``ValueError`` for an empty range and for rows outside the image.
        """
        if not 0 <= top < bottom <= self.height:
            raise ValueError(f"rows {top} to {bottom} of an image of {self.height}")
        if self._pixels is not None:
            return self._pixels[top:bottom]
        assert self._file is not None
        rows = np.empty((bottom - top, self.width, self.channels), self.dtype)
        left, offset = rows.data.cast("B"), top * self._row_bytes
        while left:
            count = read_into(self._file, left, offset)
            left, offset = left[count:], offset + count
        return rows

    def _spill(self, planes: Sequence[Image.Image]) -> int | None:
        """Writes the rows to a file without a name, open for as long as this object lives; it disappears however the
        process ends.

        None if the temporary directory is full or not writable: the rows then stay in memory.
        """
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                if hasattr(os, "posix_fallocate"):  # Linux, FreeBSD: a full disk shows now; elsewhere during the writes
                    os.posix_fallocate(file.fileno(), 0, self._row_bytes * self.height)
                for strip in self._strips(planes):
                    file.write(strip.tobytes())
                descriptor = os.dup(file.fileno())
        except OSError as error:
            log.warning("an image is kept in memory because the temporary directory failed: %s", error.strerror)
            return None
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _strips(self, planes: Sequence[Image.Image]) -> Iterator[Pixels]:
        count = max(1, STRIP_BYTES // self._row_bytes)
        for top in range(0, self.height, count):
            box = (0, top, self.width, min(self.height, top + count))
            strips = [plane.crop(box) for plane in planes]
            if strips[0].mode == "RGBA":
                strips = [strips[0].convert("RGB")]
            pixels = [np.asarray(strip).reshape(strip.height, self.width, -1) for strip in strips]
            yield np.concatenate(pixels, axis=2) if len(pixels) > 1 else pixels[0]


def read_into(file: int, buffer: memoryview, offset: int) -> int:
    """Reads as much as is available at once; returns the number of bytes."""
    if hasattr(os, "preadv"):  # not on every macOS
        return os.preadv(file, [buffer], offset)
    data = os.pread(file, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)
