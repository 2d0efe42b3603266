"""Pictures whose choice is plain, as files."""

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from harness.files import saved

WORDS = "All human beings are born free and equal in dignity and rights."


def photograph(side: int = 256) -> Image.Image:
    """Sharp and clean: reduced by half."""
    return Image.fromarray(skimage.data.astronaut()).resize((side, side), Image.Resampling.BICUBIC)


def drawing(width: int = 240, height: int = 200) -> Image.Image:
    """Flat figures with outlines."""
    image = Image.new("RGB", (2 * width, 2 * height), "white")
    draw = ImageDraw.Draw(image)
    for number, colour in enumerate(("#d33", "#36c", "#fc0", "#2a7", "#111")):
        left, top = 30 + 80 * number % (2 * width - 120), 20 + 130 * number % (2 * height - 130)
        shape = (draw.ellipse, draw.rectangle)[number % 2]
        shape((left, top, left + 110, top + 120), fill=colour, outline="black", width=6)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def page(width: int = 320, height: int = 240) -> Image.Image:
    """Text and fields, as screenshots have them."""
    image = Image.new("RGB", (width, height), "#f6f6f6")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(11)
    for line in range(height // 16):
        draw.text((8, 16 * line + 2), WORDS[line % 7 :], fill="#222", font=font)
    draw.rectangle((width // 2, height // 3, width - 12, height // 3 + 40), fill="#0645ad")
    return image


def spoiled(quality: int = 60) -> bytes:
    return saved(photograph(), "JPEG", quality=quality)


def noisy() -> bytes:
    pixels = np.asarray(photograph(), np.float32)
    grain = np.random.default_rng(1).normal(0, 10, pixels.shape)
    return saved(Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)), "PNG")


def blurred() -> bytes:
    return saved(photograph().filter(ImageFilter.GaussianBlur(1.5)), "PNG")


def png(image: Image.Image, **options: object) -> bytes:
    return saved(image, "PNG", **options)
