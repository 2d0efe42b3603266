"""What every reader of a format is given and what it returns."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import Image, ImageFile

from app.errors import CorruptImageError, TooComplexError, TooManyPixelsError

Buffer = bytes | memoryview

MAX_PROFILE = 4 << 20
"""Bytes of a colour profile. The largest printing profiles in use have about 3 MB."""


@dataclass(frozen=True)
class DecodeLimits:
    """How large an image may be before it is enlarged.

    Decoded colour takes 4 bytes per pixel (gray 1) and alpha 1 more; of 16 bits 6 (gray 2) and 2 more. While it is
    decoded, turned upright or converted from ink to light it takes up to twice that, a progressive JPEG 6 bytes more, a
    WebP, AVIF or HEIC 12; samples of 32 bits and more are bounded by their bytes (``tiff.py``). So ``max_pixels``
    bounds memory: 50 million are 0.2 GB, and 0.8 GB for the instant in which a WebP of that size is decoded.

    ``max_pixels`` may not pass ``PIL.Image.MAX_IMAGE_PIXELS`` (89.5 million), where Pillow would begin to warn. Who
    needs more raises that figure first, where the program is put together.
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


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What a file says of its (first) image. ``width`` and ``height`` are as seen, after ``orientation``."""

    format: str
    """The name of its ``InputFormat``."""
    width: int
    height: int
    gray: bool
    """One colour channel, or a palette of nothing but grays."""
    has_alpha: bool
    bits: int = 8
    """Bits per sample has in the file (the colours of a palette: 8)."""
    depth: Literal[8, 16] = 8
    """Bits per sample has once it is decoded."""
    orientation: int = 1
    """As in Exif: 1 to 8, 1 upright."""
    gain_map: bool = False
    """There is a second image that brightens this one on HDR screens. It is not enlarged and does not travel on."""


@dataclass(frozen=True, kw_only=True)
class Bytewise:
    """Samples of 2, 4 or 8 bytes that travel through Pillow as a gray image as many times as wide, a byte per pixel.

    ``kind``: "u2", "u4", "f2", "f4" or "f8", as numpy writes it, stored in the byte order ``order`` ("<" or ">"),
    ``samples`` a pixel. ``width``: pixels in a stored row, more than the image's where tiles reach over its edge.
    ``predictor``: 1 stored plainly, 2 each as its difference from the one before, 3 the same of bytes whose planes lie
    one after another (TIFF section 14, and Adobe's technical note 3); of ``run`` pixels at a time.
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
    """A piece of an image that is a WebP of its own; its size, and where it lies."""

    left: int
    top: int
    width: int
    height: int
    data: memoryview


@dataclass(frozen=True, kw_only=True)
class Container:
    """A file taken apart: see ``app.images.formats``."""

    header: ImageHeader
    stream: tuple[Buffer, ...]
    icc_profile: bytes | None = None
    """From a reader as found, or made of what else tells colour; from ``read_container`` checked: see ``profile``."""
    tinted: bool = False
    """The samples are gray, but the profile may show them as a colour, so the header says that they are none."""
    ink: bool = False
    """CMYK or LAB, which is decoded to sRGB, so that no profile fits it afterwards."""
    exif: bytes | None = None
    """Cleaned, and without ``Exif\\0\\0`` before it: see ``ifd.Exif``."""
    exif_colour: bytes | None = None
    """Of it, what says that the colours are Adobe RGB's, if they are; browsers do not go by that."""
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    """Cleaned: see ``xmp.cleaned_xmp``."""
    transparent: tuple[int, ...] | None = None
    """The one gray level or colour that stands for "nothing here", in samples of ``header.bits``."""
    palette_alpha: bytes | None = None
    """Alpha by palette index; indices past its end are opaque."""
    white_is_zero: bool = False
    """Samples run from white to black and Pillow will not turn them round (TIFF with more than 8 bits)."""
    sample: Literal["unsigned", "signed", "float"] = "unsigned"
    bytewise: "Bytewise | None" = None
    """Set where ``stream`` is no image but the bytes of one, which Pillow has no mode for."""
    blocks: tuple[Block, ...] = ()
    """Set where not ``stream`` is the image but these together are."""
    variety: str = ""
    """What kind of samples a TIFF has, in words, for whoever cannot read it."""

    @property
    def gray_samples(self) -> bool:
        return self.header.gray or self.tinted

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as stored, before orientation."""
        return upright(self.header.width, self.header.height, self.header.orientation)  # its own inverse


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """All that the service knows of a format that it reads.

    ``suffixes``: of its files' names, the usual one first; they matter where files are looked for in a folder.
    ``matches``: whether a file's first bytes are those of the format; no name and no declared type is asked.
    ``read`` takes a file apart without decoding a pixel. ``plugin`` is the class of Pillow that decodes them: never
    ``Image.open``, which would warn of large images before anyone could check, and turn a JPEG into an MPO.
    ``check``: what is looked at just before that, because it costs as much as decoding. ``copied``: the plugin holds a
    canvas of its own for as long as its image lives.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    read: Callable[[bytes, DecodeLimits], Container]
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile]
    check: Callable[[Container], None] = lambda container: None
    copied: bool = False


def upright(width: int, height: int, orientation: int) -> tuple[int, int]:
    """The size as seen of an image stored as ``width`` x ``height``, or the reverse: 5 to 8 swap the sides."""
    return (height, width) if orientation >= 5 else (width, height)


def is_gray_palette(colours: Buffer, stride: int = 3) -> bool:
    """Whether a palette (three bytes per colour, then ``stride`` - 3 of padding) holds nothing but grays."""
    first, second, third = (bytes(colours[channel::stride]) for channel in range(3))
    return first == second == third


def checked_profile(*parts: Buffer) -> bytes:
    """A profile put together from its parts; nothing of one that is too large is copied."""
    size = sum(map(len, parts))
    if size > MAX_PROFILE:
        raise TooComplexError("The colour profile is too large", limit=MAX_PROFILE, actual=size)
    return b"".join(parts)
