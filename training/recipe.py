"""A recipe: everything that makes a published network, as one small TOML file. Unknown keys fail."""

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.architectures.discriminators import DISCRIMINATORS
from training.data.degradations import DEGRADATIONS, RANDOM_DEGRADATIONS
from training.data.qrcodes import CodeRecipe
from training.losses.adversarial import ADVERSARIAL
from training.losses.perceptual import CONTENT_DISTANCES, CONV5_4, VGG19
from training.losses.pixel import PIXEL_LOSSES

RECIPES = Path(__file__).parent / "recipes"


def _check_degradation(name: str) -> None:
    if name not in (known := [*DEGRADATIONS, *RANDOM_DEGRADATIONS]):
        raise ValueError(f"unknown degradation {name!r}; known: {', '.join(known)}")


def _check_sampling(name: str) -> None:
    if name not in ("uniform", "detail"):
        raise ValueError(f"unknown sampling {name!r}; known: uniform, detail")


@dataclass(frozen=True)
class MixRecipe:
    """``[[data.mix]]``: a ``share`` of the crops is of these ``pictures`` (a folder below the data folder) in place of
    the recipe's own, spoiled in their own way and with HR as target, even where the rest learns from a teacher."""

    pictures: str
    share: float
    degradation: str = "found"
    sampling: str = "uniform"
    reductions: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        _check_degradation(self.degradation)
        _check_sampling(self.sampling)
        if not 0 <= self.share <= 1:
            raise ValueError(f"[[data.mix]] share = {self.share!r} is not a share from 0 to 1")


@dataclass(frozen=True)
class DataRecipe:
    """Which pictures, and how pairs are cut from them.

    ``pictures`` and ``validation`` are folders below the data folder. ``crop`` is the LR side of a training patch in
    pixels. ``sampling``: "uniform", or "detail" to draw pictures in proportion to their mean gradient. Against learning
    few pictures by heart: ``reductions``, the factors by which each picture is there reduced, and ``permute``, which
    exchanges red, green and blue at random. ``flat``: the share of crops in whose place stands one colour, saturated as
    often as not, of which photographs have next to none. ``mix``: the share of crops that are of other pictures.

    ``codes``: pairs are QR codes drawn on the fly as ``[data.codes]`` says, and no folder is read.
    """

    pictures: str = "photos"
    validation: str = "kodak"
    degradation: str = "bicubic"
    crop: int = 48
    batch: int = 16
    sampling: str = "uniform"
    reductions: tuple[float, ...] = (1.0,)
    permute: bool = False
    flat: float = 0.0
    mix: tuple[MixRecipe, ...] = ()
    codes: CodeRecipe | None = None

    def __post_init__(self) -> None:
        _check_degradation(self.degradation)
        _check_sampling(self.sampling)
        factors = self.reductions if isinstance(self.reductions, tuple) else ()
        if not factors or not all(isinstance(factor, int | float) and factor >= 1 for factor in factors):
            raise ValueError(f"reductions = {self.reductions!r} is not a list of factors of 1 or more")
        if not 0 <= self.flat <= 1:
            raise ValueError(f"flat = {self.flat!r} is not a share from 0 to 1")
        if sum(mix.share for mix in self.mix) > 1:
            raise ValueError("the shares of [[data.mix]] are more than 1 in all")


TAUGHT_MARGIN = 4  # LR pixels at a pair's edges that are not taught: there the teacher saw its own padding


