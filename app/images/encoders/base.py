"""The encoder protocol: its input, its duties, and the row that describes an output format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from app.errors import InvalidParameterError
from app.images.pixels import Pixels

Rows = Pixels
"""A band of finished pixels: uint8 or uint16 by ``Picture.depth``, ``[h, width, channels]``, C-contiguous, top row
first."""

Subsampling = Literal["4:2:0", "4:4:4"]

DEFAULT_QUALITY = 90


@dataclass(frozen=True)
class Options:
    """Options of an encoder, which uses those that apply to it. ``quality``: 1 to 100, None for the default."""

    quality: int | None = None
    subsampling: Subsampling = "4:2:0"
    lossless: bool = False

    @property
    def quality_or_default(self) -> int:
        return DEFAULT_QUALITY if self.quality is None else self.quality


@dataclass(frozen=True)
class Picture:
    """The image to be written: its size in pixels, its channels and its metadata.

    ``channels``: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha (straight, not premultiplied).
    ``depth``: bits per sample, 8 or 16. ``xmp``: a complete packet.
    ``dpi``: horizontal and vertical resolution in pixels per inch. ``exif``: a TIFF-structured block without the
    ``Exif\\0\\0`` prefix.
    """

    width: int
    height: int
    channels: int
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    depth: int = 8
    xmp: bytes | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.channels not in (1, 2, 3, 4) or self.depth not in (8, 16):
            raise ValueError(f"no such image: {self.width} x {self.height} x {self.channels} of {self.depth} bits")


class Encoder(Protocol):
    """Turns rows into the bytes of a file, incrementally. One object writes one file, from one thread.

    ``begin`` is called once and returns the header; ``write`` is called with bands of any height, top to bottom, and
    returns what is finished so far (possibly nothing); ``finish`` returns the rest. The concatenated bytes of all calls
    are the file.

    The constructor checks every limit of the format and allocates nothing that grows with the image, so constructing an
    encoder tells, before anything is computed, whether the result will fit.
    """

    def begin(self) -> bytes: ...

    def write(self, rows: Rows) -> bytes: ...

    def finish(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """An output format: everything the service knows about it.

    ``suffixes``: of file names, with the dot, the usual one first. ``create`` makes an encoder. ``bits``: the most a
    sample may have. Without ``alpha`` the caller flattens the image first. ``streamed``: sent as it is computed, else
    encoded whole at the end. ``quality``, ``subsampling`` and ``lossless``: whether the format has these options.
    ``max_side`` and ``max_pixels`` limit the result, ``max_bytes`` the file. ``held``: memory in bytes per pixel of the
    result, at most, for a format that is encoded whole.
    """

    name: str
    media_type: str
    suffixes: tuple[str, ...]
    create: Callable[[Picture, Options], Encoder]
    bits: int = 8
    alpha: bool = True
    streamed: bool = True
    held: int = 0
    quality: bool = False
    subsampling: bool = False
    lossless: bool = False
    max_side: int | None = None
    max_pixels: int | None = None
    max_bytes: int | None = None

    @property
    def extension(self) -> str:
        """With its dot."""
        return self.suffixes[0]


class RowCounter:
    """Checks that an encoder is given the rows of the announced image; a violation is a bug in our own code."""

    def __init__(self, picture: Picture) -> None:
        self._row_shape = (picture.width, picture.channels)
        self._type = np.dtype(f"uint{picture.depth}")
        self._missing = picture.height

    def accept(self, rows: Rows) -> None:
        """Counts a band ``[h, width, channels]``; raises ValueError if it is not one of this image."""
        if rows.dtype != self._type or rows.ndim != 3 or rows.shape[1:] != self._row_shape:
            expected = ("h", *self._row_shape)
            raise ValueError(f"a band must be {self._type} {expected}, this is {rows.dtype} {rows.shape}")
        if len(rows) > self._missing:
            raise ValueError(f"{len(rows)} rows given where {self._missing} are missing")
        self._missing -= len(rows)

    def complete(self) -> None:
        """Raises ValueError unless every row of the image was counted."""
        if self._missing:
            raise ValueError(f"the image ends {self._missing} rows too early")


def check_quality(quality: int) -> None:
    """Raises InvalidParameterError unless ``quality`` is in 1..100."""
    if not 1 <= quality <= 100:
        limit = 1 if quality < 1 else 100
        raise InvalidParameterError("quality must be from 1 to 100", limit=limit, actual=quality)


def whole_density(x: float, y: float, largest: int) -> tuple[int, int] | None:
    """Two densities as integers in 1..``largest``, or None if either cannot be one.

    The figures come from untrusted files, where 0, infinity and NaN all occur. A density is advice to printers, so one
    that cannot be written is left out rather than refused.
    """
    if not (0.5 < x <= largest and 0.5 < y <= largest):
        return None
    return round(x), round(y)
