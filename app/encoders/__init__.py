"""Rows of finished pixels to the bytes of a file: the list of formats, and how to make an encoder for one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.encoders.base import DEFAULT_QUALITY, Encoder, Picture, Rows, check_quality
from app.encoders.jpeg import JpegEncoder
from app.encoders.png import PngEncoder
from app.encoders.webp import WebpEncoder
from app.errors import OutputFormatError

__all__ = ["DEFAULT_QUALITY", "FORMATS", "Encoder", "Format", "Picture", "Rows", "create_encoder"]


@dataclass(frozen=True)
class Format:
    """An output format. ``extension`` has its dot; without ``alpha`` the caller flattens the picture first."""

    media_type: str
    extension: str
    alpha: bool
    create: Callable[[Picture, int], Encoder]


FORMATS: Mapping[str, Format] = {
    "png": Format(PngEncoder.media_type, ".png", True, lambda picture, quality: PngEncoder(picture)),
    "jpeg": Format(JpegEncoder.media_type, ".jpg", False, JpegEncoder),
    "webp": Format(WebpEncoder.media_type, ".webp", True, WebpEncoder),
}


def create_encoder(format: str, picture: Picture, quality: int | None = None) -> Encoder:
    """The encoder for one picture; cheap, and the check, before any compute, that the result fits the format.

    ``quality`` is 1..100, for the lossy formats; PNG takes no notice of it.
    Raises OutputFormatError, InvalidParameterError or OutputTooLargeError.
    """
    if format not in FORMATS:
        raise OutputFormatError(f"format must be one of: {', '.join(FORMATS)}")
    if quality is None:
        quality = DEFAULT_QUALITY
    check_quality(quality)
    return FORMATS[format].create(picture, quality)
