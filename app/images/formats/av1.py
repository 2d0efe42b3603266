"""AV1 streams (AV1 Bitstream & Decoding Process Specification, whose section numbers appear below).

A container may misstate the size of its stream, and the decoder believes the stream. The stream is parsed just far
enough to know how many frames are decoded and how large each may be.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.errors import CorruptImageError
from app.images.formats.base import Buffer
from app.images.formats.bits import Bits

MAX_FRAMES = 8
"""Decoded for one image: one, or one per layer."""

_SEQUENCE_HEADER = 1  # OBU types (6.2.2)
_FRAME_HEADERS = (
    3,
    6,
    7,
)  # alone, with its tiles, and repeated, which dav1d takes for a new one if it stands between frames
_KEY_FRAME, _SWITCH_FRAME = 0, 3
UNSPECIFIED = 2  # CP_UNSPECIFIED and TC_UNSPECIFIED (6.4.2)
_SELECT = 2  # SELECT_SCREEN_CONTENT_TOOLS and SELECT_INTEGER_MV (3)
_SRGB = (1, 13, 0)  # BT.709, sRGB, identity: the planes are RGB
_MAX_HEAD = 512
"""Bytes of an OBU that are read; everything needed lies within. 32 operating points with all their fields take 370."""


class Sequence(NamedTuple):
    """The fields of a sequence header (5.5) on which the size of a frame depends."""

    width: int
    height: int
    reduced: bool
    """A still picture with a reduced header: its only frame has the sequence's size."""
    override: tuple[int, int] = (0, 0)
    """The largest size that a frame may state for itself."""
    timed_bits: int = 0
    """Bits of the presentation time in each shown frame's header; 0 if there is none."""
    screen_content: int = _SELECT
    integer_motion: int = _SELECT
    id_bits: int = 0
    points: tuple[int, int] = (UNSPECIFIED, UNSPECIFIED)
    """Colour primaries and transfer characteristics (H.273)."""
    pixel_bytes: float = 3
    """Bytes of a decoded pixel; twice that if film grain is applied to a copy."""


class Stream(NamedTuple):
    """``width``, ``height``, ``points`` and ``pixel_bytes`` of the sequence, and the sizes of the frames that are
    decoded."""

    width: int
    height: int
    frames: tuple[tuple[int, int], ...]
    points: tuple[int, int]
    pixel_bytes: float


def read_av1(data: Buffer, count: Callable[[int], None]) -> Stream:
    """The sizes in a stream of OBUs; each OBU is passed to ``count``.

    Raises ``CorruptImageError`` if there are none, or more frames than one image has.
    """
    sequences: list[Sequence] = []
    frames: list[tuple[int, int]] = []
    for kind, payload in _units(data, count):
        if kind == _SEQUENCE_HEADER:
            sequences.append(read_sequence(payload))
        elif kind in _FRAME_HEADERS:
            if not sequences:
                raise CorruptImageError("The AV1 stream has a frame before its sequence")
            size = frame_size(payload, sequences[-1])
            frames += [size] if size else []
            if len(frames) > MAX_FRAMES:
                raise CorruptImageError("The AV1 stream has more frames than an image")
    if not frames:
        raise CorruptImageError("The AV1 stream contains no image")
    width, height = max(each.width for each in sequences), max(each.height for each in sequences)
    pixel_bytes = max(each.pixel_bytes for each in sequences)
    return Stream(width, height, tuple(frames), sequences[0].points, pixel_bytes)


def _units(data: Buffer, count: Callable[[int], None]) -> Iterator[tuple[int, Buffer]]:
    """Type and payload of each OBU (5.3)."""
    view = memoryview(data)
    position = 0
    while position < len(view):
        count(1)
        head = view[position]
        position += 2 if head & 4 else 1  # an extension byte
        size = len(view) - position
        if head & 2:
            size, position = _leb128(view, position)
        yield head >> 3 & 15, view[position : position + size]
        position += size


def _leb128(view: memoryview, position: int) -> tuple[int, int]:
    """A number in bytes of seven bits, least significant first (4.10.5), and the position after it."""
    number = 0
    for index in range(8):
        if position + index >= len(view):
            break
        byte = view[position + index]
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, position + index + 1
    raise CorruptImageError("A unit of the AV1 stream is truncated")


