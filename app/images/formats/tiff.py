"""TIFF 6.0 and BigTIFF. Of a file with several pages only the first is read.

Pillow and libtiff are given the file with a new directory in front of it: only the tags of storage, each number once
and every table complete. So nothing in the original directory can confuse them, and reading past the end of the file
remains just that.
"""

from math import ceil
from typing import Literal

from PIL.TiffImagePlugin import TiffImageFile

from app.errors import CorruptImageError, TooComplexError, TooManyPixelsError, UnsupportedFormatError
from app.images.formats import ifd
from app.images.formats.base import (
    Block,
    Buffer,
    Bytewise,
    Container,
    DecodeLimits,
    ImageHeader,
    InputFormat,
    checked_profile,
    upright,
)
from app.images.formats.iptc import MAX_BLOCK, Property, photoshop_iptc, xmp_properties
from app.images.formats.xmp import cleaned_xmp, with_properties

MAX_BLOCKS = 100_000
"""Strips or tiles; each costs an object. The tallest image allowed has 32,768 rows."""

MAX_SAMPLES = 6
"""Per pixel; with more, Pillow refuses and writes to the log."""

MAX_PIXEL_BYTES = 8  # of samples assembled here: as many as 16-bit RGB with alpha
MAX_WEBP_BLOCKS = 4096
MAX_COLOURS = 256  # of a palette with 8-bit indices
MAX_LIST = 65_536
"""Bytes of a storage tag that is passed on; JPEG's tables, the longest, have about 1,200."""

SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_SIZES, PLANES, COLOUR_MAP = 273, 277, 278, 279, 284, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
XMP, ICC_PROFILE, DNG_VERSION, PREDICTOR = 700, 34675, 50706, 317
IPTC, PHOTOSHOP = 33723, 34377
JPEG, WEBP = 7, 50001  # of the compressions

# 266 FillOrder, 292 and 293 T4/T6Options, 317 Predictor, 531 YCbCrPositioning.
_NUMBERS = frozenset((WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANES, 266, 292, 293, 317, 531))
# 347 JPEGTables; 529, 530 and 532 YCbCr coefficients, subsampling and range.
_LISTS = frozenset((BITS, EXTRA_SAMPLES, SAMPLE_FORMAT, COLOUR_MAP, 347, 529, 530, 532))

_COMPRESSIONS = frozenset((1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50000, 50001))
"""None, CCITT (three), LZW, JPEG, Deflate, PackBits, old Deflate, Zstandard, WebP. Not LZMA, whose files choose how
much memory is set aside, nor the old JPEG (6), nor those nobody sends."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
_SAMPLES: dict[int, Literal["unsigned", "signed", "float"]] = {1: "unsigned", 2: "signed", 3: "float"}
_KINDS: dict[tuple[int, ...], Literal["u2", "u4", "f2", "f4", "f8"]] = {  # bits and SampleFormat
    **{(16, 1): "u2", (32, 1): "u4", (16, 3): "f2", (32, 3): "f4", (64, 3): "f8"}
}
_ALPHA = (1, 2, 999)  # ExtraSamples: premultiplied, straight, and what Corel Draw 10 writes


def read_tiff(data: bytes, limits: DecodeLimits) -> Container:
    tags = ifd.read_header(data)
    stored_width, stored_height = tags.number(WIDTH, 0), tags.number(HEIGHT, 0)
    limits.check(stored_width, stored_height)
    _check_kind(tags)
    blocks = _count_blocks(tags, stored_width, stored_height, limits)
    exif = ifd.exif_of(tags, data)
    width, height = upright(stored_width, stored_height, exif.orientation)
    bits, photometric = tags.number(BITS, 1), tags.number(PHOTOMETRIC, WHITE_IS_ZERO)
    profile, xmp = tags.fields.get(ICC_PROFILE), tags.fields.get(XMP)
    bytewise = _bytewise(tags, stored_width)
    if bytewise:
        _check_bytes(bytewise, stored_height, limits)
    is_webp = tags.number(COMPRESSION, 1) == WEBP
    return Container(
        header=ImageHeader(
            format="tiff",
            width=width,
            height=height,
            gray=_is_gray(tags),
            has_alpha=_has_alpha(tags),
            bits=8 if photometric == PALETTE else bits,
            depth=16 if bytewise or _is_deep_gray(tags) else 8,
            orientation=exif.orientation,
        ),
        ink=photometric in (SEPARATED, CIELAB),
        stream=_rebuilt(data, tags, bytewise, blocks),
        blocks=_webp_blocks(data, tags, stored_width, stored_height) if is_webp else (),
        variety=_variety(tags),
        icc_profile=checked_profile(profile.value) if profile else None,
        exif=exif.block,
        exif_colour=exif.colour,
        dpi=exif.dpi,
        xmp=with_properties(cleaned_xmp(xmp.value) if xmp else None, _iptc(tags)),
        bytewise=bytewise,
        white_is_zero=photometric == WHITE_IS_ZERO and bits > 8,
        sample=_SAMPLES.get(tags.number(SAMPLE_FORMAT, 1), "unsigned"),
    )


def _iptc(tags: ifd.Directory) -> dict[Property, list[str]]:
    """From its own tag or, if there is none, from Photoshop's."""
    own, resources = (tags.fields[tag].value if tag in tags.fields else b"" for tag in (IPTC, PHOTOSHOP))
    block = bytes(own[:MAX_BLOCK]) or photoshop_iptc(resources)
    return xmp_properties(block) if block else {}


