"""Seeded pictures whose right choice is known, as files: photographs clean and spoiled, drawings, pages, codes.

Half of each kind fits the tree of ``app/upscale/auto``; the other half, of other photographs, drawings, pages and
codes, judges it.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from training.data.degradations import (
    ENLARGEMENTS,
    MILD,
    STRONG,
    Range,
    noisy,
    resized,
    spoiled,
    through_jpeg,
    through_webp,
)
from training.data.pairs import list_pictures
from training.data.qrcodes import is_validation, pool_code, render_pair, whole_size, whole_view
from training.rendering.browser import screenshot
from training.rendering.command import is_held_out, shuffled
from training.rendering.drawings import drawing, find_drawings, line_art
from training.rendering.pages import HEIGHT, PAGES, WIDTH, Page
from training.rendering.pixelart import pixel_art
from training.rendering.text import scripts

SEED = 1804
CLEAN, SPOILED, DRAWN = "clean", "spoiled", "drawn"
COUNTS = {"clean": 150, "spoiled": 200, "clipart": 80, "comics": 30, "screenshots": 40, "pages": 60, "pixel art": 20}
COUNTS["codes"] = 20  # 600 in all
MORE = 3  # times as many fit the tree
PHOTOS = {"fit": ("photos",), "test": ("kodak", "bsds500/test", "B100")}
Rng = np.random.Generator
COMPRESSED = (30, 85)  # qualities that count as spoiled; what lies between them and a clean one's belongs to neither
NEARLY_LOSSLESS = (92, 98)


@dataclass(frozen=True)
class Sample:
    """``right``: ``CLEAN``, ``SPOILED`` or ``DRAWN``; ``kind``: a key of ``COUNTS``; ``how``: what was done to it."""

    kind: str
    right: str
    how: str
    data: bytes


def samples(data: Path, half: str, svg: Path, seed: int = SEED) -> Iterator[Sample]:
    """600 of them to "test", ``MORE`` times as many to "fit"; ``half`` says which."""
    photos = [path for folder in PHOTOS[half] for path in list_pictures(data / folder) if "LR" not in path.name]
    for kind, make in kinds(half, photos, svg, seed).items():
        for number in range(COUNTS[kind] * (1 if half == "test" else MORE)):
            rng = np.random.default_rng((seed, half == "test", list(COUNTS).index(kind), number))
            right = kind if kind in (CLEAN, SPOILED) else DRAWN
            yield Sample(kind, right, *make(number, rng))


Maker = Callable[[int, Rng], tuple[str, bytes]]


def kinds(half: str, photos: Sequence[Path], svg: Path, seed: int) -> dict[str, Maker]:
    test = half == "test"
    order = np.random.default_rng((seed, test)).permutation(len(photos))
    mixed = [photos[index] for index in order]
    found = [path for path in shuffled(find_drawings(svg)) if is_held_out(path) == test]
    return {
        "clean": partial(clean_photo, mixed),
        "spoiled": partial(spoiled_photo, mixed[::-1], list(SPOILERS) if test else [*SPOILERS, *HARD]),
        "clipart": partial(clipart, found),
        "comics": comic,
        "screenshots": partial(page, ("interface",), test, seed),
        "pages": partial(page, ("document", "poster"), test, seed),
        "pixel art": pixels,
        "codes": partial(qr_code, test),
    }


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# -- photographs -----------------------------------------------------------------------------------------------------


def photo(photos: Sequence[Path], number: int, rng: Rng) -> Image.Image:
    """One as sharp as photographs are: a JPEG's artefacts and soft focus are gone once it is reduced."""
    path = photos[number % len(photos)]
    with Image.open(path) as image:
        picture = image.convert("RGB")
    least = {".jpg": 1.5, ".webp": 1.25}.get(path.suffix, 1.0)
    factor = rng.uniform(least, least + 0.5)
    size = round(picture.width / factor), round(picture.height / factor)
    return picture if factor < 1.1 else picture.resize(size, Image.Resampling.BICUBIC)


