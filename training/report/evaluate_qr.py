"""How many codes a reader reads, before and after a network, by size, blur and noise; which it reads wrongly.

Codes are drawn anew for each condition from a seed of their own, whole and on white, by ``qrcodes.whole_view``. None is
of the training pool. A code read as something that it does not say is the worst failure and is counted by itself.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import zxingcpp
from PIL import Image, ImageDraw
from tqdm import tqdm

from app.inference.zoo import ModelSpec, load_zoo
from training.data.qrcodes import LEVELS, Code, Pixels, make_code, render_pair, whole_size, whole_view
from training.report.evaluate import ServedPath, png, served_path
from training.report.records import Metrics

SCALE = 4
SEED = 0xC0DE5  # of the measure; training's are (recipe seed, step), the pool's another
SIZES = (1.1, 1.3, 1.5, 2.0, 3.0)  # LR pixels per module
BLURS = (0.0, 0.35, 0.5, 0.8, 1.2, 1.6)  # deviation in LR pixels
NOISES = (0.0, 5.0, 10.0)  # deviation in levels of 255
CELL = 44  # pixels of a heat map's cell
TRIPTYCHS = 6

Enlarge = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class Condition:
    """Versions 1 to 4, every error level; ``pixels_per_module`` is drawn evenly from the range."""

    name: str
    pixels_per_module: tuple[float, float]
    blur: float
    noise: float


JUDGED = 500  # codes of each goal, for the manifest
GOALS = (
    Condition("small: 1.1 to 1.5 px a module, light blur (0.5 px), noise 5", (1.1, 1.5), 0.5, 5.0),
    Condition("blurred: 2 px a module, strong blur (1.2 px), noise 3", (2.0, 2.0), 1.2, 3.0),
)
GOAL_NAMES = ("small", "blurred")
GRID = tuple(
    Condition(f"{size} px, blur {blur}, noise {noise:g}", (size, size), blur, noise)
    for noise in NOISES
    for blur in BLURS
    for size in SIZES
)


def zxing(image: Pixels) -> list[str]:
    return [code.text for code in zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode) if code.valid]


def opencv(image: Pixels) -> list[str]:
    text, _, _ = cv2.QRCodeDetector().detectAndDecode(image)
    return [text] if text else []


READERS: dict[str, Callable[[Pixels], list[str]]] = {"zxing": zxing, "opencv": opencv}


def bicubic(lr: Pixels) -> Pixels:
    return cv2.resize(lr, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)


@contextmanager
def enlargers(models: Path, names: Sequence[str]) -> Iterator[dict[str, Enlarge]]:
    """Bicubic and the zoo's networks of those names, each from LR to HR, uint8 ``[h, w, 3]`` to ``[4 h, 4 w, 3]``."""
    zoo = load_zoo(models)
    specs = {name: zoo.find(name, SCALE) for name in names}
    with served_path(zoo, specs.values()) as path:
        yield {"bicubic": bicubic} | {name: served(path, spec) for name, spec in specs.items()}


def served(path: ServedPath, spec: ModelSpec) -> Enlarge:
    return lambda lr: path.upscale(spec, png(lr))


def judge_codes(spec: ModelSpec, path: ServedPath) -> Metrics:
    """What the manifest tells of a network for codes: how many of each goal's are read, and how many wrongly."""
    figures: Metrics = {}
    for name, goal in zip(GOAL_NAMES, GOALS, strict=True):
        reading = measure(goal, JUDGED, {spec.name: served(path, spec)}, ("zxing",))
        share, wrong = reading.share(spec.name, "zxing"), reading.wrong[spec.name, "zxing"]
        figures[f"{JUDGED} {name} codes"] = {"codes_read": round(share, 4), "codes_wrong": len(wrong)}
    return figures


def samples(condition: Condition, count: int) -> Iterator[tuple[Code, Pixels, Pixels]]:
    """Codes with their LR and HR pictures; the same ones for the same condition, whatever ``count``."""
    key = [round(1000 * value) for value in (*condition.pixels_per_module, condition.blur, condition.noise)]
    for index in range(count):
        rng = np.random.default_rng((SEED, *key, index))
        code = make_code(rng, int(rng.integers(1, 5)), LEVELS[int(rng.integers(4))])
        size = float(rng.uniform(*condition.pixels_per_module))
        view = whole_view(rng, code, size, condition.blur, condition.noise)
        yield code, *render_pair(code, view, whole_size(code, size), SCALE, rng)


@dataclass(frozen=True)
class Reading:
    """Of ``count`` codes, by (method, reader): how many were read rightly, and what was read instead of what."""

    count: int
    right: Mapping[tuple[str, str], int]
    wrong: Mapping[tuple[str, str], list[tuple[str, str]]]

    def share(self, method: str, reader: str) -> float:
        return self.right[method, reader] / self.count


def measure(condition: Condition, count: int, methods: Mapping[str, Enlarge], readers: Sequence[str]) -> Reading:
    right: Counter[tuple[str, str]] = Counter()
    wrong: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for code, lr, _ in samples(condition, count):
        for method, enlarge in methods.items():
            enlarged = enlarge(lr)
            for reader in readers:
                found = READERS[reader](enlarged)
                right[method, reader] += code.content in found
                others = [(code.content, text) for text in found if text != code.content]
                wrong.setdefault((method, reader), []).extend(others)
    return Reading(count, right, wrong)


