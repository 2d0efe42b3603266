"""HEVC's sequence parameter sets (ITU-T H.265, 7.3.2.2): the size that a decoder will really make room for, and the
colour that they tell."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.errors import CorruptImageError
from app.images.code_points import UNSPECIFIED
from app.images.formats.base import Buffer

SPS = 33  # of NAL unit types (table 7-1)
FIRST_PARAMETERS = 32  # below are the slices of pictures
MAX_SPS = 1500  # bytes that are looked at; the longest lists of scaling take 1,000
SPS_PARTS = 16  # what reading a set's size costs, in units that are skipped

_EXTENDED = 255  # aspect_ratio_idc (table E.1)
_SETS, _PICTURES, _LONG_TERM = 64, 16, 32  # at most (7.4.3.2.1, 7.4.8)


class Format(NamedTuple):
    """What a decoder makes room for: the coded picture, before it is cropped, and the bytes of a pixel's samples."""

    width: int
    height: int
    pixel_bytes: float


def configured_formats(configuration: Buffer, count: Callable[[int], None]) -> list[Format]:
    """Those in the parameter sets of an ``hvcC``; each unit is counted."""
    return [_counted(unit, count) for unit in _configured(configuration, count) if _kind(unit) == SPS]


def configured_points(configuration: Buffer) -> tuple[int, int]:
    """Colour primaries and transfer characteristics (H.273) of the first parameter set. What of it cannot be read
    tells nothing; whether the picture can be is the decoder's to say."""
    sets = (unit for unit in _configured(configuration, lambda _: None) if _kind(unit) == SPS)
    try:
        return next(map(points_of, sets), (UNSPECIFIED, UNSPECIFIED))
    except CorruptImageError:
        return UNSPECIFIED, UNSPECIFIED


def formats_in(data: Buffer, length_bytes: int, count: Callable[[int], None]) -> list[Format]:
    """Those in the parameter sets among an item's own bytes, which may bring more than its ``hvcC``.

    Raises ``CorruptImageError`` where these are not one picture.
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
    """The units of an item's own bytes, each with its length before it."""
    view, position = memoryview(data), 0
    while position + length_bytes < len(view):
        count(1)
        size = int.from_bytes(view[position : position + length_bytes])
        position += length_bytes
        if position + size > len(view):
            raise CorruptImageError("A unit of the HEVC picture is cut short")
        yield view[position : position + size]
        position += size


def format_of(unit: Buffer) -> Format:
    return _read_format(_Bits(unit))[0]


def points_of(unit: Buffer) -> tuple[int, int]:
    """Of ``video_signal_type`` (E.2.1), behind all else that a set tells."""
    bits = _Bits(unit)
    _, layers = _read_format(bits)
    poc_bits = bits.exponential() + 4
    for _ in range(1 if not bits.take(1) else layers + 1):  # order and latency of each sub-layer
        bits.exponentials(3)
    bits.exponentials(6)  # sizes of blocks, depths of transforms
    if bits.take(1) and bits.take(1):
        _skip_scaling_lists(bits)
    bits.skip(2)
    if bits.take(1):  # PCM
        bits.skip(8)
        bits.exponentials(2)
        bits.skip(1)
    _skip_references(bits, poc_bits)
    bits.skip(2)
    return _read_signal_type(bits) if bits.take(1) else (UNSPECIFIED, UNSPECIFIED)


def _read_format(bits: "_Bits") -> tuple[Format, int]:
    """A set up to its bit depths; and how many sub-layers it has beside the first."""
    bits.skip(4)
    layers = bits.take(3)
    bits.skip(1)
    bits.skip(96)  # profile_tier_level (7.3.3), the general part
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.skip(2 * (8 - layers))
    bits.skip(sum(88 * profile + 8 * level for profile, level in present))
    bits.exponential()  # its number
    chroma = bits.exponential()
    if chroma == 3:
        bits.skip(1)  # three pictures of their own
    width, height = bits.exponential(), bits.exponential()
    if bits.take(1):  # cropped
        bits.exponentials(4)
    deep = bits.exponential() + bits.exponential() > 0
    samples = {0: 1.0, 1: 1.5, 2: 2.0}.get(chroma, 3.0)
    return Format(width, height, samples * (2 if deep else 1)), layers


def _skip_scaling_lists(bits: "_Bits") -> None:
    """7.3.4."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.take(1):
                bits.exponential()  # like another one
            else:
                bits.exponentials(min(64, 16 << 2 * size) + (size > 1))


def _skip_references(bits: "_Bits", poc_bits: int) -> None:
    """Sets of pictures that others refer to (7.3.7; 7.4.8, equations 7-61 and 7-62), short-term and long-term."""
    deltas: list[int] = []
    for index in range(bits.at_most(_SETS)):
        if index and bits.take(1):
            sign, delta = 1 - 2 * bits.take(1), bits.exponential() + 1
            # Told of each picture of the set before and of its own: whether it is used, and if not, whether it stays.
            moved = [each + sign * delta for each in (*deltas, 0) if bits.take(1) or bits.take(1)]
            before, after = [each for each in moved if each < 0], [each for each in moved if each > 0]
            deltas = sorted(before, reverse=True) + sorted(after)
            continue
        counts, deltas = (bits.at_most(_PICTURES), bits.at_most(_PICTURES)), []
        for sign, count in zip((-1, 1), counts, strict=True):
            position = 0
            for _ in range(count):
                position += sign * (bits.exponential() + 1)
                deltas.append(position)
                bits.skip(1)
    if bits.take(1):
        bits.skip(bits.at_most(_LONG_TERM) * (poc_bits + 1))


def _read_signal_type(bits: "_Bits") -> tuple[int, int]:
    """The beginning of E.2.1."""
    if bits.take(1) and bits.take(8) == _EXTENDED:
        bits.skip(32)
    if bits.take(1):  # overscan
        bits.skip(1)
    if bits.take(1):
        bits.skip(4)  # format, range
        if bits.take(1):
            return bits.take(8), bits.take(8)
    return UNSPECIFIED, UNSPECIFIED


class _Bits:
    """Bits of a unit, the highest first. Past the end ``CorruptImageError``."""

    def __init__(self, unit: Buffer) -> None:
        data = bytes(unit[2:MAX_SPS]).replace(b"\0\0\3", b"\0\0")  # 7.3.1.1: the 3 keeps a start code from appearing
        self._bits, self._position = f"{int.from_bytes(data):0{8 * len(data)}b}" if data else "", 0

    def skip(self, count: int) -> None:
        self._position += count
        if self._position > len(self._bits):
            raise CorruptImageError("A parameter set of the HEVC picture is cut short")

    def take(self, count: int) -> int:
        self.skip(count)
        return int(self._bits[self._position - count : self._position], 2)

    def exponential(self) -> int:
        """ue(v) (9.2): as many zeros as bits follow the first one. se(v) is as long."""
        zeros = self._bits.find("1", self._position) - self._position
        if not 0 <= zeros <= 32:
            raise CorruptImageError("A parameter set of the HEVC picture holds an impossible number")
        self.skip(zeros)
        return self.take(zeros + 1) - 1

    def exponentials(self, count: int) -> None:
        for _ in range(count):
            self.exponential()

    def at_most(self, most: int) -> int:
        number = self.exponential()
        if number > most:
            raise CorruptImageError("A parameter set of the HEVC picture counts too many")
        return number
