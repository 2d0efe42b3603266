"""``model=auto``: looks at an image and takes the network that fits it, and says why.

``CANDIDATES`` is what it may take; the trees of ``auto_tree.py`` tell kinds of images apart. Their limits are fitted by
``python -m training fit-auto``; how often they are right is in docs/auto.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from app.images.traits import Traits
from app.inference.zoo import Zoo
from app.upscale.auto_tree import DRAWN_TREE, PHOTO, PHOTO_TREE
from app.upscale.tree import Step, steps_to

AUTO = "auto"
CLEAN, SPOILED, DRAWN = "clean", "spoiled", "drawn"
CANDIDATES: Mapping[str, str | None] = {CLEAN: None, SPOILED: "photo", DRAWN: "art"}
"""The network for each kind of image; None, and whatever the model folder lacks, is the folder's default network."""

KINDS: Mapping[str, str] = {
    CLEAN: "a clean photograph",
    SPOILED: "a spoiled photograph",
    DRAWN: "a drawing or screenshot",
}


@dataclass(frozen=True)
class Choice:
    """What ``auto`` took and why. ``model``: the network's name; ``kind``: one of ``KINDS``, or None if the pixels were
    not looked at; ``reason``: in ASCII, for people. ``strength``: 0 to 1, how much of the cleaning fits the image."""

    model: str
    reason: str
    kind: str | None = None
    strength: float | None = None

    @property
    def header(self) -> str:
        """A structured field (RFC 9651): the network and, as a parameter, the reason."""
        return f'{self.model};reason="{self.reason}"'

    def as_json(self) -> dict[str, str | None]:
        return {"model": self.model, "kind": self.kind, "reason": self.reason}


def candidates(zoo: Zoo) -> dict[str, str]:
    """The name of the network that ``auto`` takes for each kind of image."""
    return {kind: name if name in zoo.names else zoo.default for kind, name in CANDIDATES.items()}


def choose(traits: Traits | None, networks: Mapping[str, str]) -> Choice:
    """The choice for an image of these traits, None if it is too small to have any; ``networks`` by kind."""
    if traits is None:
        return Choice(networks[CLEAN], "too small to tell what it shows", CLEAN)
    kind, steps = kind_of(traits)
    telling = steps[-1:] if kind == SPOILED else steps  # one fault is enough
    signs = ", ".join(filter(None, (sign(traits, step) for step in telling)))
    strength = fitting_strength(traits) if kind == SPOILED else None
    return Choice(networks[kind], f"{KINDS[kind]}: {signs}{wanting(kind, networks)}", kind, strength)


def kind_of(traits: Traits) -> tuple[str, list[Step]]:
    """The kind of an image, and the answers that led to it; of a photograph, those about its faults."""
    kind, steps = steps_to(traits, DRAWN_TREE)
    return steps_to(traits, PHOTO_TREE) if kind == PHOTO else (kind, steps)


def wanting(kind: str, networks: Mapping[str, str]) -> str:
    """That the network meant for a kind of image is not there."""
    wanted = CANDIDATES[kind]
    return f"; {wanted} is not available at this scale" if wanted and networks[kind] != wanted else ""


def fitting_strength(traits: Traits) -> float:
    """How strongly a spoiled photograph should be cleaned: by the worst of its faults, in steps of 0.05.

    0.2 for a JPEG of quality 85, hardly visible noise or a slightly soft image; 1 for a JPEG of quality 30, noise of 14
    levels (measured as half of that) or a blur of two pixels.
    """
    worst = max(
        share(traits.quality, 95, 30),
        share(traits.bits, 2.5, 0.3),
        share(traits.noise, 1.5, 7),
        share(traits.acute, 0.6, 0.3),
        share(traits.blocks, 1.2, 3.5),
    )
    return round(max(0.2, worst) * 20) / 20


def share(value: float, least: float, most: float) -> float:
    """How far a value is on the way from ``least`` to ``most``, 0 to 1."""
    return min(1.0, max(0.0, (value - least) / (most - least)))


def sign(traits: Traits, step: Step) -> str:
    """A step through the tree in words."""
    value = getattr(traits, step.trait)
    match step.trait:
        case "quality":
            return f"compressed at quality {value:.0f}" if value < 100 else ""
        case "bits":
            return f"{value:.1f} bits a pixel" if value < 24 else ""
        case "noise":
            return f"noise of {value:.1f} levels"
    less, more = SIGNS[step.trait]
    return (less if step.below else more).format(value)


SIGNS: Mapping[str, tuple[str, str]] = {
    "equal": ("{:.0%} of neighbours equal", "{:.0%} of neighbours equal"),
    "even": ("{:.0%} of it even", "{:.0%} of it even"),
    "two_toned": ("soft tones", "two-toned edges"),
    "colours": ("8 colours cover {:.0%}", "8 colours cover {:.0%}"),
    "steps": ("few hard edges", "many hard edges"),
    "acute": ("soft edges", "sharp edges"),
    "sharp": ("blurred or enlarged before", "fine detail"),
    "blocks": ("no blocks", "blocks visible"),
}
