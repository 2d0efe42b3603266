"""Looks compared: networks of the zoo and of others on the same spoiled pictures, in one run, with crops."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.inference.zoo import ModelSpec, Zoo
from training.checkpoint import Folders
from training.report.cache import Cache, digest_of
from training.report.conditions import CONDITIONS
from training.report.crops import Panel, most_different, save_picture, side_by_side, versions
from training.report.evaluate import ServedPath, means, measure_speed, png, served_path, serves_scale, test_pairs
from training.report.fidelity import fidelity
from training.report.looks import Judges
from training.report.metrics import Pixels
from training.report.records import FIDELITY, LOOKS, MEASURES, TIMES, Record
from training.report.rivals import Rival, read_rival

ORIGINAL = "original"  # the test set's own pictures, of which NIQE and fidelity say something too
CROP_SIDE = 192  # HR pixels, shown at full size
SHOWN = (*LOOKS, "psnr_rgb", "psnr_y", "ssim_y", *FIDELITY)
Enlarge = Callable[[Pixels], Pixels]
Found = dict[str, dict[str, list[dict[str, float]]]]
"""By the network's label, then by ``set (condition)``: the figures of each picture."""


@dataclass(frozen=True)
class Comparison:
    """Who is compared on what. The way from ``base`` to each of the ``goals`` is measured, networks by their labels."""

    files: Sequence[tuple[ModelSpec, str]]
    rivals: Sequence[Rival]
    sets: Sequence[str]
    conditions: Sequence[str]
    judges: Judges
    cache: Cache
    base: str = ""
    goals: Sequence[str] = ()
    crops: int = 0
    figures: Path | None = None

    @property
    def scale(self) -> int:
        return next(iter(self.scales))

    @property
    def scales(self) -> set[int]:
        return {spec.scale for spec, _ in self.files} | {rival.scale for rival in self.rivals}

    def check(self, folders: Folders) -> None:
        """``ValueError`` says what does not go together."""
        if len(self.scales) != 1:
            raise ValueError(f"looks are compared at one scale, not at {sorted(self.scales)}: name models as NAME-xN")
        for name in self.sets:
            if not serves_scale(folders.data / name, self.scale):
                raise ValueError(
                    f"{folders.data / name} has no pictures for x{self.scale}; give its folder with --data"
                )
        labels = [label_of(spec, precision) for spec, precision in self.files] + [each.name for each in self.rivals]
        for role, label in (("base", self.base), *(("goal", goal) for goal in self.goals)):
            if label and label not in labels:
                raise ValueError(f"the {role} {label!r} is none of {', '.join(labels)}")


def label_of(spec: ModelSpec, precision: str) -> str:
    return spec.name if precision == "fp32" else f"{spec.name} {precision}"


def evaluate_looks(zoo: Zoo, comparison: Comparison, folders: Folders, measures: Iterable[str]) -> list[Record]:
    """One record a network, the zoo's first; its metrics are by ``set (condition)``.

    ``measures``: "quality", which is always measured here, and "speed".
    """
    comparison.check(folders)
    records = {label_of(spec, precision): Record.of(spec, precision, {}) for spec, precision in comparison.files}
    records |= {rival.name: record_of(rival) for rival in comparison.rivals}
    records[ORIGINAL] = Record(ORIGINAL, 1, "fp32", "", "", 0, 0, {}, None)
    with ExitStack() as stack:
        paths = [(spec, p, stack.enter_context(served_path(zoo, [spec], p))) for spec, p in comparison.files]
        networks = {label_of(spec, p): enlarger(spec, path) for spec, p, path in paths}
        networks |= {rival.name: cached_enlarger(rival, comparison.cache) for rival in comparison.rivals}
        found = judge_all(networks, comparison, folders)
        if "speed" in measures:
            for spec, p, path in paths:
                label = label_of(spec, p)
                records[label] = replace(records[label], speed=measure_speed(path.engine, spec))
            for rival in comparison.rivals:
                records[rival.name] = replace(records[rival.name], speed=rival.speed())
    return [
        replace(record, metrics={name: means(scores) for name, scores in found[label].items()})
        for label, record in records.items()
    ]


def record_of(rival: Rival) -> Record:
    return Record(
        rival.name, rival.scale, rival.precision, rival.sha256, rival.architecture, rival.parameters, 0, {}, None
    )


def enlarger(spec: ModelSpec, path: ServedPath) -> Enlarge:
    return lambda lr: path.upscale(spec, png(lr))


def cached_enlarger(rival: Rival, cache: Cache) -> Enlarge:
    return lambda lr: cache.pixels([rival.sha256, rival.precision, digest_of(lr)], lambda: rival.enlarge(lr))