@dataclass(frozen=True)
class TeacherRecipe:
    """``[teacher]``: the network learns from the images that another one (``--teacher FILE``) makes of ``pairs``
    degraded crops of ``side`` LR pixels, not from HR.

    ``factors``: by how much a photograph is reduced to be LR, each with the share of the set that it has. At less than
    the network's scale LR is softer and shows less of a scene, as most images on the web do; a student of a teacher
    needs no HR for it (DUKD, arXiv:2309.14162). ``credit``: what cards say of the teacher, its licence included.
    """

    credit: str
    pairs: int = 4_000
    side: int = 80
    factors: tuple[float, ...] = (4.0,)
    shares: tuple[float, ...] = (1.0,)
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.factors) != len(self.shares) or not math.isclose(sum(self.shares), 1) or min(self.shares) < 0:
            raise ValueError("[teacher] needs a share for each of its factors, 1 in all")
        if min(self.factors) < 1:
            raise ValueError(f"[teacher] factors = {self.factors!r} are not factors of 1 or more")
        if self.pairs < 1 or self.side <= 2 * TAUGHT_MARGIN:
            raise ValueError(f"[teacher] asks for {self.pairs} pairs of {self.side} LR pixels")


@dataclass(frozen=True)
class StrengthRecipe:
    """``[strength]``: what a network that takes a strength learns at less than 1: to lie between the image of
    ``faithful``, an exported network of the same scale, and its target.

    ``full`` and ``none``: the shares of crops at 1 and at 0; the others have any strength between.
    """

    faithful: str
    full: float = 0.5
    none: float = 0.2

    def __post_init__(self) -> None:
        if min(self.full, self.none, self.between) < 0:
            raise ValueError(f"[strength] full = {self.full!r} and none = {self.none!r} are no shares of one whole")

    @property
    def between(self) -> float:
        return round(1 - self.full - self.none, 9)


@dataclass(frozen=True)
class ContentRecipe:
    """``[stage.content]``: a loss on VGG19's features at ``layers`` (torchvision's indices; 34 is conv5_4), weighted.

    ``distance``: "mse", SRGAN's, "l1", ESRGAN's, or "texture", much as in DISTS. Several layers are summed, each times
    its own of ``shares`` (default: 1 each).
    """

    weight: float = 1.0
    layers: tuple[int, ...] = (CONV5_4,)
    shares: tuple[float, ...] = ()
    distance: str = "mse"

    def __post_init__(self) -> None:
        if self.distance not in CONTENT_DISTANCES:
            raise ValueError(f"unknown distance {self.distance!r}; known: {', '.join(CONTENT_DISTANCES)}")
        _check_weight(self.weight, "[stage.content] weight")
        known = range(2 * sum(VGG19) + len(VGG19))
        if not self.layers or not set(self.layers) <= set(known):
            raise ValueError(f"[stage.content] layers = {self.layers!r}: VGG19 has layers 0 to {known[-1]}")
        if self.shares and len(self.shares) != len(self.layers):
            raise ValueError("[stage.content] needs as many shares as layers")


@dataclass(frozen=True)
class AdversaryRecipe:
    """``[stage.adversary]``: the game, who plays it against the generator, and what the generator's loss weighs.

    ``rate_ratio`` is the discriminator's learning rate over the generator's.
    """

    weight: float = 1e-3
    game: str = "standard"
    discriminator: str = "dense"
    channels: int = 64
    norm_after_activation: bool = False
    rate_ratio: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight, "[stage.adversary] weight")
        _check_weight(self.rate_ratio, "[stage.adversary] rate_ratio")
        if self.game not in ADVERSARIAL:
            raise ValueError(f"unknown game {self.game!r}; known: {', '.join(ADVERSARIAL)}")
        if self.discriminator not in DISCRIMINATORS:
            raise ValueError(f"unknown discriminator {self.discriminator!r}; known: {', '.join(DISCRIMINATORS)}")


SCHEDULES = ("cosine", "drop")


