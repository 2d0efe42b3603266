"""A model's card: what the manifest tells of it, to be read by people, with a picture. Written at export."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import skimage.data
from PIL import Image

from app.inference.zoo import GeneratorSpec, ModelFile, ModelSpec, Zoo, load_zoo
from training.data.degradations import RANDOM_DEGRADATIONS
from training.data.qrcodes import CODES
from training.report.conditions import WEB_QUALITY, web
from training.report.crops import Box, save_picture, side_by_side
from training.report.evaluate import choose
from training.report.records import MEASURES, figures_cell, meaning
from training.report.sample import (
    CODE_CREDIT,
    CREDIT,
    GRID_SEED,
    PATCH,
    draw_grid,
    enlarged,
    sample_code,
    sample_pair,
    sample_picture,
)

Spec = ModelSpec | GeneratorSpec

CARDS = "cards"  # below the model folder
ZOOM = 2
CAT_CREDIT = "Chelsea the cat, photographed by Stefan van der Walt, CC0 (`skimage.data.chelsea()`)"
EYE = Box(96, 36, 192, 192)  # HR pixels


def write_card(models: Path, zoo: Zoo, spec: Spec) -> Path:
    """``cards/<title>.md`` and ``cards/<title>.webp`` for a model that is in the manifest; returns the former."""
    picture = models / CARDS / f"{spec.title}.webp"
    save_picture(portrait(zoo, spec), picture)
    path = picture.with_suffix(".md")
    path.write_text(card(spec, picture.name), encoding="utf-8")
    return path


def write_cards(models: Path, titles: Iterable[str] = ()) -> list[Path]:
    """The cards of the models named (``name`` or ``name-xN``) and of generators, or of all that the manifest has."""
    zoo, titles = load_zoo(models), set(titles)
    drawn = [spec for spec in zoo.generators if not titles or spec.title in titles]
    others = titles - {spec.title for spec in drawn}
    chosen = {spec.title for spec, _ in choose(zoo, others)} if others or not titles else set()
    return [write_card(models, zoo, spec) for spec in (*zoo, *zoo.generators) if spec in drawn or spec.title in chosen]


def portrait(zoo: Zoo, spec: Spec) -> Image.Image:
    """What the network does with a sample: a crop of a photograph, a QR code, or a grid of what it draws."""
    if isinstance(spec, GeneratorSpec):
        return draw_grid(zoo, spec)
    if spec.training.get("degradation") == CODES:
        lr, hr = sample_code(spec.scale)
        return side_by_side(enlarged(zoo, [(spec, "fp32")], lr, hr), Box(0, 0, hr.shape[1], hr.shape[0]), 1)
    if found(spec):
        lr, hr = sample_pair(skimage.data.chelsea(), spec.scale, web)
        return side_by_side(enlarged(zoo, [(spec, "fp32")], lr, hr), EYE, 1)
    return side_by_side(enlarged(zoo, [(spec, "fp32")], *sample_pair(sample_picture(), spec.scale)), PATCH, ZOOM)


def found(spec: Spec) -> bool:
    """Whether a network is for pictures as people have them, and is shown one."""
    return spec.training.get("degradation") in RANDOM_DEGRADATIONS


def card(spec: Spec, picture: str) -> str:
    """The card as Markdown; nothing in it is from elsewhere than the manifest."""
    caption, text = captions(spec)
    parts = [
        f"# {spec.title}",
        spec.summary,
        f"![{caption}]({picture})",
        text,
        rows(("", ""), facts(spec)),
        "## Files",
        rows(("precision", "file", "bytes", "sha256"), map(file_row, spec.files.items())),
        *(drawing(spec) if isinstance(spec, GeneratorSpec) else quality(spec.files)),
        *training(spec.training),
    ]
    return "\n\n".join(parts) + "\n"


def captions(spec: Spec) -> tuple[str, str]:
    """What is seen in the picture, and what stands below it."""
    if isinstance(spec, GeneratorSpec):
        return f"what {spec.name} draws", f"Drawn with the seed {GRID_SEED}, none left out."
    if spec.training.get("degradation") == CODES:
        return f"LR, bicubic, {spec.name} and the original, a QR code", f"{CODE_CREDIT}; luma PSNR."
    credit = (
        f"{CAT_CREDIT}, reduced by averaging, JPEG of quality {WEB_QUALITY}"
        if found(spec)
        else f"{CREDIT}, reduced by bicubic"
    )
    return (
        f"LR, bicubic, {spec.name} and the original, the same crop",
        f"Picture: {credit}; luma PSNR of the crop.",
    )


def facts(spec: Spec) -> list[tuple[str, str]]:
    recipe = f"[{Path(spec.recipe).name}](../../{spec.recipe})" if spec.recipe.endswith(".toml") else spec.recipe
    common = [("recipe", recipe), ("licence of the weights", spec.licence)]
    start = [("architecture", spec.architecture), ("parameters", f"{spec.parameters:,}")]
    if isinstance(spec, GeneratorSpec):
        size = f"{spec.height} x {spec.width} x {spec.channels}"
        own = [
            ("multiply-accumulates per picture", f"{spec.macs:,}"),
            ("latent numbers", str(spec.latent)),
            ("picture", size),
        ]
        return [*start, *own, *common]
    own = [("multiply-accumulates per LR pixel", f"{spec.macs:,}"), ("context", f"{spec.context} LR pixels")]
    return [start[0], ("scale", f"x{spec.scale}"), start[1], *own, *common]


def file_row(item: tuple[str, ModelFile]) -> tuple[str, ...]:
    precision, file = item
    return precision, f"`{file.path}`", f"{file.bytes:,}", f"`{file.sha256}`"


def quality(files: Mapping[str, ModelFile]) -> list[str]:
    """A table a row a precision, a column a test set; none where nothing was measured."""
    sets = list(dict.fromkeys(name for file in files.values() for name in file.metrics))
    if not sets:
        return []
    known = {key for file in files.values() for figures in file.metrics.values() for key in figures}
    show = [key for key in MEASURES if key in known]
    cells = [(p, *(figures_cell(dict(file.metrics.get(name, {})), show) for name in sets)) for p, file in files.items()]
    return ["## Quality", rows(("precision", *sets), cells), meaning(show)]


def drawing(spec: GeneratorSpec) -> list[str]:
    """A table of what the judge says of its samples."""
    measured = [figures for file in spec.files.values() for figures in file.metrics.values()]
    if not measured:
        return []
    cells = [
        (name, f"{figures[key]:g}") for figures in measured for key, name in JUDGED_NAMES.items() if key in figures
    ]
    return ["## Quality", rows(("", ""), cells)]


JUDGED_NAMES = {
    "samples": "samples judged",
    "sure": "share that the judge classes with a confidence over 0.9",
    "rarest_class": "share of the rarest class",
    "frechet": "Frechet distance to the test digits in the judge's features",
    "judge_accuracy": "the judge's own accuracy on the test digits",
}

TRAINING_NAMES = {
    "of_steps": "steps of the recipe",
    "blend": "share of the way from the start to the trained weights",
    "seconds": "time",
    "machines": "machine",
    "final_loss": "loss at the end",
    "validation_psnr_y": "validation PSNR on luma at the end",
}


def training(told: Mapping[str, Any]) -> list[str]:
    """Every fact of the training that the manifest tells, and the log's summary as a table of its own."""
    if not told.get("steps"):
        return ["## Training", "Not trained: its weights are a formula."] if told.get("steps") == 0 else []
    plain = {key: value for key, value in told.items() if key not in ("log", "steps", "of_steps")}
    steps = f"{told['steps']:,}" + (f" of {told['of_steps']:,}" if "of_steps" in told else "")
    table = [("steps", steps)]
    table += [(TRAINING_NAMES.get(key, key.replace("_", " ")), written(key, value)) for key, value in plain.items()]
    parts = ["## Training", rows(("", ""), table)]
    if log := told.get("log"):
        columns = list(dict.fromkeys(key for row in log for key in row))
        cells = [[written(key, row[key]) if key in row else "" for key in columns] for row in log]
        parts += ["The log in short:", rows(columns, cells)]
    return parts


def written(key: str, value: Any) -> str:
    if key == "seconds":
        return duration(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def duration(seconds: float) -> str:
    """ "2 min 24 s" or "1 h 20 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def rows(heads: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
