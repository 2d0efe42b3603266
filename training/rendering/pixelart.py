"""Pixel art that was enlarged by whole pixels, text in it included: HR has sharp squares where LR has soft ones."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.pairs import Pixels
from training.rendering.text import Script

SQUARES = (6, 7, 8, 9, 10, 12, 14, 16, 20, 24)  # HR pixels


def pixel_art(side: int, script: Script, rng: np.random.Generator) -> Pixels:
    """uint8 ``[side, side, 3]``: sprites that mirror themselves, tiles, and lines of text, of few colours."""
    square = int(rng.choice(SQUARES))
    cells = -(-side // square) + 1
    palette = rng.integers(0, 256, (int(rng.integers(2, 9)), 3)).astype(np.uint8)
    cut = rng.integers(0, square, 2)
    numbers = tiled(cells, len(palette), rng)
    for _ in range(int(rng.integers(1, 8))):
        place(numbers, sprite(len(palette), rng), rng)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(1, 5))):
            place(numbers, line_of_text(script.phrase(rng, 1, 3), len(palette), rng), rng)
    pixels = palette[numbers].repeat(square, 0).repeat(square, 1)
    return pixels[cut[0] : cut[0] + side, cut[1] : cut[1] + side]


def tiled(cells: int, colours: int, rng: np.random.Generator) -> np.ndarray:
    """A ground of one colour, or of a small tile repeated."""
    tile = (
        rng.integers(0, colours, (1, 1))
        if rng.random() < 0.75
        else rng.integers(0, min(colours, 3), rng.integers(2, 9, 2))
    )
    return np.tile(tile, [-(-cells // length) for length in tile.shape])[:cells, :cells].copy()


def sprite(colours: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of colours, -1 where the ground is seen: a random half and its mirror image, within an outline."""
    height, half = rng.integers(6, 17), rng.integers(3, 9)
    filled = rng.random((height, half)) < np.linspace(0.25, 0.85, half)
    whole = np.where(filled, rng.choice(rng.integers(0, colours, 3), (height, half)), -1)
    whole = np.concatenate([whole, whole[:, ::-1]], 1)
    solid = np.pad(whole >= 0, 1)
    near = solid[:-2, 1:-1] | solid[2:, 1:-1] | solid[1:-1, :-2] | solid[1:-1, 2:]
    return np.where((whole < 0) & near, int(rng.integers(colours)), whole)


def line_of_text(words: str, colours: int, rng: np.random.Generator) -> np.ndarray:
    """Letters of a bitmap font, not smoothed."""
    words = words.encode("latin-1", "ignore").decode("latin-1")
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = (round(value) for value in font.getbbox(words))
    image = Image.new("1", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), words, fill=1, font=font)
    return np.where(np.asarray(image), int(rng.integers(colours)), -1)


def place(numbers: np.ndarray, figure: np.ndarray, rng: np.random.Generator) -> None:
    """Lays a figure over the picture, wherever; what hangs over is cut."""
    top, left = (
        int(rng.integers(-length // 2, side)) for length, side in zip(figure.shape, numbers.shape, strict=True)
    )
    seen = figure[max(0, -top) :, max(0, -left) :]
    under = numbers[max(0, top) :, max(0, left) :][: seen.shape[0], : seen.shape[1]]
    seen = seen[: under.shape[0], : under.shape[1]]
    under[seen >= 0] = seen[seen >= 0]
