"""Crops side by side: LR as it is, bicubic, the networks and the original, the same box of each, with its PSNR."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.data.pairs import Pixels
from training.report.metrics import luma, psnr

COLUMNS = 6  # panels a row at most
GAP, MARGIN = 8, 10  # pixels of the figure
FONT_SIZE, LEAST_FONT_SIZE = 15, 8
INK, FAINT, PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)
WEBP_QUALITY = 88


@dataclass(frozen=True)
class Panel:
    """One version of the picture, uint8 ``[H, W, 3]`` at the HR size, and what is written below it."""

    label: str
    pixels: Pixels


@dataclass(frozen=True)
class Box:
    """A part of the HR picture, in HR pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        """``[H, W, ...]`` to ``[height, width, ...]``; ``ValueError`` if the box does not lie within."""
        h, w = pixels.shape[:2]
        inside = self.left >= 0 <= self.top and self.left + self.width <= w and self.top + self.height <= h
        if not inside or min(self.width, self.height) < 1:
            raise ValueError(f"{self} does not lie in a picture of {w} x {h} pixels")
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


def versions(lr: Pixels, hr: Pixels, networks: Iterable[Panel]) -> list[Panel]:
    """The panels in their order: LR by nearest neighbour, bicubic, the networks, the original."""
    scale = hr.shape[0] // lr.shape[0]
    nearest = lr.repeat(scale, axis=0).repeat(scale, axis=1)
    size = (hr.shape[1], hr.shape[0])
    enlarged = np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))
    return [Panel("LR (nearest)", nearest), Panel("bicubic", enlarged), *networks, Panel("original", hr)]


def most_different(pictures: Sequence[Pixels], width: int, height: int) -> Box:
    """The box in which pictures of one shape, uint8 ``[H, W, 3]``, vary most from one to another on luma."""
    spread = np.var([luma(picture) for picture in pictures], axis=0)
    rows, columns = spread.shape
    width, height = min(width, columns), min(height, rows)
    sums = np.pad(spread, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return Box(int(left), int(top), width, height)


def side_by_side(panels: Sequence[Panel], box: Box, zoom: int) -> Image.Image:
    """The box of every panel, ``zoom`` times as large by nearest neighbour, labelled; the last panel is the original.

    The luma PSNR below each is that of the box against the original's.
    """
    rows = math.ceil(len(panels) / COLUMNS)
    columns = math.ceil(len(panels) / rows)
    width, height = box.width * zoom, box.height * zoom
    text = 2 * FONT_SIZE + 10
    size = (2 * MARGIN + columns * (width + GAP) - GAP, 2 * MARGIN + rows * (height + text + GAP) - GAP)
    figure = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(figure)
    original = luma(box.cut(panels[-1].pixels))
    for index, panel in enumerate(panels):
        x = MARGIN + index % columns * (width + GAP)
        y = MARGIN + index // columns * (height + text + GAP)
        pixels = box.cut(panel.pixels)
        figure.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST), (x, y))
        quality = psnr(luma(pixels), original)
        below = f"{quality:.2f} dB" if math.isfinite(quality) else ""
        middle = x + width / 2
        for line, (words, ink) in enumerate(((panel.label, INK), (below, FAINT))):
            place = (middle, y + height + 4 + line * (FONT_SIZE + 3))
            draw.text(place, words, ink, fitting_font(words, width), anchor="ma")
    return figure


def fitting_font(words: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest font in which the words are no wider than their panel; ``ValueError`` if none is legible."""
    for size in range(FONT_SIZE, LEAST_FONT_SIZE - 1, -1):
        font = ImageFont.load_default(size)
        if font.getlength(words) <= width:
            return font
    raise ValueError(f"{words!r} does not fit below a panel of {width} pixels")


def save_picture(figure: Image.Image, path: Path) -> None:
    """PNG, lossless, or WebP, small, as the name ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".webp":
        figure.save(path, quality=WEBP_QUALITY, method=6)
    else:
        figure.save(path, optimize=True)
