"""Image file directories, the tag tables of TIFF and of Exif (TIFF 6.0, section 2; BigTIFF; Exif 3.0, 4.6).

They are parsed here and not by Pillow for two reasons: Pillow answers damaged tables with ``warnings.warn``, which
no thread can silence for itself alone, and a parsed table can be rewritten without what must not be kept (where an
image was taken, its orientation, the thumbnail of the small image).
"""

import math
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from app.errors import TooComplexError

MAX_FIELDS = 1000
"""In one directory. The fullest of a camera's holds about 100."""

MAX_EXIF_VALUE = 8192
MAX_EXIF = 65_527
"""Bytes that fit a JPEG's APP1 segment: 65,535 less its own length (2) and ``Exif\\0\\0`` (6)."""

_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
EXIF_IFD, INTEROPERABILITY = 34665, 40965
_POINTERS = (EXIF_IFD, INTEROPERABILITY)
COLOUR_SPACE = 40961  # 1 sRGB, 65535 uncalibrated; some programs write 2 for Adobe RGB
INDEX, ADOBE_RGB = 1, b"R03\0"  # of interoperability: a "DCF option file" (DCF 2.0, 4.1; Exif 3.0, 4.6.7)
_NOT_KEPT = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320),  # how this file
        *(322, 323, 324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341, 347, *range(512, 533)),  # stores pixels
        ORIENTATION,  # applied
        34853,  # GPS: private
        37500,  # MakerNote: proprietary, with offsets that break when it moves
        40962,  # PixelXDimension and
        40963,  # PixelYDimension: of the small image
        *(700, 33723, 34377, 34675, 50341),  # XMP, IPTC, Photoshop, ICC (kept elsewhere), PrintIM
        *(X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT),  # kept as dots per inch, whatever the format
        *_POINTERS,  # to directories that are rewritten
    )
)


@dataclass(frozen=True)
class Field:
    """One entry: its type, the number of values, and their bytes in the file's byte order."""

    type: int
    count: int
    value: bytes | memoryview


