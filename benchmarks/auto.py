"""What ``model=auto`` costs once an image is decoded: ``python -m benchmarks.auto``.

Milliseconds of CPU time for a megapixel, the best of some runs, for every format and several sizes; beside it what
decoding takes, which ``POST /upscale`` needs anyway and ``POST /estimate`` only for this.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import skimage.data
from PIL import Image

from app.images.decoder import decode_container
from app.images.formats import DecodeLimits, read_container
from app.images.traits import traits_of
from benchmarks.machine import machine
from harness.files import saved

SIZES = ((512, 512), (1024, 1024), (4000, 3000), (8000, 6000), (30_000, 64))
FILES: dict[str, tuple[str, dict[str, object]]] = {
    "PNG": ("PNG", {"compress_level": 1}),
    "JPEG": ("JPEG", {"quality": 90}),
    "progressive JPEG": ("JPEG", {"quality": 90, "progressive": True}),
    "WebP": ("WEBP", {"quality": 80, "method": 0}),
    "AVIF": ("AVIF", {"quality": 60, "speed": 10}),
    "GIF": ("GIF", {}),
    "TIFF": ("TIFF", {}),
    "BMP": ("BMP", {}),
}


def picture(width: int, height: int) -> Image.Image:
    """Photographs side by side, with some noise, so that nothing is even."""
    photo = np.tile(skimage.data.astronaut(), (-(-height // 512), -(-width // 512), 1))[:height, :width]
    noise = np.random.default_rng(0).integers(0, 6, photo.shape, np.uint8)
    return Image.fromarray(np.maximum(photo, noise))


def best(runs: int, function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def milliseconds(data: bytes, runs: int) -> tuple[float, float]:
    """Of decoding a file, and of looking at it then."""
    container = read_container(data, DecodeLimits())
    source = decode_container(container)
    decoding = best(2, lambda: decode_container(container))
    return 1e3 * decoding, 1e3 * best(runs, lambda: traits_of(container, source))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.auto", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    print(f"{machine()}; ms of CPU time a megapixel\n\n| format | size | decoding | auto |\n| --- | --- | --- | --- |")
    most = 0.0
    for width, height in SIZES:
        image = picture(width, height)
        megapixels = width * height / 1e6
        for name, (format, how) in FILES.items():
            if format == "WEBP" and max(width, height) > 16_383:
                continue
            data = saved(image, format, **how)
            decoding, looking = milliseconds(data, options.runs)
            most = max(most, looking / megapixels)
            print(f"| {name} | {width} x {height} | {decoding / megapixels:.1f} | {looking / megapixels:.2f} |")
    print(f"\nat most {most:.2f}")


if __name__ == "__main__":
    main()
