"""HEVC's sequence parameter sets (ITU-T H.265, 7.3.2.2): the size for which a decoder allocates memory, and the
colour."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.errors import CorruptImageError
from app.images.code_points import UNSPECIFIED
from app.images.formats.base import Buffer
from app.images.formats.bits import Bits

SPS = 33  # of NAL unit types (table 7-1)
FIRST_PARAMETERS = 32  # below are the slices of pictures
MAX_SPS = 1500  # bytes that are read; the longest scaling lists take 1,000
SPS_PARTS = 16  # the cost of reading a set's size, in skipped units

_EXTENDED = 255  # aspect_ratio_idc (table E.1)
_SETS, _PICTURES, _LONG_TERM = 64, 16, 32  # at most (7.4.3.2.1, 7.4.8)


class Format(NamedTuple):
    """What a decoder allocates: the coded picture before cropping, and the bytes of a pixel's samples."""

    width: int
    height: int
    pixel_bytes: float


def configured_formats(configuration: Buffer, count: Callable[[int], None]) -> list[Format]:
    """The formats in the parameter sets of an ``hvcC``; each unit is counted."""
    return [_counted(unit, count) for unit in _configured(configuration, count) if _kind(unit) == SPS]


def configured_points(configuration: Buffer) -> tuple[int, int]:
    """Colour primaries and transfer characteristics (H.273) of the first parameter set. What cannot be read counts
    as unspecified; whether the picture can be read is for the decoder to say."""
    sets = (unit for unit in _configured(configuration, lambda _: None) if _kind(unit) == SPS)
    try:
        return next(map(points_of, sets), (UNSPECIFIED, UNSPECIFIED))
    except CorruptImageError:
        return UNSPECIFIED, UNSPECIFIED


def formats_in(data: Buffer, length_bytes: int, count: Callable[[int], None]) -> list[Format]:
    """The formats in the parameter sets within an item's data, which may bring more than its ``hvcC``.

    Raises ``CorruptImageError`` unless the data are exactly one picture.
    """
    formats, pictures = [], 0
    for unit in _units(data, length_bytes, count):
        if _kind(unit) == SPS:
            formats.append(_counted(unit, count))
        elif 0 <= _kind(unit) < FIRST_PARAMETERS:
            pictures += unit[2] >> 7  # first_slice_segment_in_pic_flag (7.3.6.1)
    if pictures != 1:
        raise CorruptImageError("The HEVC stream has no picture, or more than one")
    return formats


def _counted(unit: memoryview, count: Callable[[int], None]) -> Format:
    count(SPS_PARTS)
    return format_of(unit)


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
        if position + size > len(view):
            raise CorruptImageError("A unit of the HEVC picture is cut short")
        yield view[position : position + size]
        position += size


def _bits_of(unit: Buffer) -> Bits:
    """A parameter set without emulation prevention bytes (7.3.1.1)."""
    return Bits(bytes(unit[2:MAX_SPS]).replace(b"\0\0\3", b"\0\0"))


def format_of(unit: Buffer) -> Format:
    return _read_format(_bits_of(unit))[0]


def points_of(unit: Buffer) -> tuple[int, int]:
    """The code points of ``video_signal_type`` (E.2.1), near the end of a parameter set."""
    bits = _bits_of(unit)
    _, layers = _read_format(bits)
    poc_bits = bits.read_exp_golomb() + 4
    for _ in range(1 if not bits.read(1) else layers + 1):  # order and latency of each sub-layer
        bits.skip_exp_golomb(3)
    bits.skip_exp_golomb(6)  # sizes of blocks, depths of transforms
    if bits.read(1) and bits.read(1):
        _skip_scaling_lists(bits)
    bits.skip(2)
    if bits.read(1):  # PCM
        bits.skip(8)
        bits.skip_exp_golomb(2)
        bits.skip(1)
    _skip_references(bits, poc_bits)
    bits.skip(2)
    return _read_signal_type(bits) if bits.read(1) else (UNSPECIFIED, UNSPECIFIED)


def _read_format(bits: Bits) -> tuple[Format, int]:
    """Reads a set up to its bit depths; also returns how many sub-layers it has besides the first."""
    bits.skip(4)
    layers = bits.read(3)
    bits.skip(1)
    bits.skip(96)  # profile_tier_level (7.3.3), the general part
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.skip(2 * (8 - layers))
    bits.skip(sum(88 * profile + 8 * level for profile, level in present))
    bits.read_exp_golomb()  # sps_seq_parameter_set_id
    chroma = bits.read_exp_golomb()
    if chroma == 3:
        bits.skip(1)  # separate colour planes
    width, height = bits.read_exp_golomb(), bits.read_exp_golomb()
    if bits.read(1):  # conformance window
        bits.skip_exp_golomb(4)
    deep = bits.read_exp_golomb() + bits.read_exp_golomb() > 0
    samples = {0: 1.0, 1: 1.5, 2: 2.0}.get(chroma, 3.0)
    return Format(width, height, samples * (2 if deep else 1)), layers


def _skip_scaling_lists(bits: Bits) -> None:
    """7.3.4."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.read(1):
                bits.read_exp_golomb()  # a copy of another one
            else:
                bits.skip_exp_golomb(min(64, 16 << 2 * size) + (size > 1))


def _skip_references(bits: Bits, poc_bits: int) -> None:
    """Sets of reference pictures (7.3.7; 7.4.8, equations 7-61 and 7-62), short-term and long-term."""
    deltas: list[int] = []
    for index in range(bits.read_count(_SETS)):
        if index and bits.read(1):
            sign, delta = 1 - 2 * bits.read(1), bits.read_exp_golomb() + 1
            # For each picture of the preceding set and for its own: whether it is used and, if not, whether it is kept.
            moved = [each + sign * delta for each in (*deltas, 0) if bits.read(1) or bits.read(1)]
            before, after = [each for each in moved if each < 0], [each for each in moved if each > 0]
            deltas = sorted(before, reverse=True) + sorted(after)
            continue
        counts, deltas = (bits.read_count(_PICTURES), bits.read_count(_PICTURES)), []
        for sign, count in zip((-1, 1), counts, strict=True):
            position = 0
            for _ in range(count):
                position += sign * (bits.read_exp_golomb() + 1)
                deltas.append(position)
                bits.skip(1)
    if bits.read(1):
        bits.skip(bits.read_count(_LONG_TERM) * (poc_bits + 1))


def _read_signal_type(bits: Bits) -> tuple[int, int]:
    """The beginning of E.2.1."""
    if bits.read(1) and bits.read(8) == _EXTENDED:
        bits.skip(32)
    if bits.read(1):  # overscan
        bits.skip(1)
    if bits.read(1):
        bits.skip(4)  # format, range
        if bits.read(1):
            return bits.read(8), bits.read(8)
    return UNSPECIFIED, UNSPECIFIED
