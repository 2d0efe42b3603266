"""How far each run is, and what its last hour brought."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.log import log_lines

HOUR = 3600.0


@dataclass(frozen=True)
class Progress:
    """``best`` and ``gained``: validation PSNR in dB, and how much of it the run's last hour brought."""

    title: str
    step: int
    hours: float
    loss: float
    best: float | None
    gained: float | None


def progress(runs: Path) -> Iterator[Progress]:
    """Every run below ``runs`` that has written a line of its log, by name."""
    for path in sorted(runs.glob("*/log.csv")):
        if rows := log_lines(path):
            yield progress_of(path.parent.name, rows)


def progress_of(title: str, rows: Sequence[Mapping[str, str]]) -> Progress:
    seconds = float(rows[-1]["seconds"])
    known = [(float(row["seconds"]), float(row["psnr_y"])) for row in rows if row["psnr_y"]]
    before = [figure for at, figure in known if at <= seconds - HOUR]
    best = max((figure for _, figure in known), default=None)
    gained = best - max(before) if before and best is not None else None
    return Progress(title, int(rows[-1]["step"]), seconds / HOUR, float(rows[-1]["loss"]), best, gained)


def progress_table(rows: Iterable[Progress]) -> str:
    lines = [f"{'run':24} {'step':>9} {'hours':>6} {'loss':>9} {'best dB':>8} {'last hour':>9}"]
    for row in rows:
        best = "-" if row.best is None else f"{row.best:.3f}"
        gained = "-" if row.gained is None else f"{row.gained:+.3f}"
        lines.append(f"{row.title:24} {row.step:9,} {row.hours:6.2f} {row.loss:9.5f} {best:>8} {gained:>9}")
    return "\n".join(lines)
