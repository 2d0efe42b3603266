"""``python -m training fit-auto``: fits the limits by which ``model=auto`` chooses, and tells how often it is right."""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from app.images.decoder import decode_container
from app.images.formats import DecodeLimits, read_container
from app.images.traits import Traits, traits_of
from app.upscale import auto_tree
from app.upscale.auto import CLEAN, DRAWN, SPOILED
from app.upscale.tree import Tree, as_code, steps_to
from training.auto.fit import refined
from training.auto.pictures import COUNTS, MORE, SEED, samples

FILE = Path(auto_tree.__file__)
CHOICES = (CLEAN, SPOILED, DRAWN)


class Known(NamedTuple):
    """A picture's traits, and what is known of it."""

    kind: str
    right: str
    how: str
    traits: Traits


class Trees(NamedTuple):
    drawn: Tree
    photo: Tree

    def kind(self, traits: Traits) -> str:
        kind, _ = steps_to(traits, self.drawn)
        return steps_to(traits, self.photo)[0] if kind == auto_tree.PHOTO else kind


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "fit-auto",
        help="fit the limits by which model=auto chooses, and count its mistakes on 600 other pictures",
        description="Needs photos/ to fit, and kodak/, bsds500/test/ and B100/ to judge by, in the data folder; "
        "librsvg, Chromium and openclipart as `render` does.",
    )
    command.add_argument("--svg", type=Path, default=Path("/usr/share/openclipart/svg"), help="(default: %(default)s)")
    command.add_argument("--write", action="store_true", help=f"write the limits to {FILE.name}")
    command.add_argument("--judge", action="store_true", help="count the mistakes of the limits that are there")
    command.add_argument("--seed", type=int, default=SEED, help="of the pictures (default: %(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    trees = Trees(auto_tree.DRAWN_TREE, auto_tree.PHOTO_TREE)
    if not options.judge:
        trees = fitted(trees, known(options, "fit"))
        print(f"DRAWN_TREE: Tree = {as_code(trees.drawn)}\n\nPHOTO_TREE: Tree = {as_code(trees.photo)}\n")
        if options.write:
            write(trees)
    print(table(trees, known(options, "test")))


def known(options: argparse.Namespace, half: str) -> list[Known]:
    total = sum(COUNTS.values()) * (1 if half == "test" else MORE)
    found = []
    for sample in tqdm(samples(options.data, half, options.svg, options.seed), half, total, mininterval=10):
        container = read_container(sample.data, DecodeLimits())
        traits = traits_of(container, decode_container(container))
        found.append(Known(sample.kind, sample.right, sample.how, traits or Traits()))
    return found


def fitted(trees: Trees, pictures: Sequence[Known]) -> Trees:
    """The first tree tells drawings from photographs, the second spoiled photographs from clean ones."""
    photos = [picture for picture in pictures if picture.right != DRAWN]
    drawn = [DRAWN if picture.right == DRAWN else auto_tree.PHOTO for picture in pictures]
    return Trees(
        refined(trees.drawn, rows(pictures), drawn),
        refined(trees.photo, rows(photos), [picture.right for picture in photos]),
    )


def rows(pictures: Sequence[Known]) -> np.ndarray:
    """float64 ``[pictures, traits]``."""
    return np.array([picture.traits.row() for picture in pictures])


def write(trees: Trees) -> None:
    """Puts the trees into the file of the application, which keeps its comments."""
    text = FILE.read_text(encoding="utf-8")
    for name, tree in (("DRAWN_TREE", trees.drawn), ("PHOTO_TREE", trees.photo)):
        code = as_code(tree).replace(f'"{auto_tree.PHOTO}"', "PHOTO")
        before = re.compile(rf"^{name}: Tree = Split\(.*?^\)$", re.DOTALL | re.MULTILINE)
        text = before.sub(f"{name}: Tree = {code}", text)
    FILE.write_text(text, encoding="utf-8")


def table(trees: Trees, pictures: Sequence[Known]) -> str:
    """What was taken for each kind of picture, as Markdown, and how often that was right."""
    taken = Counter((picture.kind, trees.kind(picture.traits)) for picture in pictures)
    right = sum(trees.kind(picture.traits) == picture.right for picture in pictures)
    lines = ["| | " + " | ".join(CHOICES) + " | right |", "| --- |" + " --- |" * 4]
    for kind, count in Counter(picture.kind for picture in pictures).items():
        wanted = kind if kind in CHOICES else DRAWN
        cells = [str(taken[kind, choice]) for choice in CHOICES]
        lines.append(f"| {kind} | {' | '.join(cells)} | {taken[kind, wanted] / count:.1%} |")
    lines.append(f"| all {len(pictures)} | | | | {right / len(pictures):.1%} |")
    wrong = Counter((p.kind, p.how, trees.kind(p.traits)) for p in pictures if trees.kind(p.traits) != p.right)
    mistakes = (f"{count} {kind} ({how}) as {taken}" for (kind, how, taken), count in wrong.most_common())
    return "\n".join([*lines, "", f"Mistakes: {', '.join(mistakes)}."])
