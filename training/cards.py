"""A model's card: what the manifest tells of it, to be read by people, with a picture. Written at export."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.zoo import ModelFile, ModelSpec, Zoo, load_zoo
from training.crops import save_picture, side_by_side
from training.evaluate import choose
from training.records import MEASURES, figures_cell, meaning
from training.sample import CREDIT, PATCH, enlarged, sample_picture

CARDS = "cards"  # below the model folder
ZOOM = 2


def write_card(models: Path, zoo: Zoo, spec: ModelSpec) -> Path:
    """``cards/<title>.md`` and ``cards/<title>.webp`` for a model that is in the manifest; returns the former."""
    panels = enlarged(zoo, [(spec, "fp32")], sample_picture())
    picture = models / CARDS / f"{spec.title}.webp"
    save_picture(side_by_side(panels, PATCH, ZOOM), picture)
    path = picture.with_suffix(".md")
    path.write_text(card(spec, picture.name), encoding="utf-8")
    return path


def write_cards(models: Path, titles: Iterable[str] = ()) -> list[Path]:
    """The cards of the models named (``name`` or ``name-xN``), or of all that the manifest has."""
    zoo = load_zoo(models)
    specs = dict.fromkeys(spec.title for spec, _ in choose(zoo, titles))
    return [write_card(models, zoo, spec) for spec in zoo if spec.title in specs]


def card(spec: ModelSpec, picture: str) -> str:
    """The card as Markdown; nothing in it is from elsewhere than the manifest."""
    parts = [
        f"# {spec.title}",
        spec.summary,
        f"![LR, bicubic, {spec.name} and the original, the same crop]({picture})",
        f"Picture: {CREDIT}, reduced by bicubic; luma PSNR of the crop.",
        rows(("", ""), facts(spec)),
        "## Files",
        rows(("precision", "file", "bytes", "sha256"), map(file_row, spec.files.items())),
        *quality(spec.files),
        *training(spec.training),
    ]
    return "\n\n".join(parts) + "\n"


def facts(spec: ModelSpec) -> list[tuple[str, str]]:
    recipe = f"[{Path(spec.recipe).name}](../../{spec.recipe})" if spec.recipe.endswith(".toml") else spec.recipe
    return [
        ("architecture", spec.architecture),
        ("scale", f"x{spec.scale}"),
        ("parameters", f"{spec.parameters:,}"),
        ("multiply-accumulates per LR pixel", f"{spec.macs:,}"),
        ("context", f"{spec.context} LR pixels"),
        ("recipe", recipe),
        ("licence of the weights", spec.licence),
    ]


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


TRAINING_NAMES = {
    "of_steps": "steps of the recipe",
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
