"""PNG (W3C PNG specification, third edition, whose section numbers appear below). Of an APNG the default image is
read.

Only damaged pixels and the palette they need are fatal: an ancillary chunk with a wrong checksum, length or place is
ignored, as libpng and browsers do.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from PIL.PngImagePlugin import PngImageFile

from app.errors import CorruptImageError, TooComplexError
from app.images.formats.base import (
    MAX_PROFILE,
    Buffer,
    Container,
    DecodeLimits,
    ImageHeader,
    InputFormat,
    is_gray_palette,
    upright,
)
from app.images.formats.ifd import Exif, plausible_dpi, read_exif
from app.images.formats.png_colour import colour_profile
from app.images.formats.xmp import MAX_XMP, cleaned_xmp

MAX_CHUNKS = 16_384  # 128 MB of libpng's IDATs, which hold 8 KB each; that many empty ones cost 40 ms
MAX_PALETTE = 256  # colours (11.2.2)

_IEND = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
_COLOUR = frozenset((b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"))
_USED = _COLOUR | {b"PLTE", b"tRNS", b"eXIf", b"pHYs"}
_LATE_EXIF = b"eXIf, after the pixels"
_GAIN_MAP = b"gmAP"  # of ISO 21496-1, as Skia writes it
_XMP = b"XML:com.adobe.xmp\0"  # the keyword of the iTXt that holds XMP (XMP specification part 3, 1.1.5)
_CHANNELS = {0: (True, False), 2: (False, False), 3: (False, False), 4: (True, True), 6: (False, True)}
"""Colour type (11.2.1) -> gray, alpha."""


class Chunk(NamedTuple):
    name: bytes
    payload: memoryview
    crc: int
    whole: memoryview
    start: int

    def intact(self) -> bool:
        return zlib.crc32(self.payload, zlib.crc32(self.name)) == self.crc


def read_png(data: bytes, limits: DecodeLimits) -> Container:
    length, name, width, height, bits, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if (length, name) != (13, b"IHDR") or colour not in _CHANNELS:
        raise CorruptImageError("The PNG does not begin with a valid IHDR")
    limits.check(width, height)
    used, pixels = _collect(data)
    if not pixels or (colour == 3 and b"PLTE" not in used):
        raise CorruptImageError("The PNG lacks its pixels or its palette")
    gray, has_alpha = _CHANNELS[colour]
    palette_alpha, key = None, None
    if colour == 3:
        palette = _palette(used[b"PLTE"])
        gray, bits = is_gray_palette(palette), 8
        pixels.insert(0, used[b"PLTE"].whole)
        palette_alpha = _palette_alpha(used, len(palette) // 3)
    elif b"tRNS" in used:
        key = _key(used[b"tRNS"].payload, colour, bits)
    exif = _exif(used)
    width, height = upright(width, height, exif.orientation)
    return Container(
        header=ImageHeader(
            format="png",
            width=width,
            height=height,
            gray=gray,
            has_alpha=has_alpha or palette_alpha is not None or key is not None,
            bits=bits,
            depth=16 if bits == 16 else 8,
            orientation=exif.orientation,
            gain_map=_GAIN_MAP in used,
        ),
        stream=(memoryview(data)[:33], *pixels, _IEND),
        icc_profile=colour_profile({name: used[name].payload for name in _COLOUR & set(used)}, gray, _profile),
        exif=exif.block,
        exif_colour=exif.colour,
        dpi=_dpi(used[b"pHYs"].payload) if b"pHYs" in used else exif.dpi,
        xmp=_xmp(used[_XMP].payload) if _XMP in used else None,
        palette_alpha=palette_alpha,
        transparent=key,
    )


def check_pixels(container: Container) -> None:
    """Verifies the checksums of the pixel chunks, which Pillow ignores: a flipped bit may still inflate, to a
    different image."""
    for part in container.stream[1:-1]:
        chunk = next(_chunks(part, 0))
        if not chunk.intact():
            raise CorruptImageError(f"The checksum of a PNG {chunk.name.decode()} chunk is wrong")


def _collect(data: bytes) -> tuple[dict[bytes, Chunk], list[Buffer]]:
    """The first intact chunk of each kind in use, and all pixel chunks, unverified.

    Nothing is inflated here, and text that is not used never is.
    """
    used: dict[bytes, Chunk] = {}
    pixels: list[Buffer] = []
    for chunk in _chunks(data, 33):
        if chunk.name == b"IDAT":
            pixels.append(chunk.whole)
            continue
        name = _told_as(chunk, bool(pixels), b"PLTE" in used)
        if name is not None and name not in used and (name == b"PLTE" or chunk.intact()):
            used[name] = chunk
    return used, pixels


def _told_as(chunk: Chunk, after_pixels: bool, after_palette: bool) -> bytes | None:
    """The name under which a chunk counts in its place (5.6); None if it is ignored. Browsers accept gAMA and iCCP
    after PLTE."""
    if chunk.name == b"iTXt":
        return _XMP if bytes(chunk.payload[: len(_XMP)]) == _XMP else None
    if chunk.name == b"eXIf":
        return _LATE_EXIF if after_pixels else b"eXIf"
    if chunk.name == b"cICP" and after_palette:
        return None
    return chunk.name if chunk.name in _USED | {_GAIN_MAP} and not after_pixels else None


def _chunks(data: Buffer, start: int) -> Iterator[Chunk]:
    """The chunks (5.3) from ``start`` to IEND. Whatever is missing after the first IDAT is left to Pillow to report."""
    view = memoryview(data)
    seen_pixels = False
    for _ in range(MAX_CHUNKS):
        if seen_pixels and len(view) - start < 12:
            return
        length, name = struct.unpack_from(">I4s", view, start)
        if name == b"IEND":
            return
        end = start + 12 + length
        if end > len(view) or not name.isalpha():  # on bytes: ASCII letters
            if seen_pixels and name != b"IDAT":
                return
            raise CorruptImageError("A PNG chunk is truncated or has no name")
        yield Chunk(name, view[start + 8 : end - 4], struct.unpack_from(">I", view, end - 4)[0], view[start:end], start)
        seen_pixels |= name == b"IDAT"
        start = end
    raise TooComplexError("The PNG has too many chunks", limit=MAX_CHUNKS)


def _inflate(data: Buffer, limit: int) -> bytes:
    """Inflates a zlib stream to at most ``limit`` bytes; ``zlib.error`` if it is damaged."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, limit + 1)
    if len(inflated) > limit:
        raise TooComplexError("A PNG chunk expands to more than is allowed", limit=limit, actual=len(inflated))
    return inflated


