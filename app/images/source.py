"""A decoded image: its rows, alpha and metadata."""

from dataclasses import dataclass, field

import numpy as np

from app.images.pixels import Pixels
from app.images.raster import Raster


@dataclass(frozen=True, eq=False)
class SourceImage:
    """A decoded image. Colour is stored once, with 1 or (16 bits) 2 bytes per sample; see ``Raster`` for where.

    ``width`` and ``height`` are upright. ``gray``: one colour channel came in, one should go out. ``alpha``: straight,
    one channel of the same depth as colour; or None. ``exif`` has no ``Exif\\0\\0`` prefix.
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
        """Whether there is an alpha channel, even a fully opaque one."""
        return self.alpha is not None

    def rows(self, top: int, bottom: int) -> Pixels:
        """Colour of the rows ``top`` to ``bottom`` - 1: ``[bottom - top, width, 3]``, R = G = B if gray.

        uint8 or uint16 by ``depth``; read-only. Raises ``ValueError`` for an empty range and for rows outside the
        image.
        """
        rows = self._colour.rows(top, bottom)
        return rows if rows.shape[2] == 3 else np.repeat(rows, 3, axis=2)

    def alpha_rows(self, top: int, bottom: int) -> Pixels:
        """Alpha of these rows, ``[bottom - top, width, 1]``, of the same depth; call it only if there is alpha."""
        assert self.alpha is not None
        return self.alpha.rows(top, bottom)
