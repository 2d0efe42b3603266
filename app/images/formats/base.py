"""The input and the output of every format's reader."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import Image, ImageFile

from app.errors import CorruptImageError, TooComplexError, TooManyPixelsError

Buffer = bytes | memoryview

PIXEL_BYTES = 16  # that a codec may take per pixel while it decodes; half a byte more is tolerated

PIECE = 1 << 20  # bytes copied at a time

MAX_PROFILE = 4 << 20
"""Bytes of a colour profile. The largest printing profiles in use have about 3 MB."""


@dataclass(frozen=True)
class DecodeLimits:
    """How large an image may be before it is enlarged.

    Decoded colour takes 4 bytes per pixel (gray 1) and alpha 1 more; with 16 bits, 6 (gray 2) and 2 more. While it is
    decoded, rotated or converted from ink to light it takes up to twice that, a progressive JPEG 6 bytes more, a WebP,
    AVIF or HEIC 12. Images that might take more than ``PIXEL_BYTES`` may have correspondingly fewer pixels
    (``check_memory``; samples of 32 bits: ``tiff.py``). So ``max_pixels`` bounds memory: 50 million take 0.2 GB, and
    0.8 GB for the moment in which a WebP of that size is decoded.

    ``max_pixels`` may not exceed ``PIL.Image.MAX_IMAGE_PIXELS`` (89.5 million), above which Pillow warns. To allow
    more, raise that figure first, in the composition root.
    """

    max_pixels: int = 50_000_000
    max_side: int = 32_768

    def __post_init__(self) -> None:
        ceiling = Image.MAX_IMAGE_PIXELS or self.max_pixels
        if not 0 < self.max_pixels <= ceiling or self.max_side < 1:
            raise ValueError(f"max_pixels must be 1 to {ceiling} and max_side at least 1: {self}")

    def check(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise CorruptImageError(f"The header gives a size of {width} x {height}")
        if width * height > self.max_pixels:
            detail = f"{width} x {height} pixels are more than the {self.max_pixels} allowed"
            raise TooManyPixelsError(detail, limit=self.max_pixels, actual=width * height)
        if max(width, height) > self.max_side:
            detail = f"A side of {max(width, height)} pixels is longer than the {self.max_side} allowed"
            raise TooManyPixelsError(detail, limit=self.max_side, actual=max(width, height))

    def check_memory(self, pixels: int, pixel_bytes: float) -> None:
        """For codecs that may take more than ``PIXEL_BYTES``."""
        most = int(self.max_pixels * PIXEL_BYTES / pixel_bytes)
        if pixels > most:
            detail = f"{pixels} pixels of so many bits and planes are more than the {most} allowed"
            raise TooManyPixelsError(detail, limit=most, actual=pixels)


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What a file says about its (first) image. ``width`` and ``height`` are upright, after ``orientation``."""

    format: str
    """The name of its ``InputFormat``."""
    width: int
    height: int
    gray: bool
    """One colour channel, or a palette of grays only."""
    has_alpha: bool
    bits: int = 8
    """Bits per sample in the file (8 for the colours of a palette)."""
    depth: Literal[8, 16] = 8
    """Bits per sample after decoding."""
    orientation: int = 1
    """As in Exif: 1 to 8, 1 is upright."""
    gain_map: bool = False
    """Whether there is a second image that brightens this one on HDR screens. It is neither enlarged nor kept."""


@dataclass(frozen=True, kw_only=True)
class Bytewise:
    """Samples of 2, 4 or 8 bytes that pass through Pillow as a gray image of one byte per pixel, correspondingly
    wider.

    ``kind``: "u2", "u4", "f2", "f4" or "f8", in numpy's notation, stored in the byte order ``order`` ("<" or ">"),
    ``samples`` per pixel. ``width``: pixels in a stored row, more than the image's if tiles extend beyond its edge.
    ``predictor``: 1 none, 2 differences from the sample before, 3 the same on bytes whose planes are stored one
    after another (TIFF section 14, and Adobe's technical note 3); in runs of ``run`` pixels.
    """

    kind: Literal["u2", "u4", "f2", "f4", "f8"]
    order: str
    samples: int
    width: int
    predictor: int
    run: int
    premultiplied: bool

    @property
    def sample_bytes(self) -> int:
        return int(self.kind[1])

    @property
    def row_bytes(self) -> int:
        return self.width * self.samples * self.sample_bytes


