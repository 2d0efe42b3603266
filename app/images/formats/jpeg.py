"""JPEG (ITU-T T.81; JFIF 1.02; ICC.1 B.4). Of an MPO, as cameras and phones write it, only the first image is read."""

import math
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL.JpegImagePlugin import JpegImageFile

from app.errors import CorruptImageError, TooComplexError, UnsupportedFormatError
from app.images.formats.base import Buffer, Container, DecodeLimits, ImageHeader, InputFormat, checked_profile, upright
from app.images.formats.ifd import plausible_dpi, read_exif
from app.images.formats.iptc import photoshop_iptc, xmp_properties
from app.images.formats.xmp import cleaned_xmp, with_properties

MAX_SEGMENTS = 4096  # before the first scan: 256 MB of them
MAX_GAP = 2 << 20  # bytes between segments in total: fill bytes, and garbage that libjpeg skips
MAX_PARTS = 1 << 20  # bytes of Exif or of Photoshop's resources; usually one segment
MAX_SCANS, USUAL_SCANS = 100, 20  # encoders write up to about 20; libtiff has the limit of 100 too
MAX_SCAN_PIXELS = 1_000_000_000  # visiting so many takes a core some 5 s
PIECE = 1 << 20  # bytes looked through at a time

SOS, EOI, APP0, APP1, APP2, APP13, APP14 = 0xDA, 0xD9, 0xE0, 0xE1, 0xE2, 0xED, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))  # TEM, RST0 to RST7 and SOI: markers without a segment
_NEEDED = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDD, APP14}  # DHT, DAC, DQT, DRI, and Adobe's colour transform
_WHOLE = {APP0: 14, APP14: 12}
"""Bytes without which libjpeg passes such a segment over, and Pillow stumbles."""
_XMP = b"http://ns.adobe.com/xap/1.0/\0"  # XMP specification part 3, 1.1.3; a second, "extended" packet is not kept
_PHOTOSHOP = b"Photoshop 3.0\0"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_GAIN_MAPS_IN_XMP = b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/"
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
"""A marker; before it may be more FFs, to fill (T.81 B.1.1.2). FF 00 is an FF of the data."""
_SEGMENT = re.compile(rb"\xff([^\x00\xff\x01\xd0-\xd8])", re.DOTALL)
"""The marker of a segment, or EOI."""


class Segment(NamedTuple):
    marker: int
    payload: memoryview
    whole: memoryview
    end: int


def read_jpeg(data: bytes, limits: DecodeLimits) -> Container:
    segments = list(_segments(data))
    frame = next((segment for segment in segments if segment.marker in _FRAMES), None)
    if frame is None:
        raise CorruptImageError("The JPEG has a scan before its frame")
    precision, height, width, components = struct.unpack_from(">BHHB", frame.payload)
    limits.check(width, height)
    if precision != 8 or components not in (1, 3, 4):
        raise UnsupportedFormatError(f"A JPEG with {components} channels of {precision} bits is not supported")
    scan = segments[-1]
    exif = read_exif(_joined(segments, APP1, b"Exif\0\0"))
    jfif = next((s for s in segments if _is(s, APP0, b"JFIF\0") and _is_whole(s)), None)
    xmp = next((s.payload[len(_XMP) :] for s in segments if _is(s, APP1, _XMP)), b"")
    iptc = photoshop_iptc(_joined(segments, APP13, _PHOTOSHOP))
    width, height = upright(width, height, exif.orientation)
    needed = (s.whole for s in segments[:-1] if s is jfif or (s.marker in _NEEDED and _is_whole(s)))
    return Container(
        header=ImageHeader(
            format="jpeg",
            width=width,
            height=height,
            gray=components == 1,
            has_alpha=False,
            orientation=exif.orientation,
            gain_map=_has_gain_map(segments, bytes(xmp), memoryview(data)[scan.end :]),
        ),
        ink=components == 4,
        stream=(b"\xff\xd8", *needed, memoryview(data)[scan.end - len(scan.whole) :]),
        icc_profile=_profile([s.payload for s in segments if _is(s, APP2, b"ICC_PROFILE\0")]),
        exif=exif.block,
        exif_colour=exif.colour,
        xmp=with_properties(cleaned_xmp(xmp) if xmp else None, xmp_properties(iptc) if iptc else {}),
        dpi=(jfif and _dpi(jfif.payload)) or exif.dpi,
    )


def _is(segment: Segment, marker: int, name: bytes) -> bool:
    return segment.marker == marker and bytes(segment.payload[: len(name)]) == name


def _has_gain_map(segments: list[Segment], xmp: bytes, scans: memoryview) -> bool:
    """By ISO 21496-1, or by XMP that mentions one while there is a second image: in an index (MPF) or appended to
    this one."""
    if any(_is(segment, APP2, _GAIN_MAP) for segment in segments):
        return True
    if not any(name in xmp for name in _GAIN_MAPS_IN_XMP):
        return False
    if b"GainMap" in xmp or any(_is(segment, APP2, b"MPF\0") for segment in segments):
        return True
    starts = range(0, len(scans), PIECE)
    return any(b"\xff\xd9\xff\xd8\xff" in bytes(scans[start : start + PIECE + 4]) for start in starts)


