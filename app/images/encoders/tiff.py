"""TIFF (6.0), row by row and uncompressed.

A TIFF's directory states the offset and length of each strip, and the file's first bytes the offset of the
directory. The lengths of compressed strips are not known in advance, so such a file cannot be streamed;
uncompressed, everything is known before the first pixel. For smaller files there is PNG, which holds the same.
"""

import struct
from fractions import Fraction

from app.errors import OutputTooLargeError
from app.images.encoders.base import OutputFormat, Picture, RowCounter, Rows
from app.images.formats import ifd

MAX_BYTES = 2**32 - 1  # offsets have 32 bits, TIFF 6.0 section 2
STRIP_BYTES = (
    2**20
)  # per strip, at least: section 7 suggests 8 KB, but then a large image would have a table of 100,000
BLACK_IS_ZERO, RGB = 1, 2
CHUNKY, INCH, UNASSOCIATED = 1, 2, 2
UNDEFINED, BYTE = 7, 1


class TiffEncoder:
    """Little-endian, in strips; ``begin`` writes the directory, because everything in it is known."""

    def __init__(self, picture: Picture) -> None:
        self._counter = RowCounter(picture)
        self._order = f"<u{picture.depth // 8}"
        size = len(header(picture)) + row_bytes(picture) * picture.height
        if size > MAX_BYTES:
            raise OutputTooLargeError("A TIFF file has at most 4 GB", limit=MAX_BYTES, actual=size)
        self._picture = picture

    def begin(self) -> bytes:
        return header(self._picture)

    def write(self, rows: Rows) -> bytes:
        self._counter.accept(rows)
        return rows.astype(self._order, copy=False).tobytes()

    def finish(self) -> bytes:
        self._counter.complete()
        return b""


def row_bytes(picture: Picture) -> int:
    return picture.width * picture.channels * picture.depth // 8


def header(picture: Picture) -> bytes:
    """The first eight bytes, the Exif directories if there are any, and the directory of the image."""
    fields, details, index = ifd.exif_fields(picture.exif) if picture.exif else ({}, {}, {})
    block = ifd.write_directory(index, "<", 8) if index else b""
    if index:
        details[ifd.INTEROPERABILITY] = ifd.longs((8,), "<")
    if details:
        fields[ifd.EXIF_IFD] = ifd.longs((8 + len(block),), "<")
        block += ifd.write_directory(details, "<", 8 + len(block))
    start = 8 + len(block)
    fields |= picture_fields(picture)
    rows = min(picture.height, -(-STRIP_BYTES // row_bytes(picture)))
    heights = [min(rows, picture.height - top) for top in range(0, picture.height, rows)]
    sizes = [height * row_bytes(picture) for height in heights]
    if sum(sizes) > MAX_BYTES:  # offsets would not fit their fields; the encoder refuses it
        sizes = []
    fields |= {278: ifd.longs((rows,), "<"), 279: ifd.longs(sizes, "<"), 273: ifd.longs([0] * len(sizes), "<")}
    end = start + len(ifd.write_directory(fields, "<", start))  # whatever the offsets will be
    if end + sum(sizes) <= MAX_BYTES:
        fields[273] = ifd.longs((end + sum(sizes[:index]) for index in range(len(sizes))), "<")
    return ifd.header("<", start) + block + ifd.write_directory(fields, "<", start)


def picture_fields(picture: Picture) -> dict[int, ifd.Field]:
    """The baseline tags of section 8 and the metadata, by tag."""
    fields = {
        256: ifd.longs((picture.width,), "<"),
        257: ifd.longs((picture.height,), "<"),
        258: shorts(*[picture.depth] * picture.channels),
        259: shorts(1),
        262: shorts(RGB if picture.channels >= 3 else BLACK_IS_ZERO),
        277: shorts(picture.channels),
        284: shorts(CHUNKY),
    }
    if picture.channels in (2, 4):
        fields[338] = shorts(UNASSOCIATED)
    if picture.dpi:
        fields |= {282: rational(picture.dpi[0]), 283: rational(picture.dpi[1]), 296: shorts(INCH)}
    if picture.icc_profile:
        fields[34675] = ifd.Field(UNDEFINED, len(picture.icc_profile), picture.icc_profile)
    if picture.xmp:
        fields[700] = ifd.Field(BYTE, len(picture.xmp), picture.xmp)
    return fields


def shorts(*numbers: int) -> ifd.Field:
    return ifd.Field(ifd.SHORT, len(numbers), struct.pack(f"<{len(numbers)}H", *numbers))


def rational(number: float) -> ifd.Field:
    fraction = Fraction(number).limit_denominator(10_000)
    return ifd.Field(ifd.RATIONAL, 1, struct.pack("<II", fraction.numerator, fraction.denominator))


FORMAT = OutputFormat(
    name="tiff",
    media_type="image/tiff",
    suffixes=(".tif", ".tiff"),
    create=lambda picture, options: TiffEncoder(picture),
    bits=16,
    lossless=True,
    max_bytes=MAX_BYTES,
)
