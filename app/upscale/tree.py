"""A tree of questions about an image's traits that anyone can read: ``trait < limit?`` at every fork."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from app.images.traits import Traits


@dataclass(frozen=True)
class Split:
    """``below`` if the trait is less than ``limit``, else ``above``."""

    trait: str
    limit: float
    below: "Tree"
    above: "Tree"


Tree = Union[str, Split]  # noqa: UP007: a forward reference
"""A kind of image, or a question."""


@dataclass(frozen=True)
class Step:
    """An answered question: whether the trait is below the limit."""

    trait: str
    below: bool


def steps_to(traits: Traits, tree: Tree) -> tuple[str, list[Step]]:
    """The kind of an image, and the last answer about each trait on the way to it."""
    steps: dict[str, Step] = {}
    while isinstance(tree, Split):
        step = Step(tree.trait, getattr(traits, tree.trait) < tree.limit)
        steps.pop(tree.trait, None)
        steps[tree.trait] = step
        tree = tree.below if step.below else tree.above
    return tree, list(steps.values())


def kind_of(traits: Traits, tree: Tree) -> str:
    return steps_to(traits, tree)[0]


def as_code(tree: Tree, indent: str = "") -> str:
    """The tree as Python: what ``python -m training fit-auto`` writes."""
    if isinstance(tree, str):
        return f'"{tree}"'
    deeper = indent + "    "
    below, above = as_code(tree.below, deeper), as_code(tree.above, deeper)
    return f'Split(\n{deeper}"{tree.trait}",\n{deeper}{tree.limit:g},\n{deeper}{below},\n{deeper}{above},\n{indent})'


def as_text(tree: Tree, indent: str = "") -> Iterator[str]:
    """The tree as lines of text."""
    if isinstance(tree, str):
        yield f"{indent}{tree}"
        return
    yield f"{indent}{tree.trait} < {tree.limit:g}"
    yield from as_text(tree.below, indent + "    ")
    yield f"{indent}{tree.trait} >= {tree.limit:g}"
    yield from as_text(tree.above, indent + "    ")
