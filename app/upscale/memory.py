"""The most memory a request holds while its image is computed and sent; known before anything is computed.

Memory at rest, the networks' runs and incoming images come on top and are bounded elsewhere: ``Settings.most_bytes``
is the sum.
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

WORKING_STRIPS = 12  # temporaries of one strip on its way into the file, in strips; mostly 32-bit integers
FLOAT_BYTES = 4
DECODED_BYTES = 16  # per pixel of a result in which codes are read: the file, its pixels and the reader's copy


def held_bytes(plan: Plan, read_whole: bool = False) -> int:
    """An upper bound. ``read_whole``: codes are read in the result before it is sent.

    What ``auto`` takes to look at the pixels (``traits.py``: up to 5 MB) is less than the strips, which come later.
    """
    if plan.rivals:
        return max(held_bytes(rival, read_whole) for rival in plan.rivals.values())
    picture, kind = plan.picture, FORMATS[plan.output.format]
    channels = 3 + plan.header.has_alpha
    sample = np.dtype(plan.sample_type).itemsize  # within the networks' passes
    *firsts, last = [(each, band_bytes(each, channels * sample)) for each in plan.passes]
    total = sum(pass_bytes(each, channels, sample) for each in plan.passes)
    total += last[1] + sum(3 * band for _, band in firsts)  # two, joined, when the next pass needs both
    height, width = last[0].size
    pixels = -(-last[1] // (channels * sample) * picture.width * picture.height // (width * height))
    # An encoded band is no larger than its samples, however noisy; while it is joined its parts exist too.
    total += 2 * pixels * picture.channels * picture.depth // 8
    if (picture.height, picture.width) != (height, width):
        # Rows as floats: the new ones, the held ones, and a copy of both when they are joined.
        total += 3 * CHUNK * picture.width * channels * FLOAT_BYTES
    total += (kind.held + DECODED_BYTES * read_whole) * picture.width * picture.height
    return total + WORKING_STRIPS * STRIP_BYTES


def networks_bytes(specs: Iterable[ModelSpec], budget: TileBudget) -> int:
    """The most that imported networks take beyond the networks trained here: their weights in each of their
    sessions, and the activations of the largest tiles that are computed concurrently."""
    imported = [spec for spec in specs if spec.pixel_bytes]
    weights = sum((1 + LANES) * max(file.bytes for file in spec.files.values()) for spec in imported)
    dear = max((largest_tile_bytes(spec, budget) for spec in imported), default=0)
    beside = max((LANES * tile_bytes(spec, budget) for spec in imported), default=0)
    return weights + dear + beside


def largest_tile_bytes(spec: ModelSpec, budget: TileBudget) -> int:
    area = max(budget.largest_area(spec.macs, spec.pixel_bytes), least_window(spec.context, BLEND) ** 2)
    return area * spec.pixel_bytes if area * spec.macs > HEAVY_WINDOW else 0


def tile_bytes(spec: ModelSpec, budget: TileBudget) -> int:
    """The bytes of an ordinary tile, 0 if all tiles of the network are large."""
    area = max(budget.area(spec.macs, spec.pixel_bytes), least_window(spec.context, BLEND) ** 2)
    return min(area, HEAVY_WINDOW // max(1, spec.macs)) * spec.pixel_bytes


def band_bytes(each: Pass, pixel: int) -> int:
    """A band that one pass has finished, at ``pixel`` bytes per pixel."""
    return each.plan.band_rows * each.plan.width * each.spec.scale**2 * pixel


def pass_bytes(each: Pass, channels: int, sample: int) -> int:
    """What one pass reads for a band, and its windows: the one being pasted and those ahead, for alpha as for
    colour."""
    row, pictures = each.plan.rows[0], channels - 2
    strip = (row.stop - row.start) * (each.plan.columns[-1].stop + each.plan.mirrored) * channels * sample
    window = each.plan.tile_pixels * each.spec.scale**2 * 3 * sample
    return 3 * strip + pictures * (1 + windows_ahead(each)) * window
