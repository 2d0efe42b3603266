"""TIFF 6.0 and BigTIFF. A file of several pages is its first; the later ones are not read.

Pillow and libtiff are given the file with another directory put before it, written here: the tags of storage alone,
each number once and every table whole. So nothing in the original directory can confuse them, and reading past the end
of the file stays just that.
"""

from math import ceil
from typing import Literal

from PIL.TiffImagePlugin import TiffImageFile

from app.errors import CorruptImageError, TooComplexError, UnsupportedFormatError
from app.images.formats import ifd
from app.images.formats.base import (
    Buffer,
    Bytewise,
    Container,
    DecodeLimits,
    ImageHeader,
    InputFormat,
    checked_profile,
    upright,
)
from app.images.formats.xmp import cleaned_xmp

MAX_BLOCKS = 100_000
"""Strips or tiles; each costs an object. The highest picture allowed has 32,768 rows."""

MAX_SAMPLES = 6
"""A pixel; with more, Pillow refuses by way of the log."""

MAX_COLOURS = 256  # of a palette, for indices of 8 bits
MAX_LIST = 65_536
"""Bytes of a list of storage that is handed on; JPEG's tables, the longest, have some 1,200."""

SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_SIZES, PLANES, COLOUR_MAP = 273, 277, 278, 279, 284, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
XMP, ICC_PROFILE, DNG_VERSION, PREDICTOR = 700, 34675, 50706, 317

# 266 FillOrder, 292 and 293 T4/T6Options, 317 Predictor, 531 YCbCrPositioning.
_NUMBERS = frozenset((WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANES, 266, 292, 293, 317, 531))
# 347 JPEGTables; 529, 530 and 532 YCbCr coefficients, subsampling and range.
_LISTS = frozenset((BITS, EXTRA_SAMPLES, SAMPLE_FORMAT, COLOUR_MAP, 347, 529, 530, 532))

