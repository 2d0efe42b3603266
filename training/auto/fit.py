"""The limits of a tree whose questions are given, fitted to pictures whose kind is known."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.images.traits import NAMES
from app.upscale.tree import Split, Tree

TRIED = 80  # limits of a question
Path = tuple[bool, ...]
"""The way to a question: whether it leads below the limit, fork by fork."""


def refined(tree: Tree, rows: NDArray[np.float64], labels: Sequence[str], rounds: int = 4) -> Tree:
    """The same questions with the limits that answer best: each in turn, while the others stay."""
    for _ in range(rounds):
        for path in paths_of(tree):
            tree = with_best_limit(tree, path, rows, np.array(labels))
    return tree


def paths_of(tree: Tree) -> list[Path]:
    if isinstance(tree, str):
        return []
    return [(), *((True, *path) for path in paths_of(tree.below)), *((False, *path) for path in paths_of(tree.above))]


def with_best_limit(tree: Tree, path: Path, rows: NDArray[np.float64], labels: NDArray[np.str_]) -> Tree:
    """Of all limits that are equally good, the one in the middle."""
    values = np.unique(rows[:, NAMES.index(question_at(tree, path).trait)])
    between = [rounded(low, high) for low, high in pairwise(values)]
    if len(between) > TRIED:
        between = [between[index] for index in np.linspace(0, len(between) - 1, TRIED).astype(int)]
    costs = np.array([balanced_error(with_limit(tree, path, limit), rows, labels) for limit in between])
    best = np.flatnonzero(costs == costs.min())
    return with_limit(tree, path, between[best[len(best) // 2]])


def question_at(tree: Tree, path: Path) -> Split:
    for below in path:
        assert isinstance(tree, Split)
        tree = tree.below if below else tree.above
    assert isinstance(tree, Split)
    return tree


def with_limit(tree: Tree, path: Path, limit: float) -> Tree:
    assert isinstance(tree, Split)
    if not path:
        return replace(tree, limit=limit)
    if path[0]:
        return replace(tree, below=with_limit(tree.below, path[1:], limit))
    return replace(tree, above=with_limit(tree.above, path[1:], limit))


def balanced_error(tree: Tree, rows: NDArray[np.float64], labels: NDArray[np.str_]) -> float:
    """The mean of the classes' shares of wrong answers."""
    wrong = answers(tree, rows) != labels
    return float(np.mean([wrong[labels == each].mean() for each in np.unique(labels)]))


def answers(tree: Tree, rows: NDArray[np.float64]) -> NDArray[np.str_]:
    if isinstance(tree, str):
        return np.full(len(rows), tree, dtype="<U16")
    below = rows[:, NAMES.index(tree.trait)] < tree.limit
    return np.where(below, answers(tree.below, rows), answers(tree.above, rows))


def rounded(low: float, high: float) -> float:
    """A number in (low, high] with as few digits as there can be."""
    middle = (low + high) / 2
    for digits in range(1, 8):
        limit = float(f"{middle:.{digits}g}")
        if low < limit <= high and digits >= 2:
            return limit
    return high