def clean_photo(photos: Sequence[Path], number: int, rng: Rng) -> tuple[str, bytes]:
    picture, kind = photo(photos, number, rng), rng.random()
    if kind < 0.45:
        return "PNG", encoded(picture, "PNG", compress_level=1)
    quality = int(rng.integers(*NEARLY_LOSSLESS, endpoint=True))
    if kind < 0.8:
        return "JPEG 92-98", encoded(picture, "JPEG", quality=quality, subsampling=("4:4:4", "4:2:0")[number % 2])
    if kind < 0.88:
        return "WebP lossless", encoded(picture, "WEBP", lossless=True, method=0)
    if kind < 0.93:
        return "WebP 94-99", encoded(picture, "WEBP", quality=int(rng.integers(94, 100)), method=2)
    if kind < 0.97:
        return "AVIF 88-95", encoded(picture, "AVIF", quality=int(rng.integers(88, 96)), speed=9)
    return "TIFF", encoded(picture, "TIFF")


def spoiled_photo(photos: Sequence[Path], ways: Sequence[str], number: int, rng: Rng) -> tuple[str, bytes]:
    picture = photo(photos, number, rng)
    name = ways[number % len(ways)]
    return name, SPOILERS[name](picture, rng)


def as_jpeg(picture: Image.Image, rng: Rng, qualities: tuple[int, int] = COMPRESSED) -> bytes:
    quality, progressive = int(rng.integers(*qualities, endpoint=True)), bool(rng.random() < 0.3)
    subsampling = str(rng.choice(("4:2:0", "4:2:2", "4:4:4"), p=(0.7, 0.1, 0.2)))
    return encoded(picture, "JPEG", quality=quality, progressive=progressive, subsampling=subsampling)


def as_webp(picture: Image.Image, rng: Rng) -> bytes:
    return encoded(picture, "WEBP", quality=int(rng.integers(*COMPRESSED, endpoint=True)), method=2)


def as_avif(picture: Image.Image, rng: Rng) -> bytes:
    return encoded(picture, "AVIF", quality=int(rng.integers(25, 65)), speed=9)


def saved(picture: Image.Image, rng: Rng) -> bytes:
    """Without further loss, or hardly: whatever is wrong with it can be seen in its pixels alone."""
    return encoded(picture, "PNG", compress_level=1) if rng.random() < 0.5 else as_jpeg(picture, rng, NEARLY_LOSSLESS)


def saved_again(picture: Image.Image, rng: Rng) -> bytes:
    """A web JPEG or WebP, then a lossless file of it, as screenshots are."""
    quality = int(rng.integers(30, 70))
    picture = through_jpeg(picture, quality, rng) if rng.random() < 0.7 else through_webp(picture, quality)
    return saved(picture, rng)


def with_noise(picture: Image.Image, rng: Rng) -> bytes:
    sigma = rng.uniform(6, 14)
    pixels = np.asarray(picture, np.float32)
    grain = rng.standard_normal((*pixels.shape[:2], int(rng.choice((1, 3)))), np.float32) * np.float32(sigma)
    return saved(Image.fromarray(np.clip(pixels + grain + 0.5, 0, 255).astype(np.uint8)), rng)


def blurred(picture: Image.Image, rng: Rng) -> bytes:
    return saved(picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.9, 2.2)))), rng)


def enlarged(picture: Image.Image, rng: Rng) -> bytes:
    """Smaller once, and enlarged since by interpolation."""
    factor = rng.uniform(1.8, 3.0)
    small = resized(picture, round(picture.width / factor), round(picture.height / factor), rng)
    return saved(small.resize(picture.size, ENLARGEMENTS[1 + int(rng.integers(2))]), rng)


