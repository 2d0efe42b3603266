"""Rows of finished pixels to the bytes of a file: the output formats, and how to make an encoder for one."""

from collections.abc import Mapping

from app.errors import InvalidParameterError, OutputFormatError, OutputTooLargeError, UnfitFormatError
from app.images.encoders import avif, jpeg, png, tiff, webp
from app.images.encoders.base import (
    DEFAULT_QUALITY,
    Encoder,
    Options,
    OutputFormat,
    Picture,
    Rows,
    Subsampling,
    check_quality,
)

__all__ = [
    "BY_SUFFIX",
    "DEFAULT_QUALITY",
    "FORMATS",
    "Encoder",
    "Options",
    "OutputFormat",
    "Picture",
    "Rows",
    "Subsampling",
    "create_encoder",
]

FORMATS: Mapping[str, OutputFormat] = {
    each.name: each for each in (png.FORMAT, jpeg.FORMAT, webp.FORMAT, avif.FORMAT, tiff.FORMAT)
}
"""Every output format by its name."""

BY_SUFFIX: Mapping[str, str] = {suffix: each.name for each in FORMATS.values() for suffix in each.suffixes}
"""The output format that a file name asks for, by its suffix in lower case."""

DEFAULTS = Options()


def create_encoder(format: str, picture: Picture, options: Options = DEFAULTS) -> Encoder:
    """The encoder for one image. Cheap; checks, before anything is computed, that the result fits the format.

    Raises OutputFormatError, InvalidParameterError, UnfitFormatError or OutputTooLargeError.
    """
    if format not in FORMATS:
        raise OutputFormatError(f"format must be one of: {', '.join(FORMATS)}")
    check_quality(options.quality_or_default)
    check_channels(format, picture)
    check_fit(format, picture, options)
    check_size(picture, FORMATS[format])
    return FORMATS[format].create(picture, options)


def check_fit(format: str, picture: Picture, options: Options) -> None:
    """Raises UnfitFormatError if the format cannot hold the image's samples or cannot be lossless."""
    kind, name = FORMATS[format], format.upper()
    if picture.depth > kind.bits:
        detail = f"{name} holds 8 bits per sample and the image has 16; ask for PNG or TIFF, or for depth=8."
        raise UnfitFormatError(detail, limit=kind.bits, actual=picture.depth)
    if options.lossless and not kind.lossless:
        able = ", ".join(other.upper() for other, found in FORMATS.items() if found.lossless)
        raise UnfitFormatError(f"{name} cannot be lossless here; choose one of: {able}.")


def check_channels(format: str, picture: Picture) -> None:
    """Raises InvalidParameterError for alpha in a format without it: the caller flattens the image first."""
    if picture.channels in (2, 4) and not FORMATS[format].alpha:
        raise InvalidParameterError(f"{format.upper()} has no alpha channel", limit=3, actual=picture.channels)


def check_size(picture: Picture, kind: OutputFormat) -> None:
    """Raises OutputTooLargeError if the result exceeds the format, or the memory its library would need."""
    longest, pixels = max(picture.width, picture.height), picture.width * picture.height
    if kind.max_side and longest > kind.max_side:
        detail = f"A side of a {kind.name.upper()} image has at most {kind.max_side} pixels"
        raise OutputTooLargeError(detail, limit=kind.max_side, actual=longest)
    if kind.max_pixels and pixels > kind.max_pixels:
        detail = f"A {kind.name.upper()} result has at most {kind.max_pixels} pixels"
        raise OutputTooLargeError(detail, limit=kind.max_pixels, actual=pixels)
