"""A decoded picture's rows, held where they cost least: a small picture in memory, a large one in an unlinked file."""

import logging
import os
import tempfile
import weakref
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SPILL_BYTES = 8 * 2**20
"""A picture of more bytes than this goes to a file. Pillow holds RGB at 4 bytes a pixel, so the largest picture that is
accepted would lie in memory with 200 MB for as long as its result is computed and sent, once a request."""
STRIP_BYTES = 2**20

log = logging.getLogger("enlarger.raster")


class Raster:
    """Rows of uint8 ``[height, width, channels]``, channels 1 or 3, readable in any order and by several threads."""

    def __init__(self, image: Image.Image) -> None:
        """Copies what ``image``, of mode L, RGB or RGBA (its A is dropped), shows; it may be let go afterwards."""
        self.width, self.height = image.size
        self.channels = 1 if image.mode == "L" else 3
        self._row_bytes = self.width * self.channels
        self._file = self._spill(image) if self._row_bytes * self.height > SPILL_BYTES else None
        self._pixels = np.concatenate(list(self._strips(image))) if self._file is None else None

    @property
    def spilled(self) -> bool:
        return self._file is not None

    def rows(self, top: int, bottom: int) -> Pixels:
        """The rows ``top`` to ``bottom`` - 1: uint8 ``[bottom - top, width, channels]``, not to be written to.

        Raises ``ValueError`` for an empty range and for rows that the picture does not have.
        """
        if not 0 <= top < bottom <= self.height:
            raise ValueError(f"rows {top} to {bottom} of a picture of {self.height}")
        if self._pixels is not None:
            return self._pixels[top:bottom]
        assert self._file is not None
        rows = np.empty((bottom - top, self.width, self.channels), np.uint8)
        left, offset = rows.data.cast("B"), top * self._row_bytes
        while left:
            count = os.preadv(self._file, [left], offset)
            left, offset = left[count:], offset + count
        return rows

    def _spill(self, image: Image.Image) -> int | None:
        """The rows in a file without a name, open for as long as this object lives; gone however the process ends.

        None where the temporary directory is full or cannot be written: then memory must do.
        """
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, self._row_bytes * self.height)  # so that a full disk is known now
                for strip in self._strips(image):
                    file.write(strip.tobytes())
                descriptor = os.dup(file.fileno())
        except OSError as error:
            log.warning("a picture is held in memory, for the temporary directory fails: %s", error.strerror)
            return None
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _strips(self, image: Image.Image) -> Iterator[Pixels]:
        mode = "L" if self.channels == 1 else "RGB"
        count = max(1, STRIP_BYTES // self._row_bytes)
        for top in range(0, self.height, count):
            strip = image.crop((0, top, self.width, min(self.height, top + count)))
            yield np.asarray(strip if strip.mode == mode else strip.convert(mode)).reshape(
                -1, self.width, self.channels
            )
