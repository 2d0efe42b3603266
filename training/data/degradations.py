"""HR to LR: how the pairs that networks learn from are made."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter

from app.images.resampler import bicubic as kernel

Image = NDArray[np.uint8]
"""uint8 ``[H, W, C]``, sRGB."""


@lru_cache(maxsize=64)
def reduction_matrix(length: int, scale: int) -> NDArray[np.float32]:
    """MATLAB's antialiased bicubic reduction of one axis as a matrix: ``[length // scale, length]``.

    The kernel is stretched by ``scale``, its weights sum to 1, and indices beyond the edges mirror (edge repeated).
    """
    out = length // scale
    centres = (np.arange(out) + 0.5) * scale - 0.5
    reach = 2 * scale
    taps = np.floor(centres[:, None]).astype(int) + np.arange(-reach, reach + 2)
    weights = kernel((centres[:, None] - taps) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    period = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    matrix = np.zeros((out, length))
    np.add.at(matrix, (np.arange(out)[:, None], period[taps % (2 * length)]), weights)
    return matrix.astype(np.float32)


def bicubic(image: Image, scale: int) -> Image:
    """MATLAB's ``imresize(image, 1 / scale, 'bicubic')``; sides must be multiples of ``scale``."""
    rows = reduction_matrix(image.shape[0], scale)
    columns = reduction_matrix(image.shape[1], scale)
    reduced = np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float32), columns, optimize=True)
    return np.clip(np.floor(reduced + 0.5), 0, 255).astype(np.uint8)


def area(image: Image, scale: int) -> Image:
    """The mean of each ``scale`` x ``scale`` square (the ESPCN source's reduction)."""
    h, w, c = image.shape
    means = image.reshape(h // scale, scale, w // scale, scale, c).mean(axis=(1, 3))
    return np.floor(means + 0.5).astype(np.uint8)


DEGRADATIONS: dict[str, Callable[[Image, int], Image]] = {"bicubic": bicubic, "area": area}


# -- what phones and the web do to pictures ----------------------------------------------------------------------

KERNELS = (
    *(Pillow.Resampling.BOX, Pillow.Resampling.BILINEAR, Pillow.Resampling.HAMMING),
    *(Pillow.Resampling.BICUBIC, Pillow.Resampling.LANCZOS),
)
SUBSAMPLINGS = (("4:2:0", 0.7), ("4:2:2", 0.1), ("4:4:4", 0.2))  # each with the share of JPEGs that have it


@dataclass(frozen=True)
class Range:
    """How far a random degradation may go. ``first_*``: at the size that the first site kept, where there was one.

    ``blur``: standard deviation in LR pixels, before the reduction. ``noise``: standard deviation in levels of 255, at
    the LR size. ``quality``: of the last JPEG or WebP: least, most frequent, highest. The rest are shares of pictures;
    ``enlarged``: of those that were smaller than LR before, ``few_colours``: of those with a palette, as GIFs have.
    """

    blur: float
    noise: float
    quality: tuple[int, int, int]
    blurred: float
    noisy: float
    resized_twice: float
    sharpened: float
    uncompressed: float
    enlarged: float = 0.0
    few_colours: float = 0.0


MILD = Range(0.35, 5.0, (30, 75, 98), blurred=0.25, noisy=0.25, resized_twice=0.3, sharpened=0.2, uncompressed=0.15)
STRONG = Range(1.0, 14.0, (25, 45, 80), blurred=0.7, noisy=0.7, resized_twice=0.5, sharpened=0.1, uncompressed=0.05)
FOUND = ((MILD, 0.8), (STRONG, 0.2))
"""The mixture that networks for pictures as people have them learn from."""
DRAWN = Range(0.35, 4.0, (30, 75, 98), 0.2, 0.08, 0.3, 0.15, uncompressed=0.35, enlarged=0.08, few_colours=0.15)
DRAWINGS = ((DRAWN, 0.88), (STRONG, 0.12))
"""The same for drawings and screenshots, of which many are kept without loss."""
ENLARGEMENTS = (Pillow.Resampling.NEAREST, Pillow.Resampling.BILINEAR, Pillow.Resampling.BICUBIC)


def spoiled(image: Image, size: tuple[int, int], how: Range, rng: np.random.Generator) -> Image:
    """HR to LR of ``size`` (width, height) as the web or a phone might have done it, otherwise on every call.

    Real-ESRGAN's model (Wang et al. 2021, arXiv:2107.10833) in other ranges: blur; in some pictures a first resize
    and JPEG; the resize to LR; in some a sharpening, which leaves halos; noise; the last JPEG or WebP. Every resize
    maps the whole picture to the whole picture, so LR and HR stay aligned.
    """
    (width, height), factor = size, image.shape[1] / size[0]
    picture = Pillow.fromarray(image)
    if rng.random() < how.blurred:
        x, y = rng.uniform(0, how.blur * factor, 2)
        picture = picture.filter(ImageFilter.GaussianBlur((x, y)))
    if rng.random() < how.resized_twice:
        between = rng.uniform(1.0, max(1.0, 0.8 * factor))  # in LR sizes
        picture = resized(picture, round(width * between), round(height * between), rng)
        picture = through_jpeg(picture, int(rng.integers(55, 96)), rng)
    if how.enlarged and rng.random() < how.enlarged:
        small = rng.uniform(0.5, 0.8)  # LR sizes
        picture = resized(picture, round(width * small), round(height * small), rng)
        picture = picture.resize((width, height), ENLARGEMENTS[rng.integers(len(ENLARGEMENTS))])
    else:
        picture = resized(picture, width, height, rng)
    if rng.random() < how.sharpened:
        radius, percent = rng.uniform(0.5, 1.5), rng.uniform(30, 120)
        picture = picture.filter(ImageFilter.UnsharpMask(radius, int(percent), threshold=0))
    if rng.random() < how.noisy:
        picture = noisy(picture, how.noise, rng)
    if how.few_colours and rng.random() < how.few_colours:
        picture = with_palette(picture, rng)
    if rng.random() >= how.uncompressed:
        quality = round(rng.triangular(*how.quality))
        picture = through_jpeg(picture, quality, rng) if rng.random() < 0.8 else through_webp(picture, quality)
    return np.asarray(picture)


def resized(picture: Pillow.Image, width: int, height: int, rng: np.random.Generator) -> Pillow.Image:
    return picture.resize((width, height), KERNELS[rng.integers(len(KERNELS))])


def noisy(picture: Pillow.Image, largest: float, rng: np.random.Generator) -> Pillow.Image:
    """Gaussian noise, of each colour or of all alike, or a sensor's, which grows with light.

    The latter is Poisson noise in the normal approximation: its variance is proportional to the level.
    """
    pixels = np.asarray(picture, np.float32)
    channels = 1 if rng.random() < 0.4 else 3
    noise = rng.standard_normal((*pixels.shape[:2], channels), np.float32) * np.float32(rng.uniform(0, largest))
    if rng.random() < 0.5:
        noise = noise * np.sqrt(pixels / 128)
    return Pillow.fromarray(np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8))


