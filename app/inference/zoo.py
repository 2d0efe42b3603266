"""The networks on disk: the manifest, and the check that the files are the ones it lists."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from app.errors import InvalidParameterError, ModelFileError, UnknownModelError, UnknownScaleError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
DEFAULT_STRENGTH = 1.0  # of a network that has one, if a request names none: fully cleaned and sharpened


@dataclass(frozen=True)
class ModelFile:
    """One precision of a network: a file in the model folder and what was measured with it.

    ``metrics`` maps a test set to figures, for example ``{"Set5": {"psnr_y": 31.1, "ssim_y": 0.88}}`` (dB, 0 to 1).
    ``context``: LR pixels, if this file needs others than the network: int8's rounding errors reach farther.
    """

    path: str
    sha256: str
    bytes: int
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    context: int | None = None


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The manifest's entry of any network, as ``training/export`` wrote it."""

    name: str
    architecture: str
    parameters: int
    macs: int
    summary: str
    licence: str
    recipe: str
    training: Mapping[str, Any]
    files: Mapping[str, ModelFile]


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """One network at one scale.

    ``context``: LR pixels of surroundings that a tile needs on each side so that its core comes out as in the whole
    image. ``macs``: multiply-accumulates per LR pixel, the measure of cost. ``alignment``: windows must begin at
    multiples of so many LR pixels, for networks that work in cells of several pixels. ``pixel_bytes``: memory that a
    run takes per LR pixel, measured for imported networks; 0: as little as those trained here.
    ``strength``: whether its files have that second input, float32 ``[N]``, from 0 (a faithful enlargement) to 1
    (fully cleaned and sharpened).
    """

    scale: int
    context: int
    alignment: int = 1
    pixel_bytes: int = 0
    strength: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}-x{self.scale}"

    def at(self, precision: str) -> "ModelSpec":
        """The network as the file of that precision computes it: with its own context, if it has one."""
        own = self.files[precision].context if precision in self.files else None
        return self if own is None else replace(self, context=own)


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec(Spec):
    """A network of the other kind: it generates images from noise. The manifest's ``generators`` lists them.

    It takes ``latent`` random numbers per image and gives ``height`` x ``width`` pixels of ``channels`` samples.
    ``macs``: multiply-accumulates per image.
    """

    latent: int
    height: int
    width: int
    channels: int

    @property
    def title(self) -> str:
        return self.name


@dataclass(frozen=True)
class Zoo:
    """All networks of a model folder. ``default`` is the name used if a request names none."""

    folder: Path
    default: str
    models: tuple[ModelSpec, ...]
    generators: tuple[GeneratorSpec, ...] = ()

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self.models)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(spec.name for spec in self.models))

    def scales(self, name: str) -> tuple[int, ...]:
        """The scales of a network, ascending; ``UnknownModelError`` lists the known names."""
        found = tuple(sorted(spec.scale for spec in self.models if spec.name == name))
        if not found:
            raise UnknownModelError(f"Unknown model {name[:40]!r}; known: {', '.join(self.names)}.")
        return found

    def only(self, *names: str) -> "Zoo":
        """The networks of these names at all their scales, the first name as the default; or ``UnknownModelError``."""
        chosen = tuple(self.find(name, scale) for name in names for scale in self.scales(name))
        return replace(self, default=names[0], models=chosen, generators=())

    def generator(self, name: str) -> GeneratorSpec:
        """The generator of that name; ``UnknownModelError`` lists the known names."""
        for spec in self.generators:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.generators) or "none"
        raise UnknownModelError(f"Unknown generator {name[:40]!r}; known: {known}.")

    def find(self, name: str | None, scale: int) -> ModelSpec:
        """The network of that name (None: the default) at that scale."""
        wanted = name or self.default
        scales = self.scales(wanted)
        for spec in self.models:
            if (spec.name, spec.scale) == (wanted, scale):
                return spec
        allowed = ", ".join(map(str, scales))
        raise UnknownScaleError(f"Model {wanted!r} has no scale {scale}; it has: {allowed}.", actual=scale)

    def passes(self, name: str | None, down: float, across: float) -> tuple[ModelSpec, ...]:
        """The networks to run in sequence to reach at least these factors: one if it suffices, else the cheapest
        two."""
        wanted = name or self.default
        factor = max(down, across)
        scales = self.scales(wanted)
        reaching = [scale for scale in scales if scale >= factor]
        if reaching:
            return (self.find(wanted, reaching[0]),)
        pairs = [(self.find(wanted, a), self.find(wanted, b)) for a in scales for b in scales if a * b >= factor]
        if not pairs:
            most = scales[-1] ** 2
            raise UnknownScaleError(
                f"Model {wanted!r} enlarges up to {most} times.", limit=most, actual=round(factor, 3)
            )
        return min(pairs, key=lambda pair: pair[0].macs + pair[0].scale ** 2 * pair[1].macs)

    def strength(self, specs: Sequence[ModelSpec], asked: float | None) -> float:
        """The requested strength or the default; ``InvalidParameterError`` if a network of ``specs`` has none."""
        if asked is None:
            return DEFAULT_STRENGTH
        for spec in specs:
            if not spec.strength:
                known = ", ".join(each.title for each in self.models if each.strength) or "none"
                raise InvalidParameterError(f"strength: {spec.title} has none; networks that have one: {known}.")
        return asked

    def read(self, spec: ModelSpec | GeneratorSpec, precision: str) -> bytes:
        """The bytes of a model file, checked against the manifest's sha256; else ``ModelFileError``."""
        if precision not in spec.files:
            raise ModelFileError(f"{spec.title}: there is no {precision} file, only: {', '.join(spec.files)}.")
        file = spec.files[precision]
        path = self.folder / file.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path}: {error.strerror}.") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != file.sha256:
            raise ModelFileError(f"{path}: sha256 is {digest}, the manifest says {file.sha256}.")
        return data


def load_zoo(folder: Path) -> Zoo:
    """Reads ``manifest.json``; any doubt about it raises ``ModelFileError``."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file; ENLARGER_MODELS names the folder of the networks.") from error
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}.") from error
    except ValueError as error:
        raise ModelFileError(f"{path}: not JSON: {error}.") from error
    try:
        if manifest["version"] != MANIFEST_VERSION:
            raise ModelFileError(f"{path}: version {manifest['version']}, this service reads {MANIFEST_VERSION}.")
        models = tuple(ModelSpec(**_with_files(entry)) for entry in manifest["models"])
        generators = tuple(GeneratorSpec(**_with_files(entry)) for entry in manifest.get("generators", ()))
        zoo = Zoo(folder, manifest["default"], models, generators)
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: malformed: {error}.") from error
    titles = [spec.title for spec in models] + [spec.title for spec in generators]
    twice = [title for title, number in Counter(titles).items() if number > 1]
    if twice:
        raise ModelFileError(f"{path}: there is more than one {', '.join(twice)}.")
    if zoo.default not in zoo.names:
        raise ModelFileError(f"{path}: the default model {zoo.default!r} is not among the models.")
    return zoo


def _with_files(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "files": {precision: ModelFile(**file) for precision, file in entry["files"].items()}}
