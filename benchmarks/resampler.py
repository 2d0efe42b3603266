"""How fast rows are resampled, beside Pillow resizing the whole picture at once: ``python -m benchmarks.resampler``.

A ratio above 1 is that much faster than Pillow's one call. The picture comes in bands, as the service makes them; the
ways other than ``Resampler`` are those it was chosen from:

* strips: Pillow along each band, then Pillow down each band with a margin of rows around it;
* mixed: Pillow along each band, then the weights as a product down the columns.

Time is this process's CPU time over all its threads, so the figures are per core and a library that wakes threads for
nothing pays for them. The ways take turns and each keeps its best round, because other work may share the machine.
"""

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from app.images.resampler import ROWS, Axis, Resampler, parts

Pixels = NDArray[np.uint8]
Size = tuple[int, int]  # (height, width)

BAND_ROWS = 512  # a row of 128-pixel tiles, enlarged four times
LANCZOS = Image.Resampling.LANCZOS
CASES: list[tuple[str, int, Size, Size]] = [  # what, channels, from, to
    ("x4 to x3", 3, (1200, 2400), (900, 1800)),
    ("x4 to x2.37", 3, (1200, 2400), (711, 1422)),
    ("x4 to x1", 3, (1200, 2400), (300, 600)),
    ("gray x4 to x3", 1, (1200, 2400), (900, 1800)),
    ("alpha by 3", 1, (400, 800), (1200, 2400)),
    ("alpha by 8", 1, (150, 300), (1200, 2400)),
]


def sample(size: Size, channels: int) -> Pixels:
    """A photograph, uint8 ``[height, width, C]``."""
    photo = Image.fromarray(skimage.data.astronaut()).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(photo)[:, :, :channels])


def whole(pixels: Pixels, target: Size) -> Pixels:
    resized = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).resize(target[::-1], LANCZOS)
    return np.asarray(resized).reshape(*target, -1)


def across(pixels: Pixels, width: int) -> list[Pixels]:
    """Each band of rows at the target's width, by Pillow."""
    return [whole(band, (len(band), width)) for band in bands(pixels)]


def bands(pixels: Pixels) -> list[Pixels]:
    return [pixels[top : top + BAND_ROWS] for top in range(0, len(pixels), BAND_ROWS)]


def strips(pixels: Pixels, target: Size) -> Pixels:
    axis = Axis(len(pixels), target[0], "lanczos")
    rows = np.concatenate(across(pixels, target[1]))
    reach, step, results = math.ceil(axis.reach), len(bands(pixels)), []
    for index in range(step):
        start, stop = target[0] * index // step, target[0] * (index + 1) // step
        top, bottom = start * axis.step, stop * axis.step
        first = max(0, int(top) - reach)
        strip = rows[first : math.ceil(bottom) + reach]
        image = Image.fromarray(strip.reshape(len(strip), -1))  # the channels beside each other, as one plane
        down = image.resize((image.width, stop - start), LANCZOS, box=(0, top - first, image.width, bottom - first))
        results.append(np.asarray(down))
    return np.concatenate(results).reshape(*target, -1)


def mixed(pixels: Pixels, target: Size) -> Pixels:
    rows = np.concatenate([band.astype(np.float32) for band in across(pixels, target[1])]).reshape(len(pixels), -1)
    result = np.empty((target[0], rows.shape[1]), np.uint8)
    starts = range(0, target[0], ROWS)
    firsts, weights = Axis(len(pixels), target[0], "lanczos").weights(np.array(starts, np.int64), ROWS)
    for start, first, matrix in zip(starts, firsts, weights, strict=True):
        part, taps = result[start : start + ROWS], rows[first : first + matrix.shape[1]]
        product = np.empty(part.shape, np.float32)
        for span in parts(rows.shape[1], matrix.size):
            np.matmul(matrix[: len(part), : len(taps)], taps[:, span], out=product[:, span])
        product += 0.5
        part[:] = np.clip(product, 0, 255, out=product)
    return result.reshape(*target, -1)


def resampler(pixels: Pixels, target: Size) -> Pixels:
    rows = Resampler(pixels.shape[:2], target, pixels.shape[2])
    return np.concatenate([rows.feed(band) for band in bands(pixels)])


def resampler16(pixels: Pixels, target: Size) -> NDArray[np.uint16]:
    rows = Resampler(pixels.shape[:2], target, pixels.shape[2])
    return np.concatenate([rows.feed(band.astype(np.uint16) * 257) for band in bands(pixels)])


WAYS: dict[str, Callable[[Pixels, Size], Pixels | NDArray[np.uint16]]] = {
    "whole": whole,
    "strips": strips,
    "mixed": mixed,
    "Resampler": resampler,
    "16 bits": resampler16,
}


def measure(pixels: Pixels, target: Size, rounds: int) -> dict[str, float]:
    """The best CPU seconds of each way; a way whose result is another one is an error."""
    seconds = dict.fromkeys(WAYS, math.inf)
    expected = whole(pixels, target).astype(np.int64)
    for _ in range(rounds):
        for name, way in WAYS.items():
            start = time.process_time()
            result = way(pixels, target)
            seconds[name] = min(seconds[name], time.process_time() - start)
            if (
                np.abs(result / (np.iinfo(result.dtype).max / 255) - expected).max() > 1.5
            ):  # a level, and half of one where bytes are rounded
                raise SystemExit(f"{name}: not Pillow's result")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    print("source and result in MB/s a core for Pillow's whole picture; then how many times as fast each way is")
    print(f"{'':14} {'source':>7} {'result':>7}" + "".join(f"{name:>11}" for name in list(WAYS)[1:]))
    for name, channels, source, target in CASES:
        pixels = sample(source, channels)
        seconds = measure(pixels, target, arguments.rounds)
        base = seconds["whole"]
        ratios = "".join(f"{base / seconds[way]:11.2f}" for way in list(WAYS)[1:])
        print(f"{name:14} {pixels.size / 1e6 / base:7.0f} {math.prod(target) * channels / 1e6 / base:7.0f}{ratios}")


if __name__ == "__main__":
    main()
