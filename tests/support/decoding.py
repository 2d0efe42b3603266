"""What tests of the decoder share: patterns, and a look at what was decoded."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from app.images.decoder import DecodeLimits, SourceImage, decode, inspect
from harness.files import (
    saved,
    smooth,
)

Pixels = NDArray[np.uint8]


LIMITS = DecodeLimits()


FORMATS = ("png", "jpeg", "webp", "avif", "bmp", "tiff", "gif")


def pattern(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels


def sample(fmt: str) -> bytes:
    image = smooth((9, 7))
    if fmt == "gif":
        image = image.quantize(16)
    return saved(image, fmt, **({"lossless": True} if fmt == "webp" else {}))


def colour(source: SourceImage) -> Pixels:
    """All rows, taken in bands of an odd height."""
    return np.concatenate([source.rows(top, min(top + 3, source.height)) for top in range(0, source.height, 3)])


def alpha(source: SourceImage) -> Pixels:
    assert source.alpha is not None
    assert source.alpha.dtype == (np.uint8 if source.depth == 8 else np.uint16)
    assert (source.alpha.width, source.alpha.height) == (source.width, source.height)
    return source.alpha_rows(0, source.height)[:, :, 0]


def decoded(data: bytes, limits: DecodeLimits = LIMITS) -> SourceImage:
    """Decode, and hold ``inspect`` to the same facts."""
    header = inspect(data, limits)
    source = decode(data, limits)
    facts = (source.format, source.width, source.height, source.gray, source.has_alpha)
    assert (header.format, header.width, header.height, header.gray, header.has_alpha) == facts
    assert colour(source).shape == (source.height, source.width, 3)
    return source


def gray3(levels: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.repeat(np.asarray(levels)[:, :, None], 3, axis=2)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""What makes a stored picture upright: 6, the telephone held upright, is a quarter turn clockwise."""
