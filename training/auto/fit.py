"""A decision tree of few levels, grown greedily by Gini impurity (Breiman et al. 1984)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.images.traits import NAMES
from app.upscale.tree import Split, Tree

LEAST = 6  # pictures that a leaf must hold
DIGITS = 3  # significant digits of a limit


def fit(rows: NDArray[np.float64], labels: Sequence[str], levels: int) -> Tree:
    """``rows``: traits ``[pictures, traits]``; a tree of at most ``levels`` questions from its root to a leaf."""
    most_common = Counter(labels).most_common(1)[0][0]
    if levels == 0 or len(set(labels)) == 1:
        return most_common
    best = best_split(rows, np.array(labels))
    if best is None:
        return most_common
    column, limit = best
    low = rows[:, column] < limit
    below, above = (
        fit(rows[side], [label for label, inside in zip(labels, side, strict=True) if inside], levels - 1)
        for side in (low, ~low)
    )
    return below if below == above else Split(NAMES[column], limit, below, above)


def best_split(rows: NDArray[np.float64], labels: NDArray[np.str_]) -> tuple[int, float] | None:
    """The column and the limit that leave least impurity, if any is less than before."""
    classes = np.unique(labels)
    onehot = labels[:, None] == classes
    best, least = None, impurity(onehot.sum(0)) - 1e-9
    for column in range(rows.shape[1]):
        order = np.argsort(rows[:, column], kind="stable")
        values, sums = rows[order, column], onehot[order].cumsum(0)
        for cut in range(LEAST, len(values) - LEAST + 1):
            if values[cut - 1] == values[cut]:
                continue
            limit = rounded(values[cut - 1], values[cut])
            left = impurity(sums[cut - 1]) + impurity(sums[-1] - sums[cut - 1])
            if left < least:
                best, least = (column, limit), left
    return best


def impurity(counts: NDArray[np.int64]) -> float:
    """Gini's, times the number of pictures."""
    return float(counts.sum() - (counts.astype(float) ** 2).sum() / max(1, counts.sum()))


def rounded(low: float, high: float) -> float:
    """A number in (low, high] with as few digits as there can be."""
    middle = (low + high) / 2
    for digits in range(1, 8):
        limit = float(f"{middle:.{digits}g}")
        if low < limit <= high and digits >= 2:
            return limit
    return high
