"""Rows of finished pixels to the bytes of a file: the list of formats, and how to make an encoder for one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.errors import OutputFormatError, UnfitFormatError
from app.images.encoders import avif, jpeg, png, tiff, webp
from app.images.encoders.base import DEFAULT_QUALITY, Encoder, Options, Picture, Rows, Subsampling, check_quality

__all__ = [
    "DEFAULT_QUALITY",
    "FORMATS",
    "Encoder",
    "Format",
    "Options",
    "Picture",
    "Rows",
    "Subsampling",
    "create_encoder",
]


@dataclass(frozen=True, kw_only=True)
class Format:
    """An output format and what it can hold.

    ``extension`` has its dot. ``bits``: the most a sample may have. Without ``alpha`` the caller flattens the picture
    first. ``streamed``: sent as it is computed, else encoded whole at the end. ``quality``, ``subsampling`` and
    ``lossless``: whether these options mean something to it. ``max_side`` and ``max_pixels`` are the result's,
    ``max_bytes`` the file's. ``held``: bytes a pixel of the result, at most, where it is encoded whole.
    """

    media_type: str
    extension: str
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


DEFAULTS = Options()


def quality_of(options: Options) -> int:
    return DEFAULT_QUALITY if options.quality is None else options.quality


FORMATS: Mapping[str, Format] = {
    "png": Format(
        media_type="image/png",
        extension=".png",
        create=lambda picture, options: png.PngEncoder(picture),
        bits=16,
        lossless=True,
        max_side=png.MAX_SIDE,
    ),
    "jpeg": Format(
        media_type="image/jpeg",
        extension=".jpg",
        create=lambda picture, options: jpeg.JpegEncoder(picture, quality_of(options), options.subsampling),
        alpha=False,
        quality=True,
        subsampling=True,
        max_side=jpeg.MAX_SIDE,
    ),
    "webp": Format(
        media_type="image/webp",
        extension=".webp",
        held=webp.HELD,
        create=lambda picture, options: webp.WebpEncoder(picture, quality_of(options), options.lossless),
        streamed=False,
        quality=True,
        lossless=True,
        max_side=webp.MAX_SIDE,
        max_pixels=webp.MAX_PIXELS,
    ),
    "avif": Format(
        media_type="image/avif",
        extension=".avif",
        held=avif.HELD,
        create=lambda picture, options: avif.AvifEncoder(picture, quality_of(options), options.subsampling),
        streamed=False,
        quality=True,
        subsampling=True,
        max_side=avif.MAX_SIDE,
        max_pixels=avif.MAX_PIXELS,
    ),
    "tiff": Format(
        media_type="image/tiff",
        extension=".tif",
        create=lambda picture, options: tiff.TiffEncoder(picture),
        bits=16,
        lossless=True,
        max_bytes=tiff.MAX_BYTES,
    ),
}


def create_encoder(format: str, picture: Picture, options: Options = DEFAULTS) -> Encoder:
    """The encoder for one picture; cheap, and the check, before any compute, that the result fits the format.

    Raises OutputFormatError, InvalidParameterError, UnfitFormatError or OutputTooLargeError.
    """
    if format not in FORMATS:
        raise OutputFormatError(f"format must be one of: {', '.join(FORMATS)}")
    check_quality(quality_of(options))
    check_fit(format, picture, options)
    return FORMATS[format].create(picture, options)


def check_fit(format: str, picture: Picture, options: Options) -> None:
    """Raises UnfitFormatError where the format has no place for the picture's samples or is never lossless."""
    kind, name = FORMATS[format], format.upper()
    if picture.depth > kind.bits:
        detail = f"{name} holds 8 bits a sample and the picture has 16; ask for PNG or TIFF, or for depth=8."
        raise UnfitFormatError(detail, limit=kind.bits, actual=picture.depth)
    if options.lossless and not kind.lossless:
        able = ", ".join(other.upper() for other, found in FORMATS.items() if found.lossless)
        raise UnfitFormatError(f"{name} is not lossless here; ask for one of: {able}.")
