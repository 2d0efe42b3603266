"""WebP (RFC 9649). Of an animation only the first frame is read."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL.WebPImagePlugin import WebPImageFile

from app.errors import CorruptImageError, TooComplexError
from app.images.formats.base import Buffer, Container, DecodeLimits, ImageHeader, InputFormat, checked_profile, upright
from app.images.formats.ifd import Exif, read_exif
from app.images.formats.xmp import cleaned_xmp

MAX_CHUNKS = 1000  # a still image has six
_PROFILE, _ALPHA, _ANIMATION = 0x20, 0x10, 0x02  # flags of VP8X
_PIXELS = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"))


class Chunk(NamedTuple):
    name: bytes
    payload: memoryview
    whole: memoryview
    padding: bytes


def read_webp(data: bytes, limits: DecodeLimits) -> Container:
    chunks = list(_chunks(data, 12, min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])))
    first = chunks[0]
    width, height, has_alpha = _size(first)
    limits.check(width, height)
    _check_frame(chunks, width, height)
    used = {chunk.name: chunk.payload for chunk in reversed(chunks)}  # the first of each kind
    exif = read_exif(used[b"EXIF"]) if b"EXIF" in used else Exif()
    stream: list[Buffer] = [part for chunk in chunks if chunk.name in _PIXELS for part in (chunk.whole, chunk.padding)]
    if first.name == b"VP8X":
        flags = first.payload[0] & (_ALPHA | _ANIMATION)
        stream.insert(0, struct.pack("<4sIB", b"VP8X", 10, flags) + bytes(first.payload[1:10]))
    riff = struct.pack("<4sI4s", b"RIFF", 4 + sum(map(len, stream)), b"WEBP")
    width, height = upright(width, height, exif.orientation)
    return Container(
        header=ImageHeader(
            format="webp",
            width=width,
            height=height,
            gray=False,
            has_alpha=has_alpha,
            orientation=exif.orientation,
        ),
        stream=(riff, *stream),
        icc_profile=checked_profile(used[b"ICCP"]) if b"ICCP" in used and _has_profile(first) else None,
        exif=exif.block,
        exif_colour=exif.colour,
        dpi=exif.dpi,
        xmp=cleaned_xmp(used[b"XMP "]) if b"XMP " in used else None,
    )


def _has_profile(first: Chunk) -> bool:
    """Browsers ignore a profile that the flags do not announce."""
    return first.name == b"VP8X" and bool(first.payload[0] & _PROFILE)


def _check_frame(chunks: list[Chunk], width: int, height: int) -> None:
    """The image itself, or the first frame of an animation, states a size of its own, by which it is decoded."""
    frame = next((chunk for chunk in chunks if chunk.name in (b"VP8 ", b"VP8L", b"ANMF")), None)
    if frame is None:
        raise CorruptImageError("The WebP contains no image")
    left = top = 0
    whole = width, height
    if frame.name == b"ANMF":  # RFC 9649, 2.7.1.1: a header of 16 bytes with 24-bit numbers, then chunks
        left, top, *less = (int.from_bytes(frame.payload[at : at + 3], "little") for at in (0, 3, 6, 9))
        whole = less[0] + 1, less[1] + 1
        inner = _chunks(frame.payload, 16, len(frame.payload))
        frame = next((chunk for chunk in inner if chunk.name in (b"VP8 ", b"VP8L")), frame)
    if _size(frame)[:2] != whole or 2 * left + whole[0] > width or 2 * top + whole[1] > height:
        raise CorruptImageError("The WebP's image has a different size than its header says")


def _chunks(data: Buffer, position: int, end: int) -> Iterator[Chunk]:
    """The chunks of the file, or of a frame; of an animation those up to and including the first frame.

    Bytes beyond the file's stated length are not part of it. After the image nothing needs to be complete.
    """
    view = memoryview(data)
    seen_picture = False
    for _ in range(MAX_CHUNKS):
        if seen_picture and position + 8 > end:
            return
        name, length = struct.unpack_from("<4sI", view, position)
        start, position = position, position + 8 + length
        if position > end:
            if seen_picture:
                return
            raise CorruptImageError("A WebP chunk is truncated")
        padding = b"\0" * (length % 2)  # to an even length; the last chunk may lack it
        yield Chunk(name, view[start + 8 : position], view[start:position], padding)
        position += len(padding)
        seen_picture |= name in (b"VP8 ", b"VP8L")
        if name == b"ANMF" or position >= end:
            return
    raise TooComplexError("The WebP has too many chunks", limit=MAX_CHUNKS)


def _size(chunk: Chunk) -> tuple[int, int, bool]:
    """Width, height and whether there is alpha, from the first chunk: lossy, lossless, or the extended header."""
    payload = chunk.payload
    if chunk.name == b"VP8 " and bytes(payload[3:6]) == b"\x9d\x01\x2a":  # RFC 6386, 9.1
        width, height = struct.unpack_from("<HH", payload, 6)
        return width & 0x3FFF, height & 0x3FFF, False
    if chunk.name == b"VP8L" and payload[0] == 0x2F:  # RFC 9649, 3.4: 14 bits, 14 bits, 1 bit
        (packed,) = struct.unpack_from("<I", payload, 1)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, bool(packed >> 28 & 1)
    if chunk.name == b"VP8X" and len(payload) >= 10:  # RFC 9649, 2.7: 24 bits each
        width, height = (int.from_bytes(payload[at : at + 3], "little") + 1 for at in (4, 7))
        return width, height, bool(payload[0] & _ALPHA)
    raise CorruptImageError("The WebP does not begin with an image")


FORMAT = InputFormat(
    name="webp",
    suffixes=(".webp",),
    matches=lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    read=read_webp,
    plugin=WebPImageFile,
    copied=True,
)
