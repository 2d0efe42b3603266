"""More than 8 bits. Pillow has a mode for one such channel (I;16) but not for several, so each channel is a plane.

The bytes of several channels arrive by ways that Pillow has: a PNG is read twice, for the upper and the lower bytes of
its samples; a TIFF as plain bytes (``formats.Bytewise``). From there everything goes band by band into planes of mode
I;16, 2 bytes per pixel each, which Pillow can rotate and crop like any image.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.colour import bands, bleed
from app.images.formats import Bytewise, Container

Samples = NDArray[np.uint16]
Planes = tuple[Image.Image, ...]

PEAK = 65_535
DEEP = "I;16"


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow has decoded one channel of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith(DEEP)


def gray_plane(image: Image.Image, container: Container) -> tuple[Planes, Image.Image | None]:
    """One deep channel as a plane, and its alpha if one of its levels is transparent.

    Scaled by the range in the file's header, never by the values: 12 bits are stretched, signed samples are shifted to
    begin at 0, 32 bits and floats (0 to 1) are rounded to 16.
    """
    plane = Image.new(DEEP, image.size)
    alpha = None if container.transparent is None else Image.new(DEEP, image.size)
    for box in bands(image.size):
        samples = np.asarray(image.crop(box))
        plane.paste(Image.fromarray(_scaled(samples, container)), box)
        if alpha is not None:
            visible = samples != (container.transparent or (0,))[0]
            alpha.paste(Image.fromarray(visible * np.uint16(PEAK)), box)
    return (plane,), alpha


def _scaled(samples: NDArray[np.generic], container: Container) -> Samples:
    """uint16, int32 or float32 ``[h, w]`` as Pillow holds them -> uint16 ``[h, w]`` over the whole range."""
    if samples.dtype == np.int32 and container.sample == "unsigned":
        samples = samples.view(np.uint32)  # Pillow's "I" is signed even if the file's samples are not
    bits = container.header.bits
    top = {"unsigned": 2.0**bits - 1, "signed": 2.0 ** (bits - 1) - 1, "float": 1.0}[container.sample]
    level = np.clip(np.nan_to_num(samples.astype(np.float64) / top), 0, 1)
    if container.white_is_zero:
        level = 1 - level
    return np.asarray(np.rint(level * PEAK), np.uint16)


def png_planes(read: Callable[[str], Image.Image], container: Container) -> tuple[Planes, Image.Image | None]:
    """Gray + alpha, RGB and RGB + alpha of 16 bits. ``read`` decodes the file with one of Pillow's raw modes.

    Gray + alpha has four bytes per pixel, so one pass suffices; otherwise two passes give the upper and the lower
    bytes.
    """
    if container.gray_samples:
        image = read("RGBA")
        planes = _empty(image.size, 2)
        for box in bands(image.size):
            _paste(planes, np.asarray(image.crop(box)).view(">u2"), box)
    else:
        mode = "RGBA" if container.header.has_alpha and container.transparent is None else "RGB"
        image = read(f"{mode};16B")
        planes = _empty(image.size, len(mode))
        for box in bands(image.size):
            _paste(planes, np.asarray(image.crop(box), np.uint16) << np.uint16(8), box)
        del image  # only one pass is held at a time
        image = read(f"{mode};16L")
        for box in bands(image.size):
            _paste(planes, _cut(planes, box) | np.asarray(image.crop(box)), box)
    if container.transparent is not None:
        return planes, _keyed_alpha(planes, container.transparent)
    return (planes[:-1], planes[-1]) if container.header.has_alpha else (planes, None)


def bytewise_planes(image: Image.Image, container: Container) -> tuple[Planes, Image.Image | None]:
    """The samples whose bytes Pillow has read as a wide gray image; see ``formats.Bytewise``."""
    bytewise, size = container.bytewise, container.stored_size
    assert bytewise is not None
    colours = 1 if container.gray_samples else 3
    planes = _empty(size, colours + container.header.has_alpha)
    for box in bands(size):
        wide = np.asarray(image.crop((0, box[1], image.width, box[3])))
        samples = _sixteen_bits(_undone(wide, bytewise)[:, : size[0]])
        if container.white_is_zero:
            samples[:, :, :colours] = PEAK - samples[:, :, :colours]
        if bytewise.premultiplied and container.header.has_alpha:
            samples = _straight(samples)
        _paste(planes, samples[:, :, : len(planes)], box)
    return (planes[:-1], planes[-1]) if container.header.has_alpha else (planes, None)


def _undone(stored: NDArray[np.uint8], bytewise: Bytewise) -> NDArray[np.generic]:
    """Bytes ``[h, row_bytes]`` as samples ``[h, width, n]``, with the predictor undone, run by run."""
    if bytewise.predictor == 3:
        return _planes_joined(stored, bytewise)
    whole = f"u{bytewise.sample_bytes}"
    samples = stored.view(bytewise.order + whole).reshape(len(stored), bytewise.width, bytewise.samples)
    samples = samples.astype(whole)  # to native byte order
    if bytewise.predictor == 2:  # sums of differences, also of floats' bits, modulo the type's range
        for left in range(0, bytewise.width, bytewise.run):
            run = samples[:, left : left + bytewise.run]
            np.cumsum(run, axis=1, dtype=samples.dtype, out=run)
    return samples.view(bytewise.kind)


def _planes_joined(stored: NDArray[np.uint8], bytewise: Bytewise) -> NDArray[np.generic]:
    """Predictor 3: within a run each byte is a difference from the one ``samples`` before it; the highest bytes come
    first."""
    count, size = bytewise.samples, bytewise.sample_bytes
    runs = stored.reshape(len(stored), -1, bytewise.run * size, count)
    summed = np.cumsum(runs, axis=2, dtype=np.uint8)
    planes = summed.reshape(*summed.shape[:2], size, bytewise.run * count)
    joined = np.ascontiguousarray(planes.swapaxes(2, 3)).view(">" + bytewise.kind)
    return joined.reshape(len(stored), bytewise.width, count)


def _sixteen_bits(samples: NDArray[np.generic]) -> Samples:
    """Scales unsigned integers by their full range, floats from 0 to 1; clips what lies outside; NaN becomes black."""
    if samples.dtype == np.uint16:
        return np.asarray(samples, np.uint16)
    top = 2.0 ** (8 * samples.dtype.itemsize) - 1 if samples.dtype.kind == "u" else 1.0
    level = np.clip(np.nan_to_num(samples.astype(np.float64) / top), 0, 1)
    return np.asarray(np.rint(level * PEAK), np.uint16)


def _straight(samples: Samples) -> Samples:
    """Premultiplied ``[h, w, colours + alpha]`` divided by its alpha, rounded."""
    alpha = np.maximum(samples[:, :, -1:], 1).astype(np.uint32)
    colour = np.minimum((samples[:, :, :-1].astype(np.uint32) * PEAK + alpha // 2) // alpha, PEAK)
    return np.concatenate([colour.astype(np.uint16), samples[:, :, -1:]], axis=2)


def _keyed_alpha(planes: Planes, key: Sequence[int]) -> Image.Image:
    """0 where every channel equals the colour key, else the peak."""
    (alpha,) = _empty(planes[0].size, 1)
    for box in bands(alpha.size):
        visible = (_cut(planes, box) != np.array(key, np.uint16)).any(axis=2, keepdims=True)
        _paste((alpha,), visible * np.uint16(PEAK), box)
    return alpha


def bleed_planes(planes: Planes, alpha: Image.Image) -> None:
    """Like ``colour.bleed``, in place. Nobody sees what lies under a hole, so 8 bits are enough for it."""
    size = alpha.size
    if alpha.getextrema()[0] != 0:
        return
    small, opaque = Image.new("L" if len(planes) == 1 else "RGB", size), Image.new("L", size)
    for box in bands(size):
        upper = (_cut(planes, box) >> 8).astype(np.uint8)
        small.paste(Image.fromarray(upper[:, :, 0] if len(planes) == 1 else upper), box)
        level = np.asarray(alpha.crop(box))
        opaque.paste(Image.fromarray(np.maximum(level >> 8, level > 0).astype(np.uint8)), box)
    bleed(small, opaque)
    for box in bands(size):
        hole = np.asarray(opaque.crop(box))[:, :, np.newaxis] == 0
        fill = np.atleast_3d(np.asarray(small.crop(box))).astype(np.uint16) * 257
        _paste(planes, np.where(hole, fill, _cut(planes, box)), box)


def _empty(size: tuple[int, int], count: int) -> Planes:
    return tuple(Image.new(DEEP, size) for _ in range(count))


def _cut(planes: Planes, box: tuple[int, int, int, int]) -> Samples:
    """uint16 ``[h, w, planes]``."""
    return np.stack([np.asarray(plane.crop(box)) for plane in planes], axis=2)


def _paste(planes: Planes, samples: NDArray[np.uint16], box: tuple[int, int, int, int]) -> None:
    for index, plane in enumerate(planes):
        plane.paste(Image.fromarray(np.ascontiguousarray(samples[:, :, index], np.uint16)), box)