@dataclass(frozen=True)
class Stage:
    """Some steps of Adam. The generator minimises ``pixel_weight`` times the pixel loss ``loss``, and what
    ``[stage.content]`` and ``[stage.adversary]`` add.

    After ``warmup`` steps at a rising rate, the rate falls from ``rate`` to ``final_rate``: along half a cosine, or
    ("drop") at once, halfway through the stage.

    ``shift``: content loss and adversary see a window that is so many HR pixels smaller than the crop, each time at
    another place. They pool and stride in steps of 2 to 16 pixels; where those always begin at the same of the
    generator's phases, it learns to draw their grid. ``grid_weight`` weighs a loss on such a grid itself
    (``losses.pixel.grid``).
    """

    steps: int
    loss: str = "l1"
    pixel_weight: float = 1.0
    rate: float = 1e-3
    final_rate: float = 1e-6
    warmup: int = 200
    schedule: str = "cosine"
    shift: int = 0
    grid_weight: float = 0.0
    content: ContentRecipe | None = None
    adversary: AdversaryRecipe | None = None

    def __post_init__(self) -> None:
        if self.loss not in PIXEL_LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; known: {', '.join(PIXEL_LOSSES)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}; known: {', '.join(SCHEDULES)}")
        _check_weight(self.pixel_weight, "[[stage]] pixel_weight")
        _check_weight(self.grid_weight, "[[stage]] grid_weight")
        if not (self.pixel_weight or self.content):
            raise ValueError("[[stage]] has neither a pixel nor a content loss: nothing would tie SR to LR")
        if not isinstance(self.shift, int) or self.shift < 0:
            raise ValueError(f"[[stage]] shift = {self.shift!r} is not a number of HR pixels")


def _check_weight(weight: float, name: str) -> None:
    if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
        raise ValueError(f"{name} = {weight!r} is not a number from 0 up")


@dataclass(frozen=True)
class Int8Recipe:
    """How the int8 file is made: calibrated on so many of the training pictures; ``float_layers``, named by their
    weights ("head", "trunk.2", "tail"), stay in float32."""

    pictures: int = 64
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.pictures, int) or self.pictures < 1:
            raise ValueError(f"[int8] pictures = {self.pictures!r} is not a number of pictures")
        if not isinstance(self.float_layers, tuple) or not all(isinstance(name, str) for name in self.float_layers):
            raise ValueError(f"[int8] float_layers = {self.float_layers!r} is not a list of names")


@dataclass(frozen=True)
class Fp16Recipe:
    """How the fp16 file is made: ``float_layers``, named as in ``Int8Recipe``, stay in float32."""

    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.float_layers, tuple) or not all(isinstance(name, str) for name in self.float_layers):
            raise ValueError(f"[fp16] float_layers = {self.float_layers!r} is not a list of names")


PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True)
class Recipe:
    """One network at one scale. ``start_from`` names a run, or an exported model, whose equal-shaped weights this
    one starts with; ``int8`` and ``fp16`` ask for further files beside the fp32 one. ``precision``: "bf16" means where
    the machine computes it faster than float32. ``blend``: what is exported lies so much of the way from the network it
    started from to the trained one; less than 1 takes back what an adversary overdoes."""

    name: str
    scale: int
    network: dict[str, Any]
    summary: str
    seed: int = 1
    data: DataRecipe = field(default_factory=DataRecipe)
    teacher: TeacherRecipe | None = None
    strength: StrengthRecipe | None = None
    stages: tuple[Stage, ...] = ()
    ema: float = 0.999
    precision: str = "bf16"
    start_from: str | None = None
    blend: float = 1.0
    int8: Int8Recipe | None = None
    fp16: Fp16Recipe | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if "architecture" not in self.network:
            raise ValueError("[network] names no architecture")
        if bool(self.network.get("strength")) != bool(self.strength):
            raise ValueError("[network] strength = true and a table [strength] belong together")
        if self.strength and self.int8:
            raise ValueError("[int8] is calibrated at one strength: a network that takes others has no int8 file")
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend = {self.blend!r} is not a share from 0 to 1")
        if self.blend < 1 and not self.start_from:
            raise ValueError("blend lies between two networks: start_from names none")
        for stage in self.stages:
            if self.seen(stage) < 1:
                raise ValueError(f"[[stage]] shift = {stage.shift}: nothing is left of a crop")
            reduction = DISCRIMINATORS[stage.adversary.discriminator].reduction if stage.adversary else 1
            if self.seen(stage) % reduction:
                raise ValueError(
                    f"an adversarial stage needs HR crops, less its shift, of a multiple of {reduction} px, "
                    f"not {self.seen(stage)}"
                )
        if self.teacher and self.data.crop > self.teacher.side - 2 * TAUGHT_MARGIN:
            raise ValueError(
                f"[data] crop = {self.data.crop}: of a teacher's {self.teacher.side} LR pixels all but "
                f"{TAUGHT_MARGIN} on each side are taught"
            )

    @property
    def title(self) -> str:
        return f"{self.name}-x{self.scale}"

    def seen(self, stage: Stage) -> int:
        """HR pixels along the side of what content loss and adversary see of a crop."""
        return self.data.crop * self.scale - stage.shift

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


