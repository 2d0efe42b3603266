"""A recipe: everything that makes a published network, as one small TOML file. Unknown keys fail."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.degradations import DEGRADATIONS
from training.losses import PIXEL_LOSSES

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class DataRecipe:
    """Which pictures, and how pairs are cut from them.

    ``pictures`` and ``validation`` are folders below the data folder. ``crop`` is the LR side of a training patch in
    pixels. ``sampling``: "uniform", or "detail" to draw pictures in proportion to their mean gradient.
    """

    pictures: str = "photos"
    validation: str = "kodak"
    degradation: str = "bicubic"
    crop: int = 48
    batch: int = 16
    sampling: str = "uniform"

    def __post_init__(self) -> None:
        if self.degradation not in DEGRADATIONS:
            raise ValueError(f"unknown degradation {self.degradation!r}; known: {', '.join(DEGRADATIONS)}")
        if self.sampling not in ("uniform", "detail"):
            raise ValueError(f"unknown sampling {self.sampling!r}; known: uniform, detail")


@dataclass(frozen=True)
class Stage:
    """Some steps of Adam with one loss; the rate falls along a cosine to ``final_rate``."""

    steps: int
    loss: str = "l1"
    rate: float = 1e-3
    final_rate: float = 1e-6
    warmup: int = 200

    def __post_init__(self) -> None:
        if self.loss not in PIXEL_LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; known: {', '.join(PIXEL_LOSSES)}")


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
    """One network at one scale. ``start_from`` names a run whose equal-shaped weights this one starts with; ``int8``
    and ``fp16`` ask for further files beside the fp32 one."""

    name: str
    scale: int
    network: dict[str, Any]
    summary: str
    seed: int = 1
    data: DataRecipe = field(default_factory=DataRecipe)
    stages: tuple[Stage, ...] = ()
    ema: float = 0.999
    precision: str = "bf16"
    start_from: str | None = None
    int8: Int8Recipe | None = None
    fp16: Fp16Recipe | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if "architecture" not in self.network:
            raise ValueError("[network] names no architecture")

    @property
    def title(self) -> str:
        return f"{self.name}-x{self.scale}"

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


def load_recipe(name_or_path: str) -> Recipe:
    """The recipe called so in ``training/recipes``, or the file at that path; ``ValueError`` says what is wrong."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise ValueError(f"no recipe {name_or_path!r}; known: {known}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        data = _typed(DataRecipe, table.pop("data", {}))
        stages = tuple(_typed(Stage, stage) for stage in table.pop("stage", []))
        int8 = _with_layers(Int8Recipe, table.pop("int8")) if "int8" in table else None
        fp16 = _with_layers(Fp16Recipe, table.pop("fp16")) if "fp16" in table else None
        return _typed(Recipe, table, data=data, stages=stages, int8=int8, fp16=fp16)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def _with_layers(cls: type[Any], table: dict[str, Any]) -> Any:
    """TOML's list of layers becomes a tuple, so that a recipe stays hashable and unchangeable."""
    layers = table.pop("float_layers", ())
    return _typed(cls, {**table, "float_layers": tuple(layers) if isinstance(layers, list) else layers})


def _typed(cls: type[Any], table: dict[str, Any], **parts: Any) -> Any:
    """``cls`` from a table of the file and from ``parts`` that were read already."""
    known = {f.name for f in dataclasses.fields(cls)} - set(parts)
    if unknown := set(table) - known:
        raise ValueError(f"unknown keys {sorted(unknown)}; known: {sorted(known)}")
    return cls(**table, **parts)
