"""HEIC, HEVC in HEIF (ISO/IEC 23008-12, annex B), as phones write it; needs the extra ``heif``.

As with AVIF, the boxes are checked against the parameter sets of the streams, for every tile and for alpha, and
libheif is given a new file that holds only the checked items: no thumbnail, depth or gain map, no metadata.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from PIL import ImageFile

from app.errors import CorruptImageError, TooManyPixelsError, UnsupportedFormatError
from app.images.code_points import CodePoints
from app.images.formats.base import Container, DecodeLimits, InputFormat
from app.images.formats.heif import Coding, has_brand, read_heif, size_of
from app.images.formats.heif_stream import HEIC, Plane
from app.images.formats.hevc import Format, configured_formats, configured_points, formats_in
from app.images.formats.isobmff import Item, Meta

AVAILABLE = find_spec("pillow_heif") is not None
MAX_BOXES = 16  # before ``meta``, which usually comes second
SAMPLE_COPIES = 1.6  # of the decoded planes that libheif and Pillow hold at a time
PADDING = 64  # coded pictures are padded to a multiple of at most this many pixels

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_NO_CHROMA = 0


def is_heic(data: bytes) -> bool:
    """Whether ``ftyp`` has a brand of HEIC and there is a ``meta`` box: films and sequences have no still image."""
    return has_brand(data, *_BRANDS) and b"meta" in _names_after_brands(data)


def _names_after_brands(data: bytes) -> Iterator[bytes]:
    position = 0
    for _ in range(MAX_BOXES):
        size = int.from_bytes(data[position : position + 4])
        if size < 8 or position + size > len(data):
            return
        position += size
        yield data[position + 4 : position + 8]


def read_heic(data: bytes, limits: DecodeLimits) -> Container:
    return read_heif("heic", HEIC, data, limits, check_streams, cropped_size)


def check_streams(meta: Meta, plane: Plane, contents: Mapping[int, memoryview], limits: DecodeLimits) -> Coding:
    """Checks what will be decoded for a plane, each image and all together."""
    if plane.item is None:
        raise UnsupportedFormatError("A HEIC with a separate alpha for each tile is not supported")
    total, held = 0, 0.0
    configured: dict[int, list[Format]] = {}  # tiles share their configuration
    for number in plane.tiles:
        item = meta.item(number)
        if item.kind != HEIC.item:
            raise UnsupportedFormatError("A HEIC with another codec than HEVC is not supported")
        width, height = size_of(item)
        limits.check(width, height)
        configuration = _configuration(item)
        if id(configuration) not in configured:
            configured[id(configuration)] = configured_formats(configuration, meta.count)
        own = formats_in(contents[number], (configuration[21] & 3) + 1, meta.count)
        if not configured[id(configuration)]:
            raise CorruptImageError("The HEIC does not state the size of its coded picture")
        for coded in (*configured[id(configuration)], *own):
            if not (0 <= coded.width - width < PADDING and 0 <= coded.height - height < PADDING):
                raise CorruptImageError("The HEIC's image has a different size than its header says")
        total += width * height
        held += width * height * max(each.pixel_bytes for each in (*configured[id(configuration)], *own))
    if plane.is_grid and total > 2 * limits.max_pixels:  # tiles extend beyond the edge
        detail = f"Tiles of {total} pixels are more than twice the {limits.max_pixels} allowed"
        raise TooManyPixelsError(detail, limit=2 * limits.max_pixels, actual=total)
    configuration = _configuration(meta.item(plane.tiles[0]))
    gray, bits = configuration[16] & 3 == _NO_CHROMA, 8 + (configuration[17] & 7)
    points = CodePoints(*configured_points(configuration))
    return Coding(gray, points, SAMPLE_COPIES * held, is_deep=gray and bits > 8)  # libheif gives 8 bits of the rest


def _configuration(item: Item) -> memoryview:
    configuration = item.property(b"hvcC")
    if configuration is None or len(configuration) < 23:
        raise CorruptImageError("The HEIC does not state how its image is coded")
    return configuration


def cropped_size(item: Item) -> tuple[int, int]:
    """The size after ``clap`` (14496-12, 12.1.4), by which libheif crops; it must precede any rotation."""
    width, height = size_of(item)
    names = [each.box.name for each in item.properties]
    clap = item.property(b"clap")
    if clap is None:
        return width, height
    if any(turn in names and names.index(turn) < names.index(b"clap") for turn in (b"irot", b"imir")):
        raise UnsupportedFormatError("A HEIC that is rotated before it is cropped is not supported")
    across, parts_across, down, parts_down = struct.unpack_from(">4I", clap)
    if not parts_across or not parts_down or across % parts_across or down % parts_down:
        raise UnsupportedFormatError("A HEIC that is cropped to a fraction of a pixel is not supported")
    cut = across // parts_across, down // parts_down
    if not (0 < cut[0] <= width and 0 < cut[1] <= height):
        raise CorruptImageError("The HEIC's crop is larger than the image")
    return cut


def _open_image(stream: io.BytesIO) -> ImageFile.ImageFile:
    """libheif's image. The library is loaded with the first one."""
    import pillow_heif

    pillow_heif.options.DECODE_THREADS = 1  # the cores belong to the networks
    return pillow_heif.HeifImageFile(stream)


FORMAT = InputFormat(
    name="heic",
    suffixes=(".heic", ".heif", ".hif"),
    matches=is_heic,
    read=read_heic,
    plugin=_open_image,
)