def _palette(chunk: Chunk) -> memoryview:
    if not chunk.intact():
        raise CorruptImageError("The checksum of the PNG PLTE chunk is wrong")
    colours, rest = divmod(len(chunk.payload), 3)
    if rest or not 0 < colours <= MAX_PALETTE:
        raise CorruptImageError(f"The PNG has a palette of {len(chunk.payload)} bytes")
    return chunk.payload


def _palette_alpha(used: dict[bytes, Chunk], colours: int) -> bytes | None:
    """The alpha of a palette's first colours (11.3.1.1); None for a tRNS that has more or none, or precedes the
    palette."""
    if b"tRNS" not in used or not 0 < len(used[b"tRNS"].payload) <= colours:
        return None
    is_before = used[b"tRNS"].start < used[b"PLTE"].start
    return None if is_before else bytes(used[b"tRNS"].payload)


def _exif(used: dict[bytes, Chunk]) -> Exif:
    """After the pixels its orientation is ignored: by then a browser has shown the image."""
    if b"eXIf" in used:
        return read_exif(used[b"eXIf"].payload)
    return replace(read_exif(used[_LATE_EXIF].payload), orientation=1) if _LATE_EXIF in used else Exif()


def _xmp(payload: memoryview) -> bytes | None:
    """The text of an iTXt (11.3.3.4): keyword, compression flag and method, language, translated keyword, text."""
    start = len(_XMP) + 2
    if len(payload) > start + 2 * MAX_XMP:  # even before it is inflated
        return None
    compressed, rest = bytes(payload[len(_XMP) : start - 1]) == b"\1", bytes(payload[start:])
    text = rest.split(b"\0", 2)[-1]
    try:
        return cleaned_xmp(_inflate(text, 2 * MAX_XMP) if compressed else text)
    except (zlib.error, TooComplexError):
        return None  # damaged or too large: ignored


def _profile(payload: memoryview) -> bytes | None:
    """An iCCP chunk: name of at most 79 bytes, zero, compression method 0, zlib stream (11.3.2.3)."""
    end = bytes(payload[:80]).find(b"\0")
    try:
        return _inflate(payload[end + 2 :], MAX_PROFILE) or None if end > 0 else None
    except zlib.error:
        return None  # a broken profile is ignored


def _dpi(payload: memoryview) -> tuple[float, float] | None:
    if len(payload) != 9:
        return None
    x, y, unit = struct.unpack(">IIB", payload)
    return plausible_dpi(x * 0.0254, y * 0.0254) if unit == 1 else None  # unit 1: the metre (11.3.4.3)


def _key(alpha: memoryview, colour: int, bits: int) -> tuple[int, ...] | None:
    """The colour key of a tRNS (11.3.1.1): one 16-bit sample for gray, three for RGB, whose low bits count."""
    samples = {0: ">H", 2: ">HHH"}.get(colour)
    if samples is None or len(alpha) != struct.calcsize(samples):
        return None
    return tuple(sample & (1 << bits) - 1 for sample in struct.unpack(samples, alpha))


FORMAT = InputFormat(
    name="png",
    suffixes=(".png",),
    matches=lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    read=read_png,
    plugin=PngImageFile,
    check=check_pixels,
)
