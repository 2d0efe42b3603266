"""Model folders of some of the shipped networks, with which a server starts in a second."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

from harness import MODELS

MANIFEST = "manifest.json"


@cache
def small_zoo(*names: str) -> Path:
    """A model folder of those networks, the first the default, for as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="enlarger-zoo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    manifest = json.loads((MODELS / MANIFEST).read_text())
    manifest["models"] = [model for model in manifest["models"] if model["name"] in names]
    manifest["default"] = names[0]
    manifest.pop("generators", None)
    for model in manifest["models"]:
        for file in model["files"].values():
            (folder / file["path"]).symlink_to(MODELS / file["path"])
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder
