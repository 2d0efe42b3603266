"""What was measured of the zoo's files, kept as JSON and told as a Markdown table."""

import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from app.inference.zoo import ModelSpec, Zoo

Metrics = dict[str, dict[str, float]]
"""By test set, then by measure: ``{"Set5": {"psnr_y": 31.16, "ssim_y": 0.8788, "psnr_rgb": 29.3}}``."""

LOOKS = ("lpips_vgg", "lpips_alex", "dists", "niqe")
"""The measures of looks: less is better."""

FIDELITY = ("lr_psnr", "lr_delta_e", "grid")
"""How true to LR an enlarged picture is, and its grid."""

PUBLIC = Path(__file__).parent / "public_networks.toml"
TIMES = "\N{MULTIPLICATION SIGN}"
BEGIN, END = "<!-- evaluation: begins -->", "<!-- evaluation: ends -->"


@dataclass(frozen=True)
class Measure:
    """How a figure is written, and what it is."""

    digits: int
    meaning: str


MEASURES = {
    "psnr_y": Measure(2, "PSNR (dB) on luma"),
    "ssim_y": Measure(4, "SSIM on luma"),
    "psnr_rgb": Measure(2, "PSNR (dB) on RGB"),
    "lpips_vgg": Measure(3, "LPIPS by VGG16 (less is better)"),
    "lpips_alex": Measure(3, "LPIPS by AlexNet (less is better)"),
    "dists": Measure(3, "DISTS (less is better)"),
    "niqe": Measure(2, "NIQE (less is better; it sees no original)"),
    "lr_psnr": Measure(2, "PSNR (dB) of SR, reduced, against LR"),
    "lr_delta_e": Measure(2, "CIEDE2000 of SR, reduced, against LR"),
    "grid": Measure(2, "deviation, in levels of luma, of what repeats itself every 8 pixels"),
    "codes_read": Measure(3, "share of QR codes that ZXing reads"),
    "codes_wrong": Measure(0, "codes read as something that they do not say"),
}


@dataclass(frozen=True)
class Speed:
    """Of the bare session on one tile: LR megapixels a second, and on which machine."""

    lr_mpx_per_s: float
    machine: str


@dataclass(frozen=True)
class Record:
    """One file of the zoo. ``sha256`` says which: figures of another file of that name are not its own."""

    name: str
    scale: int
    precision: str
    sha256: str
    architecture: str
    parameters: int
    macs: int
    metrics: Metrics
    speed: Speed | None

    @classmethod
    def of(cls, spec: ModelSpec, precision: str, metrics: Metrics, speed: Speed | None = None) -> "Record":
        sha256 = spec.files[precision].sha256
        return cls(
            spec.name, spec.scale, precision, sha256, spec.architecture, spec.parameters, spec.macs, metrics, speed
        )

    @property
    def label(self) -> str:
        """Short and, within one scale, its own: "fast" or "fast int8"."""
        return self.name if self.precision == "fp32" else f"{self.name} {self.precision}"


def known_before(zoo: Zoo) -> list[Record]:
    """What the manifest tells of every file of the zoo."""
    return [
        Record.of(spec, precision, {name: dict(figures) for name, figures in file.metrics.items()})
        for spec in zoo
        for precision, file in spec.files.items()
    ]


def merge(older: Iterable[Record], newer: Iterable[Record]) -> list[Record]:
    """``older`` in its order, each with what ``newer`` knows of the same file laid over it, figure by figure."""
    found = {record.sha256: record for record in newer}
    merged = []
    for record in older:
        new = found.get(record.sha256)
        if new:
            sets = [*record.metrics, *(name for name in new.metrics if name not in record.metrics)]
            metrics = {name: record.metrics.get(name, {}) | new.metrics.get(name, {}) for name in sets}
            record = replace(record, metrics=metrics, speed=new.speed or record.speed)
        merged.append(record)
    return merged


def read_records(path: Path) -> list[Record]:
    """The records of an earlier evaluation; none if there was none."""
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["models"]
        return [Record(**{**entry, "speed": Speed(**entry["speed"]) if entry["speed"] else None}) for entry in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the JSON of an evaluation: {error}") from error


def write_records(path: Path, records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"models": [asdict(record) for record in records]}, indent=1) + "\n", encoding="utf-8")


def table(records: Sequence[Record], sets: Iterable[str], default: str = "", show: Iterable[str] = MEASURES) -> str:
    """Markdown: a row a file, a column a test set, and below it what the figures are.

    Sets and measures of which nothing is known are left out, and networks that were judged by other sets alone.
    """
    sets = [name for name in sets if any(name in record.metrics for record in records)]
    records = [record for record in records if not record.metrics or set(sets) & set(record.metrics)]
    figures = [figures for record in records for name, figures in record.metrics.items() if name in sets]
    show = [key for key in show if any(key in known for known in figures)]
    timed = [record.speed for record in records if record.speed]
    heads = ["model", "scale", "parameters", "kMAC per LR pixel", *(["LR Mpx/s"] if timed else []), *sets]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) - 1)]
    for record in records:
        speed = [f"{record.speed.lr_mpx_per_s:.2f}" if record.speed else "-"] if timed else []
        cells = [
            name_cell(record, default),
            f"{TIMES}{record.scale}",
            f"{record.parameters:,}",
            f"{record.macs / 1000:.1f}",
        ]
        cells += speed + [figures_cell(record.metrics.get(name, {}), show) for name in sets]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *notes(show, timed)])


def name_cell(record: Record, default: str) -> str:
    if record.precision != "fp32":
        return f"`{record.name}`, {record.precision}"
    return f"`{record.name}` (default)" if record.name == default else f"`{record.name}`"


def figures_cell(figures: dict[str, float], show: Iterable[str]) -> str:
    """The figures in one order, a dash for each that is not known; one dash alone where none is."""
    if not figures:
        return "-"
    return " / ".join(f"{figures[key]:.{MEASURES[key].digits}f}" if key in figures else "-" for key in show)


def meaning(show: Iterable[str]) -> str:
    """What a cell's figures are, in their order, and how they were measured."""
    names = " / ".join(MEASURES[key].meaning for key in show)
    whole = " (none for LPIPS, DISTS and NIQE)" if set(LOOKS) & set(show) else ""
    pairs = f" `scale` pixels cropped at each border{whole}, bicubic LR," if "psnr_y" in show else ""
    return f"{names};{pairs} on the served path (PNG in, PNG out)."


def notes(show: Sequence[str], timed: Sequence[Speed]) -> list[str]:
    lines = []
    if show:
        lines.append(meaning(show))
    if timed:
        machines = "; ".join(dict.fromkeys(speed.machine for speed in timed))
        lines.append(f"LR Mpx/s: the bare ONNX Runtime session on 256 {TIMES} 256 tiles, {machines}.")
    return lines


def write_markdown(path: Path, text: str) -> None:
    """Between the two marks of a file that has them, such as the README; else a new file with them.

    A file without the marks is not overwritten.
    """
    whole = f"{BEGIN}\n{text}\n{END}\n"
    if path.exists():
        old = path.read_text(encoding="utf-8")
        before, begin, rest = old.partition(f"{BEGIN}\n")
        _, end, after = rest.partition(f"{END}\n")
        if not (begin and end):
            raise ValueError(f"{path} is there and has no lines {BEGIN!r} and {END!r} to put the table between")
        whole = before + whole + after
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(whole, encoding="utf-8")


@cache
def public_facts() -> dict[str, Any]:
    """``public_networks.toml``: networks of others with their sources, and bicubic as the papers give it."""
    return tomllib.loads(PUBLIC.read_text(encoding="utf-8"))


def against_published(records: Iterable[Record]) -> list[str]:
    """A line for each test set on which bicubic was measured, so that the metric code is seen to be the papers'."""
    published = {entry["scale"]: entry for entry in public_facts()["bicubic"]}
    lines = []
    for record in records:
        if record.name != "bicubic" or record.scale not in published:
            continue
        for name, figures in record.metrics.items():
            if known := published[record.scale].get(name):
                own = f"{figures['psnr_y']:.2f} / {figures['ssim_y']:.4f}"
                lines.append(f"bicubic x{record.scale} on {name}: {own}, in papers {known[0]:.2f} / {known[1]:.4f}")
    return lines