def _is_whole(segment: Segment) -> bool:
    return len(segment.payload) >= _WHOLE.get(segment.marker, 0)


def _joined(segments: list[Segment], marker: int, name: bytes) -> bytes:
    """The contents of all segments of that name; empty if they are too long."""
    parts = [segment.payload[len(name) :] for segment in segments if _is(segment, marker, name)]
    return b"".join(parts) if sum(map(len, parts)) <= MAX_PARTS else b""


def _segments(data: bytes) -> Iterator[Segment]:
    """The segments up to and including the header of the first scan."""
    position, end = 2, 2 + MAX_GAP
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position, end)
        if found is None and end < len(data):
            raise TooComplexError("There are too many bytes between the segments of the JPEG", limit=MAX_GAP)
        if found is None or found[1][0] == EOI:
            raise CorruptImageError("The JPEG ends before its first scan")
        marker, position = found[1][0], found.end()
        if marker in _BARE:
            continue
        segment = _segment(data, marker, position)
        yield segment
        if marker == SOS:
            return
        position, end = segment.end, end + segment.end - position
    raise TooComplexError("The JPEG has too many segments", limit=MAX_SEGMENTS)


def _segment(data: bytes, marker: int, position: int) -> Segment:
    """The segment whose length (two bytes, which it includes) is at ``position``, just after its marker."""
    (length,) = struct.unpack_from(">H", data, position)
    if length < 2 and marker in _NEEDED | {SOS}:
        raise CorruptImageError("A JPEG segment is shorter than its own length")
    end = position + max(2, length)  # libjpeg passes over a segment of metadata that gives less
    if end > len(data):
        raise CorruptImageError("A JPEG segment is truncated")
    view = memoryview(data)
    return Segment(marker, view[position + 2 : end], view[position - 2 : end], end)


def check_scans(container: Container) -> None:
    """Refuses an image with very many scans: each may have a few bytes and visit every pixel (Red Hat bug 1344214)."""
    data, most = container.stream[-1], max(USUAL_SCANS, MAX_SCAN_PIXELS // math.prod(container.stored_size))
    most = min(MAX_SCANS, most)
    # Entropy-coded data contains no FF DA, so this may overcount (metadata, later images) but never undercount.
    if sum(bytes(data[at : at + PIECE + 1]).count(b"\xff\xda") for at in range(0, len(data), PIECE)) <= most:
        return
    if sum(marker == SOS for marker, _ in segments_of(container)) > most:
        raise TooComplexError("The JPEG has too many scans", limit=most)


def segments_of(container: Container) -> Iterator[tuple[int, Buffer]]:
    """Marker and contents of every segment of the stream; ``TooComplexError`` if there are too many."""
    head, data = container.stream[1:-1], container.stream[-1]
    yield from ((part[1], part[4:]) for part in head)
    position = 0
    for _ in range(MAX_SEGMENTS):
        found = _next_segment(data, position)
        if found is None or found[1][0] == EOI or found.end() + 2 > len(data):
            return
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2]))
        yield found[1][0], data[found.end() + 2 : position]
    raise TooComplexError("The JPEG has too many segments", limit=MAX_SEGMENTS)


def _next_segment(data: Buffer, position: int) -> re.Match[bytes] | None:
    """Searches one piece at a time: a search holds the GIL, and is slow on data that are all FF 00."""
    for start in range(position, len(data), PIECE):
        if found := _SEGMENT.search(data, start, start + PIECE + 1):  # a marker that spans two pieces
            return found
    return None


def _profile(parts: list[memoryview]) -> bytes | None:
    """A profile split into APP2 segments: name (12 bytes), number from 1, their count, data (ICC.1 B.4)."""
    ordered = sorted((part for part in parts if len(part) > 14), key=lambda part: part[12])
    numbers = [part[12] for part in ordered]
    if not numbers or numbers != list(range(1, ordered[0][13] + 1)):
        return None  # a part is missing: ignored
    return checked_profile(*(part[14:] for part in ordered))


def _dpi(payload: memoryview) -> tuple[float, float] | None:
    """The density in a JFIF segment: unit 1 is dots per inch, 2 dots per centimetre, 0 only an aspect ratio."""
    unit, x, y = struct.unpack_from(">BHH", payload, 7)
    inches = {1: 1.0, 2: 2.54}.get(unit)
    return plausible_dpi(x * inches, y * inches) if inches else None


FORMAT = InputFormat(
    name="jpeg",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    matches=lambda data: data.startswith(b"\xff\xd8\xff"),
    read=read_jpeg,
    plugin=JpegImageFile,
    check=check_scans,
)