def judge_all(networks: dict[str, Enlarge], comparison: Comparison, folders: Folders) -> Found:
    """Picture by picture, so that what the judges see in an original is computed once for all networks."""
    found: Found = {label: {} for label in (*networks, ORIGINAL)}
    for name in comparison.sets:
        pictures = list(originals(folders.data / name, comparison.scale))
        drawn = evenly(len(pictures), comparison.crops)
        for index, hr in enumerate(tqdm(pictures, desc=name, unit="picture")):
            for condition in comparison.conditions:
                lr = CONDITIONS[condition](hr, comparison.scale)
                results = {label: enlarge(lr) for label, enlarge in networks.items()}
                all_figures = {label: judged(sr, hr, lr, comparison) for label, sr in results.items()}
                all_figures[ORIGINAL] = fidelity(hr, lr, comparison.scale)
                if comparison.judges.niqe:
                    all_figures[ORIGINAL]["niqe"] = comparison.judges.niqe(hr)
                for label, figures in all_figures.items():
                    found[label].setdefault(f"{name} ({condition})", []).append(figures)
                if comparison.figures and index in drawn:
                    draw(results, lr, hr, comparison.figures / f"looks-{name}-{condition}-{index:03}.png")
    return found


def evenly(length: int, count: int) -> set[int]:
    """So many places of a list, from its first to its last."""
    return {round(place) for place in np.linspace(0, length - 1, min(count, length))}


def originals(folder: Path, scale: int) -> Iterator[Pixels]:
    """HR uint8 ``[H, W, 3]``, sides multiples of the scale."""
    for _, hr in test_pairs(folder, scale):
        height, width = (side // scale * scale for side in hr.shape[:2])
        yield np.ascontiguousarray(hr[:height, :width])


def judged(sr: Pixels, hr: Pixels, lr: Pixels, comparison: Comparison) -> dict[str, float]:
    origin: list[object] = [comparison.judges.identity, comparison.scale, digest_of(sr), digest_of(hr)]
    looks = comparison.cache.figures(origin, lambda: comparison.judges(sr, hr, comparison.scale))
    return looks | fidelity(sr, lr, comparison.scale)


def draw(results: dict[str, Pixels], lr: Pixels, hr: Pixels, path: Path) -> None:
    """The part of a picture in which the networks differ most, every version at full size."""
    panels = versions(lr, hr, [Panel(label, sr) for label, sr in results.items() if label != "bicubic"])
    box = most_different([*results.values(), hr], CROP_SIDE, CROP_SIDE)
    save_picture(side_by_side(panels, box, 1), path)


# -- told --------------------------------------------------------------------------------------------------------


def looks_table(records: Sequence[Record], base: str, goals: Iterable[str]) -> str:
    """Markdown: for each ``set (condition)`` a table, a row a network; below them, where there is a base, the share of
    the way from it to each goal that every other network goes."""
    parts = []
    for name in records[0].metrics:
        show = [key for key in SHOWN if key in records[0].metrics[name]]
        heads = [name, "parameters", "LR Mpx/s", *(key.replace("_", " ") for key in show)]
        lines = [f"| {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) - 1)]
        lines += [row(record, name, show) for record in records]
        lines += list(share_rows(records, name, show, base, goals))
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, footnote(records)])


def row(record: Record, name: str, show: Sequence[str]) -> str:
    speed = f"{record.speed.lr_mpx_per_s:.3f}" if record.speed else "-"
    figures = record.metrics[name]
    cells = [f"{figures[key]:.{MEASURES[key].digits}f}" if key in figures else "-" for key in show]
    label = f"`{record.name}`" + (f", {record.precision}" if record.precision != "fp32" else "")
    return f"| {' | '.join([label, f'{record.parameters:,}', speed, *cells])} |"


def share_rows(
    records: Sequence[Record], name: str, show: Sequence[str], base: str, goals: Iterable[str]
) -> Iterator[str]:
    by_label = {record.name if record.precision == "bf16" else record.label: record for record in records}
    if base not in by_label:
        return
    start = by_label[base].metrics[name]
    for goal in goals:
        end = by_label[goal].metrics[name]
        for label, record in by_label.items():
            if label not in (base, goal, ORIGINAL):
                here = record.metrics[name]
                shares = [share_of_way(start[key], here[key], end[key]) if key in LOOKS else None for key in show]
                cells = ["-" if share is None else f"{share:.2f}" for share in shares]
                yield f"| `{label}`, of the way from `{base}` to `{goal}` | | | {' | '.join(cells)} |"


def share_of_way(start: float, here: float, goal: float) -> float | None:
    """0 at the start, 1 at the goal, for figures of which less is better; none where the goal is no better."""
    return (start - here) / (start - goal) if start > goal else None


def footnote(records: Sequence[Record]) -> str:
    machines = dict.fromkeys(record.speed.machine for record in records if record.speed)
    timed = f" LR Mpx/s: the bare ONNX Runtime session in fp32 unless told otherwise, {'; '.join(machines)}."
    told = "LPIPS, DISTS and NIQE: less is better. `lr psnr` (dB, RGB) and `lr delta e` (CIEDE2000): SR, reduced, "
    told += "against LR. `grid`: deviation of what repeats itself every 8 pixels, levels of luma. "
    return f"{told}{TIMES}{records[0].scale}.{timed if machines else ''}"


def read_rivals(paths: Iterable[Path]) -> list[Rival]:
    rivals = [read_rival(path) for path in paths]
    names = [rival.name for rival in rivals]
    if len(set(names)) < len(names):
        raise ValueError(f"two rivals are called alike: {', '.join(names)}")
    return rivals