def _check_kind(tags: ifd.Directory) -> None:
    if DNG_VERSION in tags.fields or tags.number(SUBFILE_TYPE, 0) & 1:  # bit 0: a reduced version of another image
        raise UnsupportedFormatError("This is a camera's raw file or begins with a thumbnail; send a developed image")
    if (compression := tags.number(COMPRESSION, 1)) not in _COMPRESSIONS:
        raise UnsupportedFormatError(f"TIFF compression {compression} is not supported")
    if (samples := tags.number(SAMPLES, 1)) > MAX_SAMPLES:
        raise UnsupportedFormatError(f"A TIFF with {samples} samples per pixel is not supported")
    for tag in _LISTS & set(tags.fields):
        if (size := len(tags.fields[tag].value)) > MAX_LIST:
            raise TooComplexError(f"The TIFF's tag {tag} has too many values", limit=MAX_LIST, actual=size)


def _count_blocks(tags: ifd.Directory, width: int, height: int, limits: DecodeLimits) -> int:
    """The number of strips or tiles that the image needs and has; tiles may not be much larger than the image."""
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
    if offsets is None or offsets.count < needed:
        raise CorruptImageError("The TIFF has fewer strips or tiles than its size needs")
    return needed


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
    """Whether Pillow decodes it to one channel of more than 8 bits."""
    photometric, bits, samples = tags.number(PHOTOMETRIC, WHITE_IS_ZERO), tags.number(BITS, 1), tags.number(SAMPLES, 1)
    return photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and samples == 1 and bits > 8


def _has_alpha(tags: ifd.Directory) -> bool:
    extra = tags.numbers(EXTRA_SAMPLES, 1)
    if not extra:  # Pillow reads an undeclared fourth sample of RGB as alpha
        return tags.number(PHOTOMETRIC, WHITE_IS_ZERO) == RGB and tags.number(SAMPLES, 1) == 4
    return extra[0] in _ALPHA


def _bytewise(tags: ifd.Directory, width: int) -> Bytewise | None:
    """How to read samples that libtiff can decode but Pillow has no mode for, or would reduce to 8 bits; None for
    others.

    Compressed data are bytes, whatever they mean, so the file is declared to contain 8-bit gray.
    """
    samples, photometric = tags.number(SAMPLES, 1), tags.number(PHOTOMETRIC, WHITE_IS_ZERO)
    depths, formats = (set(tags.numbers(tag, MAX_SAMPLES)) for tag in (BITS, SAMPLE_FORMAT))
    if len(depths) != 1 or len(formats) > 1 or tags.number(PLANES, 1) != 1:
        return None
    kind = _KINDS.get((*depths, *(formats or {1})))
    colours = {RGB: 3, BLACK_IS_ZERO: 1, WHITE_IS_ZERO: 1}.get(photometric, 0)
    extra = samples - colours
    if kind is None or colours == 0 or not (extra in (0, 1) if samples > 1 else kind in ("f2", "f8", "u4")):
        return None
    compression, predictor = tags.number(COMPRESSION, 1), tags.number(PREDICTOR, 1)
    if compression not in (5, 8, 32946, 50000):  # only LZW, Deflate and Zstandard have one
        predictor = 1
    if compression in (JPEG, WEBP) or predictor not in (1, 2, 3 if kind[0] == "f" else 1):
        return None
    run = tags.number(TILE_WIDTH, width) if _is_tiled(tags) else width
    return Bytewise(
        kind=kind,
        order=tags.order,
        samples=samples,
        width=ceil(width / run) * run if predictor == 3 else width,
        predictor=predictor,
        run=run,
        premultiplied=tags.number(EXTRA_SAMPLES, 0) == 1,
    )


