"""Who may import whom in ``app/``: the rules, and the imports that there are.

python -m tests.support.imports --draw      # the imports between folders, as a table
"""

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

from harness import ROOT

RULES: dict[str, set[str]] = {
    "errors": set(),
    "threads": set(),
    "settings": {"threads"},
    "images": {"errors"},
    "telemetry": {"errors"},
    "inference": {"errors", "threads", "images", "telemetry"},
    "upscale": {"errors", "images", "telemetry", "inference"},
    "jobs": {"errors"},
    "http": {"errors", "settings", "threads", "images", "telemetry", "inference", "upscale", "jobs"},
    "study": {"errors", "settings", "threads", "images", "telemetry", "inference", "upscale", "http"},
}
"""What each folder or module of ``app/`` may import of the others, from the bottom up."""

ROOTS = ("main", "cli", "supervisor")
"""What puts the rest together: it may import anything, and nothing below imports it."""


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, wherever in it; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path.name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files_in(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def part_of(path: Path) -> str:
    """The folder or module of ``app/`` that a file belongs to."""
    return path.relative_to(ROOT / "app").parts[0].removesuffix(".py")


def parts_used(path: Path) -> set[str]:
    """The folders and modules of ``app/`` that a file imports; the package itself (its version) is none."""
    steps = [name.split(".") for name in imported(path)]
    return {step[1] for step in steps if step[0] == "app" and step[1:] and step[1] in (*RULES, *ROOTS)}


def arrows() -> dict[str, set[str]]:
    """The imports between the folders and modules of ``app/`` as they are."""
    found: dict[str, set[str]] = {part: set() for part in (*RULES, *ROOTS)}
    for path in files_in("app"):
        if (part := part_of(path)) != "__init__":
            found[part] |= parts_used(path) - {part}
    return found


def drawing() -> str:
    """A table: each row imports the columns marked. All marks lie below the diagonal if no arrow points upwards."""
    order, found = [*RULES, *ROOTS], arrows()
    lines = [" " * 11 + " ".join(f"{part:>9}" for part in order)]
    for row, part in enumerate(order):
        cells = ["x" if other in found[part] else "\\" if row == column else "" for column, other in enumerate(order)]
        lines.append(f"{part:<11}" + " ".join(f"{cell:>9}" for cell in cells).rstrip())
    count = sum(map(len, found.values()))
    upwards = [f"{a} -> {b}" for a in order for b in found[a] if order.index(b) > order.index(a)]
    return "\n".join([*lines, f"{count} arrows; upwards: {', '.join(upwards) or 'none'}"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", required=True, help="print the imports between folders")
    parser.parse_args()
    print(drawing())
