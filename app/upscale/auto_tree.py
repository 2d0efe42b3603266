"""How ``auto`` tells kinds of images apart. The questions are chosen by hand; ``python -m training fit-auto --write``
fits the limits and writes this file. What the traits mean is in ``images/traits.py``.
"""

from app.upscale.tree import Split, Tree

PHOTO = "photo"

# Is it a drawing, a screenshot, a page, a code? They have levels that repeat exactly, and edges between two tones.
DRAWN_TREE: Tree = Split(
    "equal",
    0.73,
    Split(
        "two_toned",
        0.6044,
        Split("acute", 0.96075, PHOTO, Split("colours", 0.5777, PHOTO, "drawn")),
        Split("acute", 0.661, PHOTO, Split("steps", 0.18, Split("even", 0.341, PHOTO, "drawn"), "drawn")),
    ),
    Split("acute", 0.394, PHOTO, "drawn"),
)

# Is the photograph spoiled: compressed hard, noisy, in visible blocks, blurred or enlarged before?
PHOTO_TREE: Tree = Split(
    "quality",
    89,
    "spoiled",
    Split(
        "bits",
        1.24,
        "spoiled",
        Split(
            "noise",
            4.6,
            Split(
                "blocks",
                1.3761,
                Split("acute", 0.547, Split("sharp", 0.5638, "spoiled", "clean"), "clean"),
                "spoiled",
            ),
            "spoiled",
        ),
    ),
)