def _check_bytes(bytewise: Bytewise, height: int, limits: DecodeLimits) -> None:
    """Samples of 32 bits and more take more memory than ``DecodeLimits`` accounts for."""
    size, most = bytewise.row_bytes * height, MAX_PIXEL_BYTES * limits.max_pixels
    if size > most:
        detail = f"{size} bytes of samples are more than the {most} allowed"
        raise TooManyPixelsError(detail, limit=most, actual=size)


def _variety(tags: ifd.Directory) -> str:
    bits, samples = tags.number(BITS, 1), tags.number(SAMPLES, 1)
    kind = {2: ", signed", 3: ", floating point", 5: ", complex", 6: ", complex"}.get(tags.number(SAMPLE_FORMAT, 1), "")
    planes = ", in separate planes" if tags.number(PLANES, 1) == 2 else ""
    return f"{samples} samples of {bits} bits{kind}{planes} (photometric {tags.number(PHOTOMETRIC, 0)})"


def _webp_blocks(data: bytes, tags: ifd.Directory, width: int, height: int) -> tuple[Block, ...]:
    """The strips or tiles of a TIFF with WebP compression (Adobe's and GDAL's compression 50001)."""
    plain = set(tags.numbers(BITS, MAX_SAMPLES)) == {8} and tags.number(PLANES, 1) == 1
    if not plain or tags.number(PHOTOMETRIC, WHITE_IS_ZERO) != RGB or tags.number(SAMPLES, 1) not in (3, 4):
        raise UnsupportedFormatError(f"A TIFF with WebP and {_variety(tags)} is not supported")
    tiled = _is_tiled(tags)
    rows = tags.number(STRIP_ROWS, height) or height
    across, down = (tags.number(TILE_WIDTH, 0), tags.number(TILE_HEIGHT, 0)) if tiled else (width, min(rows, height))
    corners = [(left, top) for top in range(0, height, down) for left in range(0, width, across)]
    if len(corners) > MAX_WEBP_BLOCKS:
        raise TooComplexError("The TIFF has too many WebP images", limit=MAX_WEBP_BLOCKS, actual=len(corners))
    offsets = tags.numbers(TILE_OFFSETS if tiled else STRIP_OFFSETS, len(corners))
    sizes = tags.numbers(TILE_SIZES if tiled else STRIP_SIZES, len(corners))
    view = memoryview(data)
    return tuple(
        Block(left, top, across, down if tiled else min(down, height - top), view[offset : offset + size])
        for (left, top), offset, size in zip(corners, offsets, sizes, strict=False)
    )


def _rebuilt(data: bytes, tags: ifd.Directory, bytewise: Bytewise | None, blocks: int) -> tuple[Buffer, ...]:
    """A new header, a new directory, and then the unchanged file; all of its offsets are shifted accordingly."""
    tiled = _is_tiled(tags)
    numbers = _NUMBERS | ({TILE_WIDTH, TILE_HEIGHT} if tiled else {STRIP_ROWS})
    fields = {tag: ifd.longs(found, tags.order) for tag in numbers if (found := tags.numbers(tag, 1))}
    fields |= {tag: field for tag in _LISTS if (field := tags.fields.get(tag))}
    if bytewise:
        fields = {tag: field for tag, field in fields.items() if tag not in (*_LISTS, PREDICTOR)}
        plain = {WIDTH: bytewise.row_bytes, BITS: 8, SAMPLES: 1, PHOTOMETRIC: BLACK_IS_ZERO}
        if tiled:
            plain[TILE_WIDTH] = bytewise.samples * bytewise.sample_bytes * tags.number(TILE_WIDTH, 0)
        fields |= {tag: ifd.longs((number,), tags.order) for tag, number in plain.items()}
    offsets, sizes = (TILE_OFFSETS, TILE_SIZES) if tiled else (STRIP_OFFSETS, STRIP_SIZES)
    if sizes in tags.fields:
        fields[sizes] = ifd.longs(tags.numbers(sizes, blocks), tags.order)
    stored = tags.numbers(offsets, blocks)
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