def evaluate_qr(models: Path, names: Sequence[str], count: int, goal_count: int, figures: Path) -> str:
    """Measures goals and grid; writes heat maps, triptychs and ``qr.json`` to ``figures``; gives the tables."""
    figures.mkdir(parents=True, exist_ok=True)
    with enlargers(models, names) as methods:
        return tables(methods, count, goal_count, figures)


def tables(methods: Mapping[str, Enlarge], count: int, goal_count: int, figures: Path) -> str:
    goals = {c: measure(c, goal_count, methods, ("zxing", "opencv")) for c in tqdm(GOALS, "goals")}
    grid = {c: measure(c, count, methods, ("zxing", "opencv")) for c in tqdm(GRID, "grid")} if count else {}
    for condition, name in zip(GOALS, GOAL_NAMES, strict=True):
        Image.fromarray(triptychs(condition, list(methods.values())[-1])).save(figures / f"qr-{name}.png")
    keys = [(method, reader) for reader in READERS for method in methods]
    for method, reader in keys if grid else []:
        heat_map(grid, method, reader).save(figures / f"qr-{method}-{reader}.png")
    readings = {**goals, **grid}
    figures.joinpath("qr.json").write_text(json.dumps([as_json(c, r, keys) for c, r in readings.items()], indent=1))
    parts = [goal_table(goals, keys), *(grid_table(grid, method, "zxing") for method in methods if grid)]
    return "\n\n".join([*parts, wrong_contents(readings.values(), keys)])


def goal_table(goals: Mapping[Condition, Reading], keys: Sequence[tuple[str, str]]) -> str:
    lines = ["| codes read | " + " | ".join(f"{method}, {reader}" for method, reader in keys) + " |"]
    lines.append("| --- |" + " --- |" * len(keys))
    for condition, reading in goals.items():
        shares = " | ".join(f"{reading.share(*key):.1%}" for key in keys)
        lines.append(f"| {condition.name} ({reading.count} codes) | {shares} |")
    return "\n".join(lines)


def grid_table(grid: Mapping[Condition, Reading], method: str, reader: str) -> str:
    """Shares in percent; a row a noise and blur, a column a size."""
    lines = [f"{method}, {reader}: % read", "| noise | blur | " + " | ".join(f"{s} px" for s in SIZES) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(SIZES))
    for noise in NOISES:
        for blur in BLURS:
            found = [r.share(method, reader) for c, r in grid.items() if (c.noise, c.blur) == (noise, blur)]
            lines.append(f"| {noise:g} | {blur} | " + " | ".join(f"{100 * share:.0f}" for share in found) + " |")
    return "\n".join(lines)


def wrong_contents(readings: Sequence[Reading], keys: Sequence[tuple[str, str]]) -> str:
    """How many codes were read as something else, and each of those."""
    lines, total = [], sum(reading.count for reading in readings)
    for key in keys:
        mistakes = [pair for reading in readings for pair in reading.wrong.get(key, [])]
        lines.append(f"wrong contents, {key[0]}, {key[1]}: {len(mistakes)} of {total:,}")
        lines += [f"  {was!r} was read as {read!r}" for was, read in mistakes]
    return "\n".join(lines)


def as_json(condition: Condition, reading: Reading, keys: Sequence[tuple[str, str]]) -> dict[str, object]:
    read = {f"{method}/{reader}": reading.right[method, reader] for method, reader in keys}
    wrong = {f"{method}/{reader}": reading.wrong.get((method, reader), []) for method, reader in keys}
    return {**dataclasses.asdict(condition), "codes": reading.count, "read": read, "wrong": wrong}


def heat_map(grid: Mapping[Condition, Reading], method: str, reader: str) -> Image.Image:
    """Green is read, red is not: a panel a noise, a row a blur, a column a size in pixels per module."""
    margin = 52
    panel = margin + CELL * len(SIZES) + 12
    image = Image.new("RGB", (panel * len(NOISES), 2 * margin + CELL * len(BLURS)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 6), f"{method}: % of codes read by {reader} (columns: px a module; rows: blur, px)", "black")
    for index, noise in enumerate(NOISES):
        left = index * panel
        draw.text((left + margin, margin - 16), f"noise {noise:g}", "black")
        for row, blur in enumerate(BLURS):
            draw.text((left + 10, margin + CELL * row + 15), f"{blur}", "black")
        for column, size in enumerate(SIZES):
            draw.text((left + margin + CELL * column + 8, margin + CELL * len(BLURS) + 6), f"{size}", "black")
    for condition, reading in grid.items():
        left = NOISES.index(condition.noise) * panel
        x = left + margin + CELL * SIZES.index(condition.pixels_per_module[0])
        y = margin + CELL * BLURS.index(condition.blur)
        share = reading.share(method, reader)
        colour = (round(220 - 150 * share), round(80 + 110 * share), 80)
        draw.rectangle((x, y, x + CELL - 2, y + CELL - 2), colour)
        draw.text((x + 10, y + 15), f"{100 * share:.0f}", "white")
    return image


def triptychs(condition: Condition, enlarge: Enlarge) -> Pixels:
    """Input (by nearest neighbour) | output | original, some codes one above the other."""
    rows = []
    for _, lr, hr in samples(condition, TRIPTYCHS):
        rows.append(np.concatenate([lr.repeat(SCALE, 0).repeat(SCALE, 1), enlarge(lr), hr], axis=1))
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 8), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )
