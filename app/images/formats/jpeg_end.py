"""A JPEG without an end marker: complete otherwise, as interrupted writers leave it, or with pixels missing?

libjpeg paints missing pixels gray and only warns, and Pillow does not pass the warning on. So such a file is decoded
twice, with two endings whose bits are each other's complement. If even one bit of the file is missing, its first
replacement differs between the two, and with it the pixels.
"""

import random
import struct
from collections.abc import Iterator

from app.images.formats.base import Buffer

EOI = b"\xff\xd9"
PIECE = 1 << 20  # bytes searched at a time: a search holds the GIL
SOS = 0xDA
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BITS = bytes(random.Random(0).choices(range(1, 255), k=512))  # neither 0 nor 255, which begins a marker
ENDS = (_BITS + EOI, bytes(255 - byte for byte in _BITS) + EOI)


def is_ended(scans: Buffer) -> bool:
    """Whether an end marker follows the header of the first scan; entropy-coded data contains no FF D9."""
    starts = reversed(range(0, len(scans), PIECE))
    return any(EOI in bytes(scans[start : start + PIECE + 1]) for start in starts)


def ended_both_ways(stream: tuple[Buffer, ...]) -> Iterator[tuple[Buffer, ...]]:
    """The file with each of the two endings. Half an end marker is not data."""
    *head, scans = stream
    view = memoryview(scans)
    while len(view) and view[-1] == 0xFF:
        view = view[:-1]
    return ((*head, view, end) for end in ENDS)


def lacks_scans(segments: Iterator[tuple[int, Buffer]]) -> bool:
    """Whether some coefficient of some channel is in no scan, or not down to its last bit (ITU-T T.81, G.1.1.1).

    ``segments``: marker and contents of each segment of the file, from the first on.
    """
    try:
        return any(any(left) for left in _missing_bits(segments).values())
    except (IndexError, struct.error):
        return True  # a truncated header


def _missing_bits(segments: Iterator[tuple[int, Buffer]]) -> dict[int, list[int]]:
    """For each channel, how many bits of each of its 64 coefficients are in no scan."""
    missing: dict[int, list[int]] = {}
    progressive = False
    for marker, payload in segments:
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            missing = {payload[6 + 3 * index]: [16] * 64 for index in range(payload[5])}
        if marker == SOS:
            count = payload[0]
            first, last, bits = struct.unpack_from("3B", payload, 1 + 2 * count)
            told = range(first, min(last, 63) + 1) if progressive else range(64)
            for channel in (payload[1 + 2 * index] for index in range(count)):
                for place in told if channel in missing else ():
                    missing[channel][place] = bits & 15 if progressive else 0
    return missing
