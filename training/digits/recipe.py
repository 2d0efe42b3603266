"""A digits recipe: which GAN, how it learns. One small TOML file each in ``training/digits/recipes``."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from training.digits.networks import GANS
from training.recipe import find_recipe, typed

RECIPES = Path(__file__).parent / "recipes"
OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class DigitsRecipe:
    """``name`` is the model's name, ``title`` the run's: two recipes may be variants of one model.

    From ``decay_from`` (a share of the steps) on, the rate falls linearly to 0. ``ema`` is the decay of the averaged
    generator, which is what is drawn with; 0 keeps the generator as it is.
    """

    title: str
    summary: str
    gan: str
    channels: int
    latent: int = 100
    optimizer: str = "adam"
    rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 10_000
    batch: int = 32
    ema: float = 0.0
    decay_from: float = 1.0
    seed: int = 1
    name: str = "digits"

    def __post_init__(self) -> None:
        if self.gan not in GANS:
            raise ValueError(f"unknown gan {self.gan!r}; known: {', '.join(GANS)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}; known: {', '.join(OPTIMIZERS)}")
        for field in ("channels", "latent", "steps"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} = {getattr(self, field)} is not a number from 1 up")
        if self.batch < 2:
            raise ValueError("batch must be 2 or more: batch normalisation has no variance of one picture")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema = {self.ema} is not from 0 to below 1")


def load_digits_recipe(name_or_path: str) -> DigitsRecipe:
    """The recipe called so, or the file at that path; ``ValueError`` says what is wrong."""
    path = find_recipe(name_or_path, RECIPES, "digits recipe")
    try:
        recipe: DigitsRecipe = typed(DigitsRecipe, tomllib.loads(path.read_text(encoding="utf-8")))
        return recipe
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from error
