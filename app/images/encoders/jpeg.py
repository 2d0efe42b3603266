"""JPEG in bands: Pillow encodes each band as a small JPEG, and the compressed scans are joined at restart markers.

A restart marker resets the prediction of the DC coefficients (ITU T.81, F.1.1.5.1), so what follows it does not
depend on what precedes it. With a marker after each row of MCUs, the scan of a band is exactly the corresponding
piece of the whole image's scan, provided that the markers are numbered alike: they cycle through RST0..RST7 (B.2.1).
"""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from app.errors import OutputTooLargeError
from app.images.encoders.base import (
    DEFAULT_QUALITY,
    OutputFormat,
    Picture,
    RowCounter,
    Rows,
    Subsampling,
    check_quality,
    whole_density,
)

MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION; the format itself could hold 65535
MAX_DENSITY = 65535  # JFIF: two bytes
UNKNOWN_DENSITY = (0, 0)  # in Pillow's convention
MAX_EXIF = 65533 - 6  # bytes of one APP1 segment, less "Exif\0\0"
MAX_ICC = 255 * (65533 - 14)  # as many APP2 segments as can be numbered, less "ICC_PROFILE\0", number and count of each

# Eight rows of MCUs at 4:2:0 (16 lines each), sixteen where an MCU has 8 lines. Both are multiples of eight, so every
# band's own markers start at RST0 and the one that is missing behind its last row of MCUs is always RST7.
BAND_ROWS = 8 * 16
RST7 = b"\xff\xd7"
SOF0, EOI, SOS = 0xC0, b"\xff\xd9", 0xDA  # T.81 table B.1


class JpegEncoder:
    """Gray or RGB; the caller has flattened alpha. Gives the same pixels as Pillow does for the whole image."""

    def __init__(self, picture: Picture, quality: int = DEFAULT_QUALITY, subsampling: Subsampling = "4:2:0") -> None:
        check_quality(quality)
        _check_metadata(picture)
        self._picture = picture
        self._quality = quality
        self._subsampling = subsampling
        self._counter = RowCounter(picture)
        self._held: list[Rows] = []  # rows of a band that is not full yet
        self._first_band = True

    def begin(self) -> bytes:
        """Everything before the scan, taken from an image of the same width with one row."""
        picture = self._picture
        row = np.zeros((1, picture.width, picture.channels), np.uint8)
        density = whole_density(*picture.dpi, MAX_DENSITY) if picture.dpi else None
        exif = b"Exif\0\0" + picture.exif if picture.exif else b""
        jpeg = bytearray(
            self._encode(
                row, icc_profile=picture.icc_profile, exif=exif, dpi=density or UNKNOWN_DENSITY, xmp=picture.xmp
            )
        )
        # The segment of a frame: marker, length, precision (1 byte), height, width (T.81, B.2.2).
        struct.pack_into(">H", jpeg, _find_segment(jpeg, SOF0) + 5, picture.height)
        return bytes(jpeg[: _scan_start(jpeg)])

    def write(self, rows: Rows) -> bytes:
        self._counter.accept(rows)
        return b"".join(self._scan(band) for band in self._full_bands(rows))

    def finish(self) -> bytes:
        self._counter.complete()
        return (self._scan(np.concatenate(self._held)) if self._held else b"") + EOI

    def _full_bands(self, rows: Rows) -> Iterator[Rows]:
        """Cuts rows of any height into bands of ``BAND_ROWS``, keeping a copy of the remainder for the next call."""
        top = 0
        while top < len(rows):
            missing = BAND_ROWS - sum(map(len, self._held))
            piece = rows[top : top + missing]
            top += missing
            if len(piece) < missing:
                self._held.append(piece.copy())
            elif self._held:
                yield np.concatenate([*self._held, piece])
                self._held.clear()
            else:
                yield piece

    def _scan(self, band: Rows) -> bytes:
        """The entropy-coded data of one band, preceded by the marker that separates it from the band before."""
        marker = b"" if self._first_band else RST7
        self._first_band = False
        jpeg = self._encode(band)
        return marker + jpeg[_scan_start(jpeg) : -len(EOI)]

    def _encode(
        self,
        rows: Rows,
        icc_profile: bytes | None = None,
        exif: bytes = b"",
        dpi: tuple[int, int] = UNKNOWN_DENSITY,
        xmp: bytes | None = None,
    ) -> bytes:
        """A band as a JPEG of its own, with a restart marker after each row of MCUs.

        Always with the standard Huffman tables: ``optimize`` would give each band its own, but a file has one set.
        """
        image = Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)
        file = io.BytesIO()
        image.save(
            file,
            "JPEG",
            quality=self._quality,
            subsampling=self._subsampling,
            optimize=False,
            restart_marker_rows=1,
            icc_profile=icc_profile,  # Pillow splits it into APP2 segments of at most 65519 bytes (ICC.1, B.4)
            exif=exif,
            dpi=dpi,
            xmp=xmp or b"",
        )
        return file.getvalue()


def _check_metadata(picture: Picture) -> None:
    for name, block, limit in (("Exif block", picture.exif, MAX_EXIF), ("ICC profile", picture.icc_profile, MAX_ICC)):
        size = len(block or b"")
        if size > limit:
            raise OutputTooLargeError(
                f"The {name} does not fit into a JPEG; ask for metadata=strip", limit=limit, actual=size
            )


def _find_segment(jpeg: bytes | bytearray, marker: int) -> int:
    """The offset of the first segment of a kind; each has FF, marker, two bytes of length, contents (T.81, B.1.1.4)."""
    offset = 2  # after SOI, which has no length
    while jpeg[offset + 1] != marker:
        offset += 2 + _segment_length(jpeg, offset)
    return offset


def _scan_start(jpeg: bytes | bytearray) -> int:
    """The offset of the entropy-coded data, which follows the SOS segment."""
    offset = _find_segment(jpeg, SOS)
    return offset + 2 + _segment_length(jpeg, offset)


def _segment_length(jpeg: bytes | bytearray, offset: int) -> int:
    return int.from_bytes(jpeg[offset + 2 : offset + 4])


FORMAT = OutputFormat(
    name="jpeg",
    media_type="image/jpeg",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    create=lambda picture, options: JpegEncoder(picture, options.quality_or_default, options.subsampling),
    alpha=False,
    quality=True,
    subsampling=True,
    max_side=MAX_SIDE,
)
