"""A tree of questions about an image's traits that anyone can read: ``trait < limit?`` at every fork."""

from dataclasses import dataclass

from app.images.traits import Traits

LINE = 120  # characters of a line of code


@dataclass(frozen=True)
class Split:
    """``below`` if the trait is less than ``limit``, else ``above``."""

    trait: str
    limit: float
    below: "Tree"
    above: "Tree"


Tree = str | Split
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


def as_code(tree: Tree, indent: str = "") -> str:
    """The tree as Python, as ruff formats it."""
    if isinstance(tree, str):
        return f'"{tree}"'
    deeper = indent + "    "
    parts = (f'"{tree.trait}"', f"{tree.limit:g}", as_code(tree.below, deeper), as_code(tree.above, deeper))
    line = f"Split({', '.join(parts)})"
    if "\n" not in line and len(line) + len(indent) + 1 <= LINE:
        return line
    return "\n".join(["Split(", *(f"{deeper}{part}," for part in parts), f"{indent})"])
