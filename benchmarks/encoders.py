"""How fast the encoders are and how large their files, beside Pillow's own: ``python -m benchmarks.encoders [FOLDER]``.

The pictures are enlarged first (bicubic, four times by default), because smooth enlarged pictures are what the service
writes. Time is this process's CPU time, the better of two runs, so the figures are per core; each encoder is handed the
picture as NumPy bands, Pillow as one NumPy array. Without FOLDER: photographs that come with scikit-image.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from app.images.encoders import DEFAULT_QUALITY, Encoder, Picture, Rows
from app.images.encoders.jpeg import JpegEncoder
from app.images.encoders.png import PngEncoder

BAND_ROWS = 512  # as the service makes them: a row of 128-pixel tiles, enlarged four times
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
SAMPLES = (skimage.data.astronaut, skimage.data.chelsea, skimage.data.coffee, skimage.data.rocket)


@dataclass
class Total:
    """What one way of writing came to over all pictures: CPU seconds and bytes of files."""

    seconds: float = 0.0
    size: int = 0

    def add(self, write: Callable[[], int]) -> None:
        runs = []
        for _ in range(2):
            start = time.process_time()
            size = write()
            runs.append(time.process_time() - start)
        self.seconds += min(runs)
        self.size += size


def pictures(folder: Path | None) -> Iterator[Image.Image]:
    """RGB pictures: the files of a folder, or the samples."""
    if folder is None:
        yield from (Image.fromarray(sample()) for sample in SAMPLES)
        return
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            with Image.open(path) as image:
                yield image.convert("RGB")


def write_bands(encoder: Encoder, pixels: Rows) -> int:
    """Encode uint8 ``[height, width, 3]`` in bands; the size of the file in bytes."""
    size = len(encoder.begin())
    for top in range(0, len(pixels), BAND_ROWS):
        size += len(encoder.write(pixels[top : top + BAND_ROWS]))
    return size + len(encoder.finish())


def write_pillow(pixels: Rows, format: str) -> int:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, quality=DEFAULT_QUALITY)  # PNG takes no notice of the quality
    return file.tell()


def measure(image: Image.Image, totals: dict[str, Total]) -> None:
    pixels = np.asarray(image)
    picture = Picture(image.width, image.height, 3)
    totals["Pillow PNG"].add(lambda: write_pillow(pixels, "PNG"))
    totals["PNG"].add(lambda: write_bands(PngEncoder(picture), pixels))
    totals["Pillow JPEG"].add(lambda: write_pillow(pixels, "JPEG"))
    totals["JPEG"].add(lambda: write_bands(JpegEncoder(picture), pixels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--scale", type=int, default=4, help="enlarge the pictures this many times first")
    arguments = parser.parse_args()

    totals = {name: Total() for name in ("Pillow PNG", "PNG", "Pillow JPEG", "JPEG")}
    raw = 0
    for image in pictures(arguments.folder):
        enlarged = image.resize(
            (image.width * arguments.scale, image.height * arguments.scale), Image.Resampling.BICUBIC
        )
        raw += enlarged.width * enlarged.height * 3
        measure(enlarged, totals)

    print(f"{raw / 1e6:.0f} MB of pixels\n{'':12} {'MB/s a core':>12} {'speed':>8} {'size':>8}  (Pillow = 1)")
    for name, total in totals.items():
        pillow = totals["Pillow " + name.removeprefix("Pillow ")]
        speed, size = pillow.seconds / total.seconds, total.size / pillow.size
        print(f"{name:12} {raw / 1e6 / total.seconds:12.0f} {speed:8.2f} {size:8.3f}")


if __name__ == "__main__":
    main()
