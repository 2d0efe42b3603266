"""The stimuli of a study: images in the versions to be compared, made by the service's own path on first use."""

import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import CapacityLimiter
from PIL import Image

from app.errors import StartupError
from app.images.channels import at_depth
from app.images.decoder import SourceImage, decode
from app.images.formats import SUFFIXES
from app.images.icc import for_rgb
from app.threads import run_in_thread
from app.upscale.parameters import UpscaleParameters
from app.upscale.upscaler import Upscaler

ORIGINAL = "original"
MAX_PICTURES = 500
MAX_SIDE = 1024  # HR pixels; larger images are cropped to their centre, so that they fit a screen at 1:1
CACHE_BYTES = 128 * 2**20

Key = tuple[str, str]  # image, version


class Cache:
    """Files by key; the least recently used are evicted when they exceed ``CACHE_BYTES`` in total."""

    def __init__(self) -> None:
        self._files: OrderedDict[Key, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> bytes | None:
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
            return self._files.get(key)

    def put(self, key: Key, file: bytes) -> None:
        with self._lock:
            self._files[key] = file
            while len(self._files) > 1 and sum(map(len, self._files.values())) > CACHE_BYTES:
                self._files.popitem(last=False)


@dataclass(frozen=True)
class Pair:
    """An image as the models receive it, and the original if there is one: both PNG files."""

    lr: bytes
    hr: bytes | None


class Stimuli:
    """Every image of the folder, in the version of every model that has the scale, and the original.

    ``StartupError`` for a folder without images, and for a scale without models.
    """

    def __init__(self, folder: Path, scale: int, original: bool, upscaler: Upscaler, deadline_seconds: float) -> None:
        self._folder, self._scale, self._original = folder, scale, original
        self._upscaler, self._deadline_seconds = upscaler, deadline_seconds
        self._cache = Cache()
        self._making: dict[Key, anyio.Lock] = {}
        self.versions = [spec.name for spec in upscaler.zoo if spec.scale == self._scale]
        if not self.versions:
            raise StartupError(f"The study's scale is {self._scale}, which no model has.")
        if original:
            self.versions.append(ORIGINAL)
        try:
            names = sorted(path.name for path in self._folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise StartupError(f"The study's folder {self._folder}: {error.strerror}.") from error
        if not 1 <= len(names) <= MAX_PICTURES:
            raise StartupError(f"The study's folder {self._folder} must hold 1 to {MAX_PICTURES} images: {len(names)}.")
        self.pictures = names

    def made(self, key: Key) -> bytes | None:
        """The PNG file, without metadata, if it is cached."""
        return self._cache.get(key)

    async def make(self, key: Key, decoders: CapacityLimiter) -> bytes:
        """Makes it, once even if several ask for it at the same time; decoding waits for a decoder like any upload."""
        async with self._making.setdefault(key, anyio.Lock()):  # bounded by the number of versions
            file = self._cache.get(key)
            if file is None:
                pair = await run_in_thread(self._pair, key[0], limiter=decoders)
                file = await run_in_thread(self._version, pair, key[1])
                self._cache.put(key, file)
            return file

    def _pair(self, picture: str) -> Pair:
        source = decode((self._folder / picture).read_bytes(), self._upscaler.limits)
        return prepare_pair(source, self._scale, self._original)

    def _version(self, pair: Pair, version: str) -> bytes:
        if version == ORIGINAL:
            assert pair.hr is not None
            return pair.hr
        upscaler = self._upscaler
        image = upscaler.open(pair.lr)
        parameters = UpscaleParameters(model=version, scale=self._scale, format="png", metadata="strip")
        plan = upscaler.plan(image, parameters)
        with upscaler.admit(plan, self._deadline_seconds) as job:
            return b"".join(upscaler.run(upscaler.decode(image, plan), job))


def prepare_pair(source: SourceImage, scale: int, reduce: bool) -> Pair:
    """The centre of the image, cropped to a multiple of ``scale`` of at most ``MAX_SIDE`` HR pixels, and its
    reduction.

    Reduced by bicubic with antialiasing, like the usual test sets. Transparency is dropped.
    """
    if not reduce:
        side = MAX_SIDE // scale
        return Pair(as_png(middle(source, min(source.width, side), min(source.height, side)), source), None)
    width, height = (max(scale, min(side, MAX_SIDE) // scale * scale) for side in (source.width, source.height))
    hr = middle(source, width, height)
    lr = hr.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    return Pair(as_png(lr, source), as_png(hr, source))


def middle(source: SourceImage, width: int, height: int) -> Image.Image:
    """The centre, of that size, padded with black if the image is smaller; only these rows are read."""
    left, top = (source.width - width) // 2, (source.height - height) // 2
    rows = source.rows(max(top, 0), min(top + height, source.height))
    image = Image.fromarray(at_depth(rows[:, max(left, 0) : left + width], 8))
    left, top = min(left, 0), min(top, 0)
    return image.crop((left, top, left + width, top + height))


def as_png(image: Image.Image, source: SourceImage) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", icc_profile=for_rgb(source.icc_profile))
    return file.getvalue()
