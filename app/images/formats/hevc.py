"""HEVC's sequence parameter sets (ITU-T H.265, 7.3.2.2): the size for which a decoder really allocates memory."""

import struct
from collections.abc import Callable, Iterator

from app.errors import CorruptImageError
from app.images.formats.base import Buffer
from app.images.formats.bits import Bits

SPS = 33  # of NAL unit types (table 7-1)
FIRST_PARAMETERS = 32  # below are the slices of pictures
MAX_SPS = 4096  # bytes that are read; the size is within the first hundred


def configured_sizes(configuration: Buffer, count: Callable[[int], None]) -> list[tuple[int, int]]:
    """The sizes in the parameter sets of an ``hvcC``; each unit is counted."""
    return [size_of(unit) for unit in _configured(configuration, count) if _kind(unit) == SPS]


def sizes_in(data: Buffer, length_bytes: int, count: Callable[[int], None]) -> list[tuple[int, int]]:
    """The sizes in the parameter sets within an item's data, which may bring more than its ``hvcC``.

    Raises ``CorruptImageError`` unless the data are exactly one picture.
    """
    sizes, pictures = [], 0
    for unit in _units(data, length_bytes, count):
        if _kind(unit) == SPS:
            sizes.append(size_of(unit))
        elif 0 <= _kind(unit) < FIRST_PARAMETERS:
            pictures += unit[2] >> 7  # first_slice_segment_in_pic_flag (7.3.6.1)
    if pictures != 1:
        raise CorruptImageError("The HEVC stream has no picture, or more than one")
    return sizes


def _kind(unit: memoryview) -> int:
    return unit[0] >> 1 & 0x3F if len(unit) > 2 else -1


def _configured(record: Buffer, count: Callable[[int], None]) -> Iterator[memoryview]:
    """The units of an ``hvcC`` property (ISO/IEC 14496-15, 8.3.3.1.2): arrays of them after 22 bytes."""
    view, position = memoryview(record), 23
    for _ in range(record[22]):
        (units,) = struct.unpack_from(">H", record, position + 1)
        count(1 + units)
        position += 3
        for _ in range(units):
            (size,) = struct.unpack_from(">H", record, position)
            yield view[position + 2 : position + 2 + size]
            position += 2 + size


def _units(data: Buffer, length_bytes: int, count: Callable[[int], None]) -> Iterator[memoryview]:
    """The units of an item's data, each preceded by its length."""
    view, position = memoryview(data), 0
    while position + length_bytes < len(view):
        count(1)
        size = int.from_bytes(view[position : position + length_bytes])
        position += length_bytes
        yield view[position : position + size]
        position += size


def size_of(unit: Buffer) -> tuple[int, int]:
    """Width and height of the coded picture before cropping."""
    bits = Bits(bytes(unit[2:MAX_SPS]).replace(b"\0\0\3", b"\0\0"))  # 7.3.1.1: emulation prevention
    bits.read(4)
    layers = bits.read(3)  # sps_max_sub_layers_minus1
    bits.read(1)
    bits.read(96)  # profile_tier_level (7.3.3), the general part
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    bits.read(sum(88 * profile + 8 * level for profile, level in present))
    bits.read_exp_golomb()  # sps_seq_parameter_set_id
    if bits.read_exp_golomb() == 3:  # chroma_format_idc
        bits.read(1)
    return bits.read_exp_golomb(), bits.read_exp_golomb()