_COMPRESSIONS = frozenset((1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50000, 50001))
"""None, CCITT (three), LZW, JPEG, Deflate, PackBits, old Deflate, Zstandard, WebP. Not LZMA, whose files choose how
much memory is set aside, nor the old JPEG (6), nor those nobody sends."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
_SAMPLES: dict[int, Literal["unsigned", "signed", "float"]] = {1: "unsigned", 2: "signed", 3: "float"}
_ALPHA = (1, 2, 999)  # ExtraSamples: premultiplied, straight, and what Corel Draw 10 writes


def read_tiff(data: bytes, limits: DecodeLimits) -> Container:
    tags = ifd.read_header(data)
    stored_width, stored_height = tags.number(WIDTH, 0), tags.number(HEIGHT, 0)
    limits.check(stored_width, stored_height)
    _check_kind(tags)
    _check_blocks(tags, stored_width, stored_height, limits)
    orientation = tags.orientation()
    width, height = upright(stored_width, stored_height, orientation)
    bits, photometric = tags.number(BITS, 1), tags.number(PHOTOMETRIC, WHITE_IS_ZERO)
    profile, xmp = tags.fields.get(ICC_PROFILE), tags.fields.get(XMP)
    bytewise = _bytewise(tags, stored_width)
    return Container(
        header=ImageHeader(
            format="tiff",
            width=width,
            height=height,
            gray=_is_gray(tags),
            has_alpha=_has_alpha(tags),
            bits=8 if photometric == PALETTE else bits,
            depth=16 if bytewise or _is_deep_gray(tags) else 8,
            orientation=orientation,
        ),
        ink=photometric in (SEPARATED, CIELAB),
        stream=_rebuilt(data, tags, bytewise),
        icc_profile=checked_profile(profile.value) if profile else None,
        exif=ifd.cleaned_exif(tags, data),
        dpi=tags.dpi(),
        xmp=cleaned_xmp(xmp.value) if xmp else None,
        bytewise=bytewise,
        white_is_zero=photometric == WHITE_IS_ZERO and bits > 8,
        sample=_SAMPLES.get(tags.number(SAMPLE_FORMAT, 1), "unsigned"),
    )


def _check_kind(tags: ifd.Directory) -> None:
    if DNG_VERSION in tags.fields or tags.number(SUBFILE_TYPE, 0) & 1:  # bit 0: a smaller version of another picture
        raise UnsupportedFormatError("This is a camera's raw file or begins with a thumbnail; send a developed picture")
    if (compression := tags.number(COMPRESSION, 1)) not in _COMPRESSIONS:
        raise UnsupportedFormatError(f"TIFF compression {compression} is not supported")
    if (samples := tags.number(SAMPLES, 1)) > MAX_SAMPLES:
        raise UnsupportedFormatError(f"A TIFF of {samples} samples a pixel is not supported")
    for tag in _LISTS & set(tags.fields):
        if (size := len(tags.fields[tag].value)) > MAX_LIST:
            raise TooComplexError(f"The TIFF's tag {tag} has too many values", limit=MAX_LIST, actual=size)


def _check_blocks(tags: ifd.Directory, width: int, height: int, limits: DecodeLimits) -> None:
    """The strips or tiles must be as many as the picture needs, and the tiles not much larger than it."""
    planes = tags.number(SAMPLES, 1) if tags.number(PLANES, 1) == 2 else 1
    if _is_tiled(tags):
        tile_width, tile_height = tags.number(TILE_WIDTH, 0), tags.number(TILE_HEIGHT, 0)
        limits.check(tile_width, tile_height)
        across, down = ceil(width / tile_width), ceil(height / tile_height)
        limits.check(across * tile_width, down * tile_height)
    else:
        across, down = 1, ceil(height / (tags.number(STRIP_ROWS, height) or height))
    needed = across * down * planes
    if needed > MAX_BLOCKS:
        raise TooComplexError("The TIFF has too many strips or tiles", limit=MAX_BLOCKS, actual=needed)
    offsets = tags.fields.get(TILE_OFFSETS if _is_tiled(tags) else STRIP_OFFSETS)
    if offsets is None or offsets.count != needed:
        raise CorruptImageError("The TIFF has more or fewer strips or tiles than its size needs")


def _is_tiled(tags: ifd.Directory) -> bool:
    return TILE_WIDTH in tags.fields


def _is_gray(tags: ifd.Directory) -> bool:
    photometric = tags.number(PHOTOMETRIC, WHITE_IS_ZERO)
    if photometric == PALETTE:  # all reds, then all greens, then all blues
        colours = tags.numbers(COLOUR_MAP, 3 * MAX_COLOURS)
        third = len(colours) // 3
        return colours[:third] == colours[third : 2 * third] == colours[2 * third :]
    return photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) or (photometric == YCBCR and tags.number(SAMPLES, 1) == 1)


def _is_deep_gray(tags: ifd.Directory) -> bool:
    """Whether Pillow makes one channel of more than 8 bits of it."""
    photometric, bits, samples = tags.number(PHOTOMETRIC, WHITE_IS_ZERO), tags.number(BITS, 1), tags.number(SAMPLES, 1)
    return photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and samples == 1 and bits > 8


def _has_alpha(tags: ifd.Directory) -> bool:
    extra = tags.numbers(EXTRA_SAMPLES, 1)
    if not extra:  # Pillow takes an undeclared fourth sample of RGB for alpha
        return tags.number(PHOTOMETRIC, WHITE_IS_ZERO) == RGB and tags.number(SAMPLES, 1) == 4
    return extra[0] in _ALPHA


def _bytewise(tags: ifd.Directory, width: int) -> Bytewise | None:
    """How to read colour or alpha of 16 bits, which libtiff could give and Pillow would cut to 8; None for all else.

    What is compressed is bytes, whatever they mean; so the file is declared to hold gray of 8 bits.
    """
    samples, photometric = tags.number(SAMPLES, 1), tags.number(PHOTOMETRIC, WHITE_IS_ZERO)
    depths, kinds = (set(tags.numbers(tag, MAX_SAMPLES)) for tag in (BITS, SAMPLE_FORMAT))
    plain = depths == {16} and kinds <= {1} and tags.number(PLANES, 1) == 1
    colours = {RGB: 3, BLACK_IS_ZERO: 1}.get(photometric, 0)
    if not plain or colours == 0 or samples not in (3, 4, 2) or samples - colours not in (0, 1):
        return None
    if tags.number(COMPRESSION, 1) in (7, 50001) or tags.number(PREDICTOR, 1) > 2:  # JPEG and WebP have no 16 bits
        return None
    run = 0
    if tags.number(PREDICTOR, 1) == 2 and tags.number(COMPRESSION, 1) in (5, 8, 32946, 50000):
        run = tags.number(TILE_WIDTH, width) if _is_tiled(tags) else width
    return Bytewise(samples, tags.order, run, premultiplied=tags.number(EXTRA_SAMPLES, 0) == 1)


def _rebuilt(data: bytes, tags: ifd.Directory, bytewise: Bytewise | None) -> tuple[Buffer, ...]:
    """A new header, a new directory, and then the file as it is, all of its offsets moved by so much."""
    tiled = _is_tiled(tags)
    numbers = _NUMBERS | ({TILE_WIDTH, TILE_HEIGHT} if tiled else {STRIP_ROWS})
    fields = {tag: ifd.longs(found, tags.order) for tag in numbers if (found := tags.numbers(tag, 1))}
    fields |= {tag: field for tag in _LISTS if (field := tags.fields.get(tag))}
    if bytewise:
        wide = 2 * bytewise.samples
        fields = {tag: field for tag, field in fields.items() if tag not in (*_LISTS, PREDICTOR)}
        plain = {WIDTH: wide * tags.number(WIDTH, 0), BITS: 8, SAMPLES: 1, PHOTOMETRIC: BLACK_IS_ZERO}
        if tiled:
            plain[TILE_WIDTH] = wide * tags.number(TILE_WIDTH, 0)
        fields |= {tag: ifd.longs((number,), tags.order) for tag, number in plain.items()}
    offsets, sizes = (TILE_OFFSETS, TILE_SIZES) if tiled else (STRIP_OFFSETS, STRIP_SIZES)
    if sizes in tags.fields:
        fields[sizes] = ifd.longs(tags.numbers(sizes, MAX_BLOCKS), tags.order)
    stored = tags.numbers(offsets, MAX_BLOCKS)
    fields[offsets] = ifd.longs(stored, tags.order)
    start = 8
    moved = start + len(ifd.write_directory(fields, tags.order, start))  # whatever the offsets will be
    fields[offsets] = ifd.longs((offset + moved for offset in stored), tags.order)
    return ifd.header(tags.order, start), ifd.write_directory(fields, tags.order, start), data


FORMAT = InputFormat(
    name="tiff",
    suffixes=(".tif", ".tiff"),
    matches=lambda data: data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # the last two: BigTIFF
    read=read_tiff,
    plugin=TiffImageFile,
)