@dataclass(frozen=True)
class Directory:
    """A table of fields by tag; ``order`` is ``<`` or ``>`` as in ``struct``."""

    order: str
    fields: Mapping[int, Field]

    def numbers(self, tag: int, most: int) -> tuple[int, ...]:
        """The first ``most`` values of an unsigned integer field; empty if it is missing or of another type.

        A field of twelve bytes may point at millions of values, and a directory at the same ones repeatedly, so no
        more are read than the caller needs.
        """
        field = self.fields.get(tag)
        if field is None or field.type not in _UNSIGNED:
            return ()
        return struct.unpack_from(f"{self.order}{min(field.count, most)}{_UNSIGNED[field.type]}", field.value)

    def number(self, tag: int, default: int) -> int:
        """The first value."""
        return next(iter(self.numbers(tag, 1)), default)

    def rational(self, tag: int) -> float:
        """The first value of a rational field; NaN if it is missing, of another type or over zero."""
        field = self.fields.get(tag)
        if field is None or field.type != RATIONAL:
            return math.nan
        numerator, denominator = struct.unpack_from(self.order + "2I", field.value)
        return float(numerator / denominator) if denominator else math.nan

    def dpi(self) -> tuple[float, float] | None:
        inches = {2: 1.0, 3: 2.54}.get(self.number(RESOLUTION_UNIT, 2))  # unit 3: the centimetre; 1: none at all
        if inches is None:
            return None
        return plausible_dpi(self.rational(X_RESOLUTION) * inches, self.rational(Y_RESOLUTION) * inches)

    def orientation(self) -> int:
        value = self.number(ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1


@dataclass(frozen=True)
class Exif:
    """What the service uses of an Exif block; ``block`` is cleaned, and has no ``Exif\\0\\0`` prefix.

    ``colour``: a block of only the fields that mark the colours as Adobe RGB, if they do.
    """

    orientation: int = 1
    dpi: tuple[float, float] | None = None
    block: bytes | None = None
    colour: bytes | None = None


def plausible_dpi(x: float, y: float) -> tuple[float, float] | None:
    return (x, y) if 1 <= x <= 100_000 and 1 <= y <= 100_000 else None  # NaN compares false


def read_header(data: bytes | memoryview) -> Directory:
    """The first directory of a TIFF or BigTIFF file, or of an Exif block. Raises ``struct.error`` if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    magic = struct.unpack_from(order + "H", data, 2)[0] if order else 0
    if not order or magic not in (42, 43):
        raise struct.error("no TIFF header")
    big = magic == 43
    (offset,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    return read_directory(data, offset, order, big)


def read_directory(data: bytes | memoryview, offset: int, order: str, big: bool = False) -> Directory:
    """The directory at ``offset``. Fields of unknown type or with values outside the file are left out.

    Values are views of ``data``: nothing is copied.
    """
    if offset > len(data):
        raise struct.error("directory outside the file")
    view = memoryview(data)
    head, entry = struct.Struct(order + ("Q" if big else "H")), struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    pointer = struct.Struct(order + ("Q" if big else "I"))
    (count,) = head.unpack_from(view, offset)
    if count > MAX_FIELDS:
        raise TooComplexError("The tag directory is too long", limit=MAX_FIELDS, actual=count)
    fields: dict[int, Field] = {}
    for index in range(count):
        tag, kind, number, inline = entry.unpack_from(view, offset + head.size + index * entry.size)
        size = _SIZE.get(kind, 0) * number
        start = pointer.unpack(inline)[0]
        value = inline[:size] if size <= pointer.size else view[start : start + size] if start < len(view) else b""
        if size and len(value) == size:
            fields.setdefault(tag, Field(kind, number, value))
    return Directory(order, fields)


def write_directory(fields: Mapping[int, Field], order: str, offset: int) -> bytes:
    """A classic directory for the (even) file position ``offset``, followed by the values that do not fit inline."""
    items = sorted(fields.items())
    table, values = [struct.pack(order + "H", len(items))], bytearray()
    data_offset = offset + 2 + 12 * len(items) + 4
    for tag, field in items:
        inline = bytes(field.value)
        if len(inline) > 4:
            inline = struct.pack(order + "I", data_offset + len(values))
            values += field.value
            values += b"\0" * (len(values) % 2)  # values begin on word boundaries
        table.append(struct.pack(order + "HHI4s", tag, field.type, field.count, inline))
    return b"".join((*table, b"\0\0\0\0", values))  # no next directory


def little_endian(fields: Mapping[int, Field], order: str) -> dict[int, Field]:
    """The same fields with the bytes of their values swapped if ``order`` is ``>``."""
    if order == "<":
        return dict(fields)
    turned = {}
    for tag, field in fields.items():
        size = {5: 4, 10: 4}.get(field.type, _SIZE[field.type])  # a rational consists of two numbers
        value = bytes(field.value)
        parts = (value[at : at + size][::-1] for at in range(0, len(value), size))
        turned[tag] = Field(field.type, field.count, b"".join(parts))
    return turned


def header(order: str, offset: int) -> bytes:
    """The first eight bytes of a TIFF file or Exif block whose directory lies at ``offset``."""
    return struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, offset)


def read_exif(block: bytes | memoryview) -> Exif:
    """Reads and cleans an Exif block, with or without the ``Exif\\0\\0`` prefix. A broken one is ignored."""
    if bytes(block[:6]) == b"Exif\0\0":
        block = block[6:]
    try:
        main = read_header(block)
        return exif_of(main, block)
    except (struct.error, TooComplexError):
        return Exif()


def exif_of(main: Directory, data: bytes | memoryview) -> Exif:
    """Of a block whose first directory is ``main``."""
    return Exif(main.orientation(), main.dpi(), *_cleaned(main, data))


def _cleaned(main: Directory, data: bytes | memoryview) -> tuple[bytes | None, bytes | None]:
    """A new block with what describes the image as a whole (camera, exposure, author, copyright), and one with only
    those fields that state its colour space, if that is not sRGB.

    Left out are position, orientation, thumbnail (the directory after this one), maker notes and the tags of
    storage.
    """
    kept = _worth_keeping(main.fields)
    fields = _directory_at(main, data, EXIF_IFD)
    details = _worth_keeping(fields.fields)
    index = {tag: field for tag, field in _directory_at(fields, data, INTEROPERABILITY).fields.items() if tag in (1, 2)}
    if sum(len(field.value) for each in (kept, details, index) for field in each.values()) > MAX_EXIF:
        return None, None  # before it is assembled: a thousand fields may all point at the same bytes
    space = {tag: field for tag, field in details.items() if tag == COLOUR_SPACE}
    is_adobe = INDEX in index and bytes(index[INDEX].value) == ADOBE_RGB
    colour = write_exif({}, space, index, main.order) if is_adobe or fields.number(COLOUR_SPACE, 1) == 2 else None
    block = write_exif(kept, details, index, main.order)
    return (block if 8 < len(block) <= MAX_EXIF else None), colour


def _directory_at(main: Directory, data: bytes | memoryview, tag: int) -> Directory:
    """The directory that a field of another one points at; an empty one if it is damaged, because the rest is still
    good."""
    if pointer := main.number(tag, 0):
        with suppress(struct.error, TooComplexError):
            return read_directory(data, pointer, main.order)
    return Directory(main.order, {})


def write_exif(
    main: Mapping[int, Field], details: Mapping[int, Field], index: Mapping[int, Field], order: str
) -> bytes:
    """A block of the image's, the exposure's and the interoperability directory, those that have any fields."""
    if index:
        details = {**details, INTEROPERABILITY: _long(0, order)}
    if details:
        main = {**main, EXIF_IFD: _long(0, order)}
    # Lengths do not depend on the pointers' values, so a first pass gives the positions of the other directories.
    second = 8 + len(write_directory(main, order, 8))
    third = second + len(write_directory(details, order, second))
    if details:
        main = {**main, EXIF_IFD: _long(second, order)}
    if index:
        details = {**details, INTEROPERABILITY: _long(third, order)}
    written = [write_directory(main, order, 8)] if main else []
    written += [write_directory(details, order, second)] if details else []
    written += [write_directory(index, order, third)] if index else []
    return b"".join((header(order, 8), *written))


def exif_fields(block: bytes) -> tuple[dict[int, Field], dict[int, Field], dict[int, Field]]:
    """The fields of each directory of a block written by ``write_exif``, little-endian, without the pointers."""
    main = read_header(block)
    details = _directory_at(main, block, EXIF_IFD)
    index = _directory_at(details, block, INTEROPERABILITY)
    first, second, third = (
        little_endian({tag: field for tag, field in each.fields.items() if tag not in _POINTERS}, main.order)
        for each in (main, details, index)
    )
    return first, second, third


def longs(values: Iterable[int], order: str) -> Field:
    """Unsigned 32-bit integers as a field. Raises ``struct.error`` for those that do not fit."""
    numbers = tuple(values)
    return Field(LONG, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers))


def _long(value: int, order: str) -> Field:
    return longs((value,), order)


def _worth_keeping(fields: Mapping[int, Field]) -> dict[int, Field]:
    return {
        tag: field
        for tag, field in fields.items()
        if tag not in _NOT_KEPT and field.type <= 12 and len(field.value) <= MAX_EXIF_VALUE
    }