def with_palette(picture: Pillow.Image, rng: np.random.Generator) -> Pillow.Image:
    """Of 8 to 256 colours of its own, dithered or not."""
    dither = (Pillow.Dither.NONE, Pillow.Dither.FLOYDSTEINBERG)[rng.integers(2)]
    palette = picture.quantize(int(2 ** rng.uniform(3, 8)))
    return picture.quantize(palette=palette, dither=dither).convert("RGB")


def through_jpeg(picture: Pillow.Image, quality: int, rng: np.random.Generator) -> Pillow.Image:
    names, shares = zip(*SUBSAMPLINGS, strict=True)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=str(rng.choice(names, p=shares)))
    return Pillow.open(buffer).convert("RGB")


def through_webp(picture: Pillow.Image, quality: int) -> Pillow.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=2)
    return Pillow.open(buffer).convert("RGB")


Mixture = tuple[tuple[Range, float], ...]
"""Ranges, each with its share of the pictures."""


def spoiled_at_random(image: Image, size: tuple[int, int], rng: np.random.Generator, mixture: Mixture = FOUND) -> Image:
    """Of ``size`` (width, height), spoiled as one of a mixture."""
    ranges, shares = zip(*mixture, strict=True)
    return spoiled(image, size, ranges[rng.choice(len(ranges), p=shares)], rng)


def reduced_size(image: Image, scale: int) -> tuple[int, int]:
    """Width and height of LR; sides of HR must be multiples of ``scale``."""
    return image.shape[1] // scale, image.shape[0] // scale


def web(image: Image, scale: int, rng: np.random.Generator) -> Image:
    """Mildly spoiled, as most images of the web are."""
    return spoiled(image, reduced_size(image, scale), MILD, rng)


def poor(image: Image, scale: int, rng: np.random.Generator) -> Image:
    """Strongly spoiled: out of focus, noisy, compressed hard."""
    return spoiled(image, reduced_size(image, scale), STRONG, rng)


def found(image: Image, scale: int, rng: np.random.Generator) -> Image:
    """As images are found: mostly mildly spoiled, some strongly."""
    return spoiled_at_random(image, reduced_size(image, scale), rng)


def drawn(image: Image, scale: int, rng: np.random.Generator) -> Image:
    """As drawings and screenshots are found."""
    return spoiled_at_random(image, reduced_size(image, scale), rng, DRAWINGS)


RANDOM_DEGRADATIONS: dict[str, Callable[[Image, int, np.random.Generator], Image]] = {
    "web": web,
    "poor": poor,
    "found": found,
    "drawn": drawn,
}
"""Those which draw random numbers: made anew for every crop, and once for every picture to validate on."""
