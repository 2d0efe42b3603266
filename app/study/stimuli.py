"""The pictures of a study in the versions to be compared, each made by the service's own path when first looked at."""

import io
import threading
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image

from app.errors import StartupError
from app.images.channels import at_depth
from app.images.decoder import SourceImage, decode
from app.images.formats import SUFFIXES
from app.settings import Settings
from app.upscale.parameters import UpscaleParameters
from app.upscale.upscaler import Upscaler

ORIGINAL = "original"
MAX_PICTURES = 500
MAX_SIDE = 1024  # HR pixels: of a larger picture the middle is shown, so that it fits a screen at 1:1
CACHE_BYTES = 128 * 2**20

Key = tuple[str, str]  # picture, version


class Cache:
    """Files by key, the longest unused let go when they are more than ``CACHE_BYTES`` together."""

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
    """A picture as the models get it, and the original that they are to reach, where there is one: both PNG files."""

    lr: bytes
    hr: bytes | None


class Specimens:
    """Every picture of the folder, in the version of every model that has the scale, and the original.

    ``StartupError`` for a folder without pictures, and for a scale without models.
    """

    def __init__(self, settings: Settings, upscaler: Upscaler) -> None:
        assert settings.study is not None
        self._folder, self._scale = settings.study, settings.study_scale
        self._settings, self._upscaler = settings, upscaler
        self._cache = Cache()
        self._making: dict[Key, threading.Lock] = {}
        self.versions = [spec.name for spec in upscaler.zoo if spec.scale == self._scale]
        if not self.versions:
            raise StartupError(f"The study's scale is {self._scale}, which no model has.")
        if settings.study_original:
            self.versions.append(ORIGINAL)
        try:
            names = sorted(path.name for path in self._folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise StartupError(f"The study's folder {self._folder}: {error.strerror}.") from error
        if not 1 <= len(names) <= MAX_PICTURES:
            raise StartupError(
                f"The study's folder {self._folder} must hold 1 to {MAX_PICTURES} pictures: {len(names)}."
            )
        self.pictures = names

    def png(self, picture: str, version: str) -> bytes:
        """The file to be looked at: PNG, without metadata. Nobody computes what another is computing just now."""
        key = picture, version
        with self._making.setdefault(key, threading.Lock()):  # as many as there are versions
            file = self._cache.get(key)
            if file is None:
                file = self._make(picture, version)
                self._cache.put(key, file)
            return file

    def _make(self, picture: str, version: str) -> bytes:
        upscaler = self._upscaler
        source = decode((self._folder / picture).read_bytes(), upscaler.limits)
        pair = prepare_pair(source, self._scale, self._settings.study_original)
        if version == ORIGINAL:
            assert pair.hr is not None
            return pair.hr
        image = upscaler.open(pair.lr)
        parameters = UpscaleParameters(model=version, scale=self._scale, format="png", metadata="strip")
        work = upscaler.decode(image, upscaler.plan(image, parameters))
        with upscaler.admit(work.plan, self._settings.request_deadline_seconds) as job:
            return b"".join(upscaler.run(work, job))


def prepare_pair(source: SourceImage, scale: int, reduce: bool) -> Pair:
    """The middle of the picture, cut to a multiple of ``scale`` of at most ``MAX_SIDE`` HR pixels, and its reduction.

    Reduced by bicubic with antialiasing, as the test sets of the field are. Transparency is left out.
    """
    image = Image.fromarray(at_depth(source.rows(0, source.height), 8))
    if not reduce:
        side = MAX_SIDE // scale
        return Pair(as_png(middle(image, min(image.width, side), min(image.height, side)), source), None)
    width, height = (max(scale, min(side, MAX_SIDE) // scale * scale) for side in image.size)
    hr = middle(image, width, height)
    lr = hr.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    return Pair(as_png(lr, source), as_png(hr, source))


def middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def as_png(image: Image.Image, source: SourceImage) -> bytes:
    file = io.BytesIO()
    # The profile of a gray picture does not fit the three channels it has here.
    image.save(file, "PNG", icc_profile=None if source.gray else source.icc_profile)
    return file.getvalue()
