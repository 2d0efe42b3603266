"""How this machine's pip reaches its index, for a build elsewhere: ``python3 lend_pip.py pip.conf``, beside pip.

Writes what pip is told here, by its files and by PIP_* variables, as one configuration file, and prints the files and
folders it names, one a line, so that a build may be lent them too. None of it belongs into an image.
"""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

LOCATION = re.compile(r"(?:^|file://|\s)(/[^\s#]+)")


def settings() -> dict[str, str]:
    """What holds for ``pip install``: variables win over files, and pip's own list names them last."""
    run = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    told = [line.partition("=") for line in run.stdout.splitlines()]
    told.sort(key=lambda parts: parts[0].startswith(":env:"))
    found = {}
    for name, _, value in told:
        section, _, option = name.rpartition(".")
        if section in ("global", "install", ":env:"):
            found[option] = ast.literal_eval(value)
    return found


def locations(found: dict[str, str]) -> set[str]:
    """The paths among the values; of an index on disk the folder around it, for its links may lead beside it."""
    paths = set()
    for name, value in found.items():
        for path in map(Path, LOCATION.findall(value)):
            beside = path.is_dir() and name.endswith("index-url") and path.parent != path.parent.parent
            paths.add(str(path.parent if beside else path))
    return {path for path in paths if Path(path).exists()}


def main(target: str) -> None:
    found = settings()
    parser = configparser.RawConfigParser()
    parser["global"] = {name: value.replace("\n", "\n  ") for name, value in found.items()}
    with open(target, "w", encoding="utf-8") as file:
        parser.write(file)
    print("\n".join(sorted(locations(found))))


if __name__ == "__main__":
    main(sys.argv[1])