def read_sequence(payload: Buffer) -> Sequence:
    """5.5.1."""
    bits = Bits(payload[:_MAX_HEAD])
    profile = bits.read(3)
    bits.skip(1)  # still_picture
    reduced = bool(bits.read(1))
    timed_bits = 0
    if reduced:
        bits.skip(5)  # level
    else:
        timed_bits = _read_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    if reduced:
        bits.skip(3)  # superblocks of 128, two filters
        points, pixel_bytes = _read_colour(bits, profile)
        return Sequence(width, height, reduced, points=points, pixel_bytes=pixel_bytes)
    id_bits = bits.read(4) + 2 + bits.read(3) + 1 if bits.read(1) else 0
    bits.skip(7)  # superblocks of 128, two filters, four kinds of motion
    order_hint = bits.read(1)
    if order_hint:
        bits.skip(2)
    screen_content = _SELECT if bits.read(1) else bits.read(1)
    integer_motion = _SELECT if not screen_content or bits.read(1) else bits.read(1)
    if order_hint:
        bits.skip(3)  # bits of the hint
    largest = 1 << width_bits, 1 << height_bits
    tools = largest, timed_bits, screen_content, integer_motion, id_bits
    return Sequence(width, height, reduced, *tools, *_read_colour(bits, profile))


def _read_colour(bits: Bits, profile: int) -> tuple[tuple[int, int], float]:
    """Code points and bytes of a decoded pixel: three more tools, ``color_config`` (5.5.2), and film grain."""
    bits.skip(3)  # scaling, two more filters
    deep = bits.read(1)
    twelve = profile == 2 and deep and bits.read(1)
    gray = profile != 1 and bits.read(1)
    points, matrix = (UNSPECIFIED, UNSPECIFIED), UNSPECIFIED
    if bits.read(1):
        points, matrix = (bits.read(8), bits.read(8)), bits.read(8)
    samples = 1.0
    if gray:
        bits.skip(1)  # range
    elif (*points, matrix) == _SRGB:
        samples, _ = 3.0, bits.read(1)
    else:
        bits.skip(1)
        samples = 1 + _read_chroma(bits, profile, bool(twelve))
        bits.skip(1)  # whether both chroma planes are quantised alike
    grain = bits.read(1)
    return points, samples * (2 if deep else 1) * (2 if grain else 1)


def _read_chroma(bits: Bits, profile: int, twelve: bool) -> float:
    """Chroma samples per luma sample."""
    across, down = profile != 1, profile == 0
    if profile == 2 and twelve:
        across = bool(bits.read(1))
        down = across and bool(bits.read(1))
    if across and down:
        bits.skip(2)  # chroma sample position
    return 2 / (1 + across) / (1 + down)


def _read_operating_points(bits: Bits) -> int:
    """Skips timing and operating points (5.5.1, 5.5.3 to 5.5.5); returns the bits of a shown frame's presentation
    time."""
    delay_bits = time_bits = 0
    equal_interval = False
    if bits.read(1):  # timing
        bits.skip(64)
        equal_interval = bool(bits.read(1))
        if equal_interval:
            bits.read_exp_golomb()
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.skip(32 + 5)
            time_bits = bits.read(5) + 1
    initial_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.skip(12)  # which layers
        if bits.read(5) > 7:  # level
            bits.skip(1)
        if delay_bits and bits.read(1):
            bits.skip(2 * delay_bits + 1)
        if initial_delay and bits.read(1):
            bits.skip(4)
    return 0 if equal_interval else time_bits


def frame_size(payload: Buffer, sequence: Sequence) -> tuple[int, int] | None:
    """The largest size that a frame may have, from the beginning of its header (5.9.2); None if an earlier frame is
    shown again.

    A size of its own is not read but assumed to be the largest possible: sequences of still pictures have none.
    """
    if sequence.reduced:
        return sequence.width, sequence.height
    bits = Bits(payload[:_MAX_HEAD])
    if bits.read(1):  # show_existing_frame
        return None
    kind, shown = bits.read(2), bits.read(1)
    if shown:
        bits.skip(sequence.timed_bits)
    else:
        bits.skip(1)  # showable
    if kind != _SWITCH_FRAME and not (kind == _KEY_FRAME and shown):
        bits.skip(1)  # error resilience
    bits.skip(1)  # no update of probabilities
    screen_content = bits.read(1) if sequence.screen_content == _SELECT else sequence.screen_content
    if screen_content and sequence.integer_motion == _SELECT:
        bits.skip(1)
    bits.skip(sequence.id_bits)
    own_size = kind == _SWITCH_FRAME or bits.read(1)
    return sequence.override if own_size else (sequence.width, sequence.height)
