"""Plots: quality against speed of the whole zoo, and the curves of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from training.report.records import Record, public_facts

OURS, OTHERS = "#c2410c", "#475569"
NOT_LOSSES = {"step", "rate", "psnr_y", "seconds", "loader_share"}
DPI = 110
DISTANCES = (8, 12, 18, 26, 36, 48, 62, 78, 96, 116, 138, 162, 190)  # of a label from its point, in pixels
ANGLES = (0, 90, 270, 180, *range(15, 360, 15))  # in which it is looked for a free place: the plain ones first


@dataclass(frozen=True)
class Point:
    """One network in the plot: LR megapixels a second and luma PSNR in dB."""

    label: str
    speed: float
    psnr: float
    ours: bool


def draw_scatter(records: Sequence[Record], sets: Sequence[str], folder: Path) -> None:
    """``scatter-x<scale>.png`` for each scale of which something is known, on the first test set that is."""
    for scale in sorted({record.scale for record in records}):
        drawn = (scatter(records, scale, name) for name in sets)
        if figure := next((figure for figure in drawn if figure), None):
            save_plot(figure, folder / f"scatter-x{scale}.png")


def points(records: Sequence[Record], scale: int, test_set: str) -> list[Point]:
    """Every file of that scale whose speed and quality are known, and the public networks."""
    found = [
        Point(record.label, record.speed.lr_mpx_per_s, record.metrics[test_set]["psnr_y"], True)
        for record in records
        if record.scale == scale and record.speed and test_set in record.metrics
    ]
    for network in public_facts()["network"]:
        if network["scale"] == scale and test_set in network["psnr_y"]:
            star = "*" if network.get("published") else ""
            found.append(Point(network["name"] + star, network["lr_mpx_per_s"], network["psnr_y"][test_set], False))
    return found


def scatter(records: Sequence[Record], scale: int, test_set: str) -> Figure | None:
    """Quality against speed at one scale; ``None`` while nothing of ours has both figures."""
    shown = points(records, scale, test_set)
    if not any(point.ours for point in shown):
        return None
    figure = Figure(figsize=(7.6, 4.8), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for ours, marker, colour, name in ((True, "o", OURS, "this zoo"), (False, "D", OTHERS, "public networks")):
        group = [point for point in shown if point.ours is ours]
        if group:
            xs, ys = [point.speed for point in group], [point.psnr for point in group]
            axes.scatter(xs, ys, s=46 if ours else 30, marker=marker, color=colour, label=name, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.14)
    axes.grid(True, which="major", color="#e2e8f0")
    axes.set_xlabel("LR Mpx/s on CPU, fp32 unless told otherwise (more is faster)")
    axes.set_ylabel(f"luma PSNR on {test_set}, x{scale} (dB)")
    if len({point.ours for point in shown}) > 1:
        axes.legend(loc="best", frameon=False)
    figure.supxlabel(footnote(records, scale, shown), fontsize=7, color=OTHERS)
    label_points(axes, shown)
    return figure


def footnote(records: Sequence[Record], scale: int, shown: Sequence[Point]) -> str:
    """On which machines the speeds were measured; they are not one machine's unless it says so."""
    timed = [record.speed.machine for record in records if record.scale == scale and record.speed]
    lines = ["This zoo: " + "; ".join(dict.fromkeys(timed)) + "."]
    if not all(point.ours for point in shown):
        lines.append(f"Public networks: {public_facts()['machine']}.")
    if any(point.label.endswith("*") for point in shown):
        lines.append("*: quality as published.")
    return " ".join(lines)


