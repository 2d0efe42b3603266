"""Arrays to the bytes of a file, and back."""

import io

import numpy as np
import skimage.data
from PIL import Image


def encode(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def crop(height: int, width: int, format: str = "PNG", **options: object) -> bytes:
    """A photograph of that size, as a file."""
    photo = Image.fromarray(skimage.data.chelsea()).resize((width, height), Image.Resampling.BICUBIC)
    return encode(np.asarray(photo), format, **options)
