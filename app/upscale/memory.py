"""How much memory a request holds at most while its image is computed and sent, known before anything is computed.

Beside that a process has what it needs at rest, what its runs take, and images on their way in, all bounded
elsewhere: ``Settings.most_bytes`` adds it up.
"""

from collections.abc import Iterable

import numpy as np

from app.images.encoders import FORMATS
from app.images.resampler import CHUNK
from app.inference.batching import LANES
from app.inference.job import HEAVY_WINDOW
from app.inference.zoo import ModelSpec
from app.upscale.passes import BLEND, Pass, windows_ahead
from app.upscale.pipeline import STRIP_BYTES
from app.upscale.plan import Plan
from app.upscale.tiler import TileBudget, least_window

WORKING_STRIPS = 12  # what is made of one strip on its way into the file, in strips: integers of 32 bits, mostly
FLOAT_BYTES = 4
DECODED_BYTES = 16  # a pixel of a result in which codes are read: the file, its pixels, and those the reader takes


def held_bytes(plan: Plan, read_whole: bool = False) -> int:
    """An upper bound. ``read_whole``: codes are looked for in the result before it is sent."""
    picture, kind = plan.picture, FORMATS[plan.output.format]
    channels = 3 + plan.header.has_alpha
    sample = np.dtype(plan.sample_type).itemsize  # within the networks' passes
    *firsts, last = [(each, band_bytes(each, channels * sample)) for each in plan.passes]
    total = sum(pass_bytes(each, channels, sample) for each in plan.passes)
    total += last[1] + sum(3 * band for _, band in firsts)  # two joined where the next one's windows need both
    height, width = last[0].size
    pixels = -(-last[1] // (channels * sample) * picture.width * picture.height // (width * height))
    # A band as a file is no larger than its samples, however noisy, and is there in parts when it is joined.
    total += 2 * pixels * picture.channels * picture.depth // 8
    if (picture.height, picture.width) != (height, width):
        # Rows as floats: those taken, those held with them, and a copy when they are joined.
        total += 3 * CHUNK * picture.width * channels * FLOAT_BYTES
    total += (kind.held + DECODED_BYTES * read_whole) * picture.width * picture.height
    return total + WORKING_STRIPS * STRIP_BYTES


def networks_bytes(specs: Iterable[ModelSpec], budget: TileBudget) -> int:
    """What runs of others' networks take at most, beyond what a process takes with those trained here: their weights in
    each of their sessions, and the activations of the largest tiles that are computed beside one another."""
    imported = [spec for spec in specs if spec.pixel_bytes]
    weights = sum((1 + LANES) * max(file.bytes for file in spec.files.values()) for spec in imported)
    dear = max((largest_tile_bytes(spec, budget) for spec in imported), default=0)
    beside = max((LANES * tile_bytes(spec, budget) for spec in imported), default=0)
    return weights + dear + beside


def largest_tile_bytes(spec: ModelSpec, budget: TileBudget) -> int:
    area = max(budget.largest_area(spec.macs, spec.pixel_bytes), least_window(spec.context, BLEND) ** 2)
    return area * spec.pixel_bytes if area * spec.macs > HEAVY_WINDOW else 0


def tile_bytes(spec: ModelSpec, budget: TileBudget) -> int:
    """Of a tile that is no expensive one, 0 where all are."""
    area = max(budget.area(spec.macs, spec.pixel_bytes), least_window(spec.context, BLEND) ** 2)
    return min(area, HEAVY_WINDOW // max(1, spec.macs)) * spec.pixel_bytes


def band_bytes(each: Pass, pixel: int) -> int:
    """A band that one pass has finished, ``pixel`` bytes per pixel."""
    return each.plan.band_rows * each.plan.width * each.spec.scale**2 * pixel


def pass_bytes(each: Pass, channels: int, sample: int) -> int:
    """What one pass reads for a band, and its windows: one that is pasted and those ahead, alpha's like colour's."""
    row, pictures = each.plan.rows[0], channels - 2
    strip = (row.stop - row.start) * (each.plan.columns[-1].stop + each.plan.mirrored) * channels * sample
    window = each.plan.tile_pixels * each.spec.scale**2 * 3 * sample
    return 3 * strip + pictures * (1 + windows_ahead(each)) * window