def label_points(axes: Axes, shown: Sequence[Point]) -> None:
    """Writes each label at the nearest place that neither a label nor a marker has; a line leads to those further off.

    Crowded points are placed first, since they have the fewest places.
    """
    figure = axes.get_figure()
    figure.draw_without_rendering()  # fixes the layout, so that data have pixels
    figure.set_layout_engine("none")
    at = {point: axes.transData.transform((point.speed, point.psnr)) for point in shown}
    markers = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in at.values()]
    words, lines = [], []
    legend = axes.get_legend()
    if legend:
        words.append(legend.get_window_extent())
    for point in sorted(shown, key=lambda p: min((abs(at[p] - at[q]).sum() for q in shown if q != p), default=0)):
        covered, line = place(axes, point, at[point], words, markers + lines)
        words.append(covered)
        lines += line


def place(
    axes: Axes, point: Point, at: tuple[float, float], words: Sequence[Bbox], others: Sequence[Bbox]
) -> tuple[Bbox, list[Bbox]]:
    """Writes one label; returns the pixels it covers, and boxes along the line to it.

    The label avoids ``words`` and ``others``; its line avoids ``words`` only, for points may coincide.
    """
    for far in DISTANCES:
        for angle in ANGLES:
            x, y = far * math.cos(math.radians(angle)), far * math.sin(math.radians(angle))
            label = annotate(axes, point, x, y, line=far > DISTANCES[1])
            covered = extent(label).padded(1)
            inside = axes.bbox.fully_containsx(covered.x0) and axes.bbox.fully_containsx(covered.x1)
            inside = inside and axes.bbox.fully_containsy(covered.y0) and axes.bbox.fully_containsy(covered.y1)
            line = between(at, covered)
            free = inside and not covered.count_overlaps([*words, *others])
            if free and not any(box.count_overlaps(words) for box in line):
                return covered, line
            label.remove()
    raise ValueError(f"no free place for the label {point.label!r}")


def between(at: tuple[float, float], label: Bbox) -> list[Bbox]:
    """Small boxes along the line that Matplotlib draws: from the point towards the label's middle, up to its edge."""
    middle = np.array([label.x0 + label.x1, label.y0 + label.y1]) / 2
    steps = np.arange(0, 1, 2 / max(2.0, float(np.hypot(*(middle - at)))))
    places = [at + (middle - at) * step for step in steps]
    return [Bbox.from_bounds(x - 1, y - 1, 2, 2) for x, y in places if not label.contains(x, y)]


def extent(label: Annotation) -> Bbox:
    """The pixels of the words alone; the annotation's own answer counts its line too."""
    label.get_window_extent()  # moves the words to their place
    return Text.get_window_extent(label)


def annotate(axes: Axes, point: Point, x: float, y: float, line: bool) -> Annotation:
    """A label ``x`` to the right of and ``y`` above its point, in pixels."""
    colour = OURS if point.ours else OTHERS
    return axes.annotate(
        point.label,
        (point.speed, point.psnr),
        xytext=(x, y),
        textcoords="offset pixels",
        ha="left" if x > abs(y) / 2 else "right" if -x > abs(y) / 2 else "center",
        va="bottom" if y > abs(x) else "top" if -y > abs(x) else "center",
        fontsize=9,
        color=colour,
        arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkB": 4} if line else None,
    )


def curves(rows: Sequence[dict[str, str]], title: str) -> Figure:
    """Every loss over the steps (one panel a column of the log) and, below, the validation PSNR."""
    losses = [name for name in rows[0] if name not in NOT_LOSSES and any(row[name] for row in rows)]
    names = [*losses, *(["psnr_y"] if any(row["psnr_y"] for row in rows) else [])]
    figure = Figure(figsize=(7.2, 1.1 + 1.9 * len(names)), dpi=DPI, layout="constrained")
    panels: Any = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        known = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        few = len(known) < 40
        axes.plot(
            *zip(*known, strict=True), color=OURS if name == "psnr_y" else OTHERS, lw=1.1, marker="." if few else ""
        )
        axes.set_ylabel("validation PSNR (dB)" if name == "psnr_y" else name)
        axes.grid(True, color="#e2e8f0")
    panels[0].set_title(title, fontsize=11)
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def save_plot(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