def as_found(how: Range, picture: Image.Image, rng: Rng) -> bytes:
    """Reduced by a third, noisy, compressed at the end by JPEG as the ranges that `photo` learns from have it."""
    size = round(picture.width / 1.3), round(picture.height / 1.3)
    picture = Image.fromarray(spoiled(np.asarray(picture), size, how, rng))
    return as_jpeg(noisy(picture, 3.0, rng), rng)


SPOILERS: dict[str, Callable[[Image.Image, Rng], bytes]] = {
    "JPEG 30-85": as_jpeg,
    "WebP 30-85": as_webp,
    "AVIF": as_avif,
    "saved again": saved_again,
    "noise": with_noise,
    "blur": blurred,
    "enlarged": enlarged,
    "mild, JPEG": partial(as_found, MILD),
    "strong, JPEG": partial(as_found, STRONG),
    "JPEG 30-85, too": as_jpeg,
}
HARD = ("saved again", "blur", "enlarged", "saved again")  # whose files tell nothing: more of them fit the tree


# -- drawings, pages, codes ------------------------------------------------------------------------------------------


def as_drawn(picture: Image.Image, rng: Rng) -> tuple[str, bytes]:
    """As drawings and screenshots are found: half without loss."""
    kind = rng.random()
    if kind < 0.5:
        return "PNG", encoded(picture, "PNG", compress_level=1)
    if kind < 0.75:
        return "JPEG", as_jpeg(picture, rng, (50, 95))
    if kind < 0.9:
        return "WebP", as_webp(picture, rng)
    return "GIF", encoded(picture, "GIF")


def clipart(found: Sequence[Path], number: int, rng: Rng) -> tuple[str, bytes]:
    """Whole drawings, up to 640 pixels long."""
    pixels = drawing(found[number % len(found)].read_bytes(), 160, rng)
    if pixels is None:
        return comic(number, rng)
    return as_drawn(limited(pixels, 640), rng)


def limited(pixels: np.ndarray, side: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def comic(number: int, rng: Rng) -> tuple[str, bytes]:
    """Inked figures with flat colours, gradients and screen tones."""
    pixels = drawing(line_art(rng), 400, rng)
    assert pixels is not None
    return as_drawn(limited(pixels, int(rng.integers(400, 800))), rng)


@lru_cache(maxsize=1)
def rendered(name: str, number: int, test: bool, seed: int) -> np.ndarray:
    """A page at one pixel, or two, for one of CSS."""
    rng = np.random.default_rng((seed, test, list(PAGES).index(name), number))
    return screenshot(PAGES[name](Page(rng, list(scripts().values()))), WIDTH, HEIGHT, 1 + number // len(PAGES) % 2)


def page(names: Sequence[str], test: bool, seed: int, number: int, rng: Rng) -> tuple[str, bytes]:
    """A screenful; to fit, several of one page."""
    number //= 1 if test else MORE
    pixels = rendered(names[number % len(names)], number, test, seed)
    top = int(rng.integers(0, pixels.shape[0] // 2))
    return as_drawn(Image.fromarray(np.ascontiguousarray(pixels[top : top + 720, :1024])), rng)


def pixels(number: int, rng: Rng) -> tuple[str, bytes]:
    """At its own size or enlarged by whole pixels."""
    art = pixel_art(384, scripts()["latin"], rng)
    return as_drawn(Image.fromarray(np.ascontiguousarray(art)), rng)


def qr_code(test: bool, number: int, rng: Rng) -> tuple[str, bytes]:
    """A whole code as it is downloaded or scanned: sharp or slightly blurred, some as JPEG."""
    wanted = [each for each in range(300) if is_validation(each) == test][number]
    code, size = pool_code(wanted, 6, 0.75), float(rng.uniform(2, 8))
    view = whole_view(rng, code, size, blur=float(rng.uniform(0, 0.6)), noise=float(rng.uniform(0, 2)))
    lr, _ = render_pair(code, view, whole_size(code, size), 1, rng)
    return as_drawn(Image.fromarray(lr), rng)
