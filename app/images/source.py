"""A decoded image: its rows, and what is to be restored."""

from dataclasses import dataclass, field

import numpy as np

from app.images.pixels import Pixels
from app.images.raster import Raster


@dataclass(frozen=True, eq=False)
class SourceImage:
    """A decoded image. Colour is held once, at 1 byte per sample or, of 16 bits, at 2; see ``Raster`` for where.

    ``width`` and ``height`` are upright. ``gray``: one colour channel came in, one should go out. ``alpha``: straight,
    one channel of colour's depth; or None. ``exif`` has no ``Exif\\0\\0`` before it.
    """

    width: int
    height: int
    gray: bool
    format: str
    icc_profile: bytes | None
    exif: bytes | None
    dpi: tuple[float, float] | None
    xmp: bytes | None
    alpha: Raster | None = field(repr=False)
    _colour: Raster = field(repr=False)

    @property
    def depth(self) -> int:
        """Bits per sample: 8 or 16."""
        return 8 * self._colour.dtype.itemsize

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha channel, even if it is opaque all over."""
        return self.alpha is not None

    def rows(self, top: int, bottom: int) -> Pixels:
        """Colour of the rows ``top`` to ``bottom`` - 1: ``[bottom - top, width, 3]``, R = G = B if gray.

        uint8 or uint16 by ``depth``; not to be written to. Raises ``ValueError`` for an empty range and for rows that
        the image does not have.
        """
        rows = self._colour.rows(top, bottom)
        return rows if rows.shape[2] == 3 else np.repeat(rows, 3, axis=2)

    def alpha_rows(self, top: int, bottom: int) -> Pixels:
        """Alpha of these rows, ``[bottom - top, width, 1]``, of the same depth; only where there is alpha."""
        assert self.alpha is not None
        return self.alpha.rows(top, bottom)