def find_recipe(name_or_path: str, folder: Path = RECIPES, kind: str = "recipe") -> Path:
    """The file called so in ``folder``, or the one at that path; ``ValueError`` names what there is."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = folder / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise ValueError(f"no {kind} {name_or_path!r}; known: {known}")
    return path


def load_recipe(name_or_path: str) -> Recipe:
    """The recipe called so in ``training/recipes``, or the file at that path; ``ValueError`` says what is wrong.

    ``based_on`` in the file names another recipe, from which comes whatever the file does not say itself, table by
    table; of stages and mixes all or none.
    """
    path = find_recipe(name_or_path)
    try:
        table = _read(path)
        data = _data(table.pop("data", {}))
        stages = tuple(_stage(stage) for stage in table.pop("stage", []))
        teacher = typed(TeacherRecipe, _tuples(table.pop("teacher"))) if "teacher" in table else None
        strength = typed(StrengthRecipe, table.pop("strength")) if "strength" in table else None
        int8 = typed(Int8Recipe, _tuples(table.pop("int8"))) if "int8" in table else None
        fp16 = typed(Fp16Recipe, _tuples(table.pop("fp16"))) if "fp16" in table else None
        parts = {"data": data, "teacher": teacher, "strength": strength, "stages": stages, "int8": int8, "fp16": fp16}
        return typed(Recipe, table, **parts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def _read(path: Path, *above: Path) -> dict[str, Any]:
    """The file's table over those of the recipes that it is based on; ``above``: the files based on this one."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if "based_on" not in table:
        return table
    base = find_recipe(table.pop("based_on"))
    if base in (path, *above):
        raise ValueError(f"{base.stem} is based on itself")
    return _overlaid(_read(base, path, *above), table)


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _overlaid(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return below | both


def _data(table: dict[str, Any]) -> DataRecipe:
    if "codes" in table:
        table = {**table, "codes": typed(CodeRecipe, _tuples(table["codes"]))}
    if "mix" in table:
        table = {**table, "mix": tuple(typed(MixRecipe, _tuples(mix)) for mix in table["mix"])}
    return typed(DataRecipe, _tuples(table))


def _stage(table: dict[str, Any]) -> Stage:
    kinds = {"content": ContentRecipe, "adversary": AdversaryRecipe}
    return typed(
        Stage, table | {name: typed(cls, _tuples(table[name])) for name, cls in kinds.items() if name in table}
    )


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    """TOML's lists become tuples, so that a recipe stays hashable and unchangeable."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def typed(cls: type[Any], table: dict[str, Any], **parts: Any) -> Any:
    """``cls`` from a table of the file and from ``parts`` that were read already."""
    known = {f.name for f in dataclasses.fields(cls)} - set(parts)
    if unknown := set(table) - known:
        raise ValueError(f"unknown keys {sorted(unknown)}; known: {sorted(known)}")
    return cls(**table, **parts)
