"""``log.csv``: what a run lost, how fast it learned and how good it became, by step."""

import csv
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

LOSS_FIELDS = ["pixel", "grid", "content", "adversarial", "discriminator", "known_real", "known_made"]
LOG_FIELDS = ["step", "loss", "rate", "psnr_y", "seconds", "loader_share", *LOSS_FIELDS]


class Log:
    """A line every so many steps: means since the last line, which are all of one stage.

    ``loss`` is what the generator minimises, with weights; ``pixel``, ``grid``, ``content``, ``adversarial`` are its
    parts before theirs. ``discriminator`` is the other player's loss, ``known_real`` and ``known_made`` the shares of
    patches that it knows. ``loader_share`` is the share of the time spent waiting for pictures. What a stage lacks is
    left empty.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = _rows_until(path, step)
        self._path = path
        with open(path.with_suffix(".part"), "w", newline="") as file:
            writer = csv.DictWriter(file, LOG_FIELDS)
            writer.writeheader()
            writer.writerows(kept)
        os.replace(path.with_suffix(".part"), path)  # a kill at any moment leaves the earlier lines
        self._before = float(kept[-1]["seconds"]) if kept else 0.0
        self._started = time.perf_counter()
        self._restart()

    def _restart(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count, self._waited, self._since = 0, 0.0, time.perf_counter()

    def add(self, losses: Mapping[str, Tensor], waited: float) -> None:
        for name, loss in losses.items():  # they stay on the device: no synchronisation a step
            self._sums[name] = self._sums.get(name, 0) + loss.detach()
        self._count += 1
        self._waited += waited

    def write(self, step: int, rate: float, quality: float | None) -> dict[str, str]:
        now = time.perf_counter()
        row = {
            "step": str(step),
            "rate": f"{rate:.3e}",
            "psnr_y": "" if quality is None else f"{quality:.3f}",
            "seconds": f"{self._before + now - self._started:.1f}",
            "loader_share": f"{self._waited / (now - self._since):.3f}",
        } | {name: f"{float(total) / self._count:.6f}" for name, total in self._sums.items()}
        with open(self._path, "a", newline="") as file:
            csv.DictWriter(file, LOG_FIELDS).writerow(row)
        self._restart()
        return row


def log_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a ``log.csv``; none where the run has not written one yet."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def read_log(path: Path) -> list[dict[str, str]]:
    """As ``log_lines``; ``ValueError`` where there are none."""
    if not path.exists():
        raise ValueError(f"there is no log at {path}")
    if not (lines := log_lines(path)):
        raise ValueError(f"{path} has no lines yet")
    return lines


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """The lines of an earlier part of the run, up to its checkpoint."""
    return [row for row in log_lines(path) if int(row["step"]) <= step]


def restore_log(path: Path, training: Mapping[str, Any]) -> None:
    """The log of a run of which only the exported model is kept, from the lines and seconds of its manifest entry."""
    lines, steps = training["log"], training["steps"]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, LOG_FIELDS, extrasaction="ignore")
        writer.writeheader()
        for line in lines:  # when each was written is not kept: as if all steps had taken alike
            writer.writerow({**line, "rate": "", "seconds": f"{training['seconds'] * line['step'] / steps:.1f}"})