class Block(NamedTuple):
    """A part of an image that is a WebP of its own: its position, its size and its bytes."""

    left: int
    top: int
    width: int
    height: int
    data: memoryview


@dataclass(frozen=True, kw_only=True)
class Container:
    """A parsed file: see ``app.images.formats``."""

    header: ImageHeader
    stream: tuple[Buffer, ...]
    icc_profile: bytes | None = None
    """From a reader: as found, or made from other colour information. From ``read_container``: checked, see
    ``profile``."""
    tinted: bool = False
    """The samples are gray, but the profile may tint them, so the header says that they are not gray."""
    ink: bool = False
    """CMYK or LAB, which is decoded to sRGB, so that its profile no longer applies."""
    exif: bytes | None = None
    """Cleaned, and without the ``Exif\\0\\0`` prefix: see ``ifd.Exif``."""
    exif_colour: bytes | None = None
    """The part of it that marks the colours as Adobe RGB, if any; browsers ignore it."""
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    """Cleaned: see ``xmp.cleaned_xmp``."""
    transparent: tuple[int, ...] | None = None
    """The colour key: the one gray level or colour that is transparent, in samples of ``header.bits``."""
    palette_alpha: bytes | None = None
    """Alpha by palette index; indices beyond its end are opaque."""
    white_is_zero: bool = False
    """Samples run from white to black, and Pillow will not invert them (TIFF with more than 8 bits)."""
    sample: Literal["unsigned", "signed", "float"] = "unsigned"
    bytewise: "Bytewise | None" = None
    """Set if ``stream`` is not an image but the bytes of one, for which Pillow has no mode."""
    blocks: tuple[Block, ...] = ()
    """Set if the image consists of these instead of ``stream``."""
    variety: str = ""
    """The kind of a TIFF's samples in words, for the error if they cannot be read."""

    @property
    def gray_samples(self) -> bool:
        return self.header.gray or self.tinted

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as stored, before orientation."""
        return upright(self.header.width, self.header.height, self.header.orientation)  # its own inverse


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """An input format: everything the service knows about it.

    ``suffixes``: of file names, the usual one first; they matter only when files are looked for in a folder.
    ``matches``: whether a file begins with the signature of the format. ``read`` parses a file without decoding a
    pixel. ``plugin`` is the Pillow class that decodes it: never ``Image.open``, which would warn about large images
    before anyone could check them, and turn a JPEG into an MPO. ``check``: runs just before decoding, because it is
    as expensive. ``copied``: the plugin keeps a canvas of its own for as long as its image lives.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    read: Callable[[bytes, DecodeLimits], Container]
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile]
    check: Callable[[Container], None] = lambda container: None
    copied: bool = False


def upright(width: int, height: int, orientation: int) -> tuple[int, int]:
    """The upright size of an image stored as ``width`` x ``height``, or the reverse: orientations 5 to 8 swap the
    sides."""
    return (height, width) if orientation >= 5 else (width, height)


def is_gray_palette(colours: Buffer, stride: int = 3) -> bool:
    """Whether a palette (three bytes per colour, then ``stride`` - 3 of padding) holds nothing but grays."""
    first, second, third = (bytes(colours[channel::stride]) for channel in range(3))
    return first == second == third


def checked_profile(*parts: Buffer) -> bytes:
    """A profile joined from its parts; one that is too large is refused before anything is copied."""
    size = sum(map(len, parts))
    if size > MAX_PROFILE:
        raise TooComplexError("The colour profile is too large", limit=MAX_PROFILE, actual=size)
    return b"".join(parts)


def joined(parts: Iterable[Buffer]) -> io.BytesIO:
    """One file, copied a piece at a time: who copies holds the interpreter's lock."""
    stream = io.BytesIO()
    for part in parts:
        for start in range(0, len(part), PIECE):
            stream.write(part[start : start + PIECE])
    stream.getvalue()  # makes the buffer as large as what is in it, so that who reads all of it gets no copy
    stream.seek(0)
    return stream
