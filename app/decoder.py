"""Bytes to a picture in memory: upright, 8 bits, gray or RGB, alpha apart, with what is to be restored afterwards.

    bytes ─ formats (header, limits) ─▶ container ─ Pillow ─▶ pixels ─ colour ─▶ SourceImage

What is accepted, by content alone (names and declared types are not asked): PNG, JPEG, WebP, BMP, TIFF, GIF.

==============================================  ======================================================================
input                                           result
==============================================  ======================================================================
anything else (SVG, PDF, EPS, PSD, HEIC, …),    ``UnsupportedFormatError``
JPEG of 12 bits, camera raw, rare TIFF codecs
no bytes                                        ``EmptyImageError``
truncated, damaged, contradictory               ``CorruptImageError``; bytes missing after the last pixel are forgiven
more than ``max_pixels`` or ``max_side``        ``TooManyPixelsError``, from the header; TIFF tiles and a GIF frame that
                                                enlarges its canvas count in full
JPEG of over 100 scans, inflating PNG text or   ``TooComplexError``; profiles over 4 MiB, text over 8 MiB
profiles, endless directories or chunks, large
run-length BMP
APNG, animated GIF and WebP, TIFF pages, MPO    the first picture (of an APNG the default image); the rest is not read
orientation in Exif or TIFF                     applied. One in XMP or in PNG text is not, as browsers do
1, 2, 4, 8 bits gray; gray palettes             gray
16 bits gray                                    v / 257, rounded (TIFF of 12: v / 4095 · 255)
16 bits RGB or gray + alpha                     the upper 8 bits
gray TIFF of 32 bits or float                   0 … the type's highest value, floats 0 … 1; clipped outside, NaN black
1-bit, palette, RGB555, YCbCr                   8 bits, exactly as Pillow expands them
CMYK, YCCK (Adobe's inverted), LAB              sRGB: by the embedded profile if it fits, relative colorimetric with
                                                black point compensation, else by formula; the profile is dropped
profile of gray and RGB                         kept if it is whole and made for such pixels, else dropped
gAMA, cHRM, cICP, XMP, IPTC, text               dropped
alpha, tRNS, a transparent palette entry        alpha of its own; colour below 0 is that of the visible neighbours
premultiplied alpha (TIFF)                      divided out
Exif                                            kept without position, maker notes, thumbnail and orientation
resolution                                      kept as dots an inch
==============================================  ======================================================================
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from app.colour import INKS, bleed, fitting_profile, separate, turn_upright
from app.errors import CorruptImageError, EnlargerError, TooComplexError
from app.formats import Container, DecodeLimits, Format, ImageHeader, read_container
from app.formats.png import check_pixels
from app.raster import Raster

__all__ = ["DecodeLimits", "ImageHeader", "SourceImage", "decode", "inspect"]

# The plugins themselves and not Image.open: it would warn of large pictures before anyone could check, and would turn
# a JPEG into an MPO.
_PLUGINS: Mapping[Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "gif": GifImagePlugin.GifImageFile,
}


@dataclass(frozen=True, eq=False)
class SourceImage:
    """A decoded picture. Colour is held once, at 1 byte a pixel for gray and 3 for RGB; see ``Raster`` for where.

    ``width`` and ``height`` are upright. ``gray``: one colour channel came in, one should go out. ``alpha``: 8-bit,
    straight, mode L, or None; ``exif`` has no ``Exif\\0\\0`` before it.
    """

    width: int
    height: int
    gray: bool
    format: Format
    icc_profile: bytes | None
    exif: bytes | None
    dpi: tuple[float, float] | None
    alpha: Image.Image | None = field(repr=False)
    _colour: Raster = field(repr=False)

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha channel, even if it is opaque all over."""
        return self.alpha is not None

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Colour of the rows ``top`` to ``bottom`` - 1: uint8 ``[bottom - top, width, 3]``, R = G = B if gray.

        Not to be written to. Raises ``ValueError`` for an empty range and for rows that the picture does not have.
        """
        rows = self._colour.rows(top, bottom)
        return rows if rows.shape[2] == 3 else np.repeat(rows, 3, axis=2)


def inspect(data: bytes, limits: DecodeLimits) -> ImageHeader:
    """What the header says, every limit checked and no pixel decoded: for admission."""
    return read_container(data, limits).header


def decode(data: bytes, limits: DecodeLimits) -> SourceImage:
    """Decode the (first) picture. Raises the errors of the table above and no others. Keeps nothing of ``data``."""
    container = read_container(data, limits)
    if container.header.format == "png":
        check_pixels(container)
    image = _load(container)
    profile = None if image.mode in INKS else container.icc_profile
    colour, alpha = separate(image, container)
    del image  # where a conversion took place, its memory
    orientation = container.header.orientation
    colour = turn_upright(colour, orientation)
    if alpha is not None:
        alpha = turn_upright(alpha, orientation)
        bleed(colour, alpha)
    return SourceImage(
        width=colour.width,
        height=colour.height,
        gray=container.header.gray,
        format=container.header.format,
        icc_profile=fitting_profile(profile, "L" if container.header.gray else "RGB"),
        exif=container.exif,
        dpi=container.dpi,
        alpha=alpha,
        _colour=Raster(colour),
    )


def _load(container: Container) -> Image.Image:
    """Let Pillow make the pixels. Closing the stream frees the compressed bytes, to which some plugins cling."""
    try:
        with io.BytesIO(b"".join(container.stream)) as stream:
            image = _PLUGINS[container.header.format](stream)
            if image.size != container.stored_size:
                raise CorruptImageError("The picture has another size than its header says")
            image.load()
            # The WebP plugin holds two canvases of its own for as long as its image lives.
            return image.copy() if container.header.format == "webp" else image
    except EnlargerError:
        raise
    except MemoryError as error:  # the picture itself is within limits, so this is a codec led astray
        raise TooComplexError("The image asks for more memory than there is") from error
    except Exception as error:
        # The one broad except on this path. Hostile files make codecs raise nearly anything (OSError, SyntaxError,
        # ValueError, struct.error, EOFError, IndexError, KeyError, OverflowError, zlib.error), and each means this.
        raise CorruptImageError("The image is damaged, or of a variety that is not supported") from error
