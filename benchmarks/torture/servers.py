"""Servers to torture: real ones, but for a zoo of one quick network, so that a start takes a second."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from harness import MODELS
from harness.pictures import encode
from harness.server import SERVE, Server, running_server

MANIFEST = "manifest.json"


@contextmanager
def small_zoo(*names: str) -> Iterator[Path]:
    """A model folder of those networks of the shipped one, by default ``bicubic``; the first is the default."""
    names = names or ("bicubic",)
    with tempfile.TemporaryDirectory(prefix="enlarger-zoo-") as folder:
        manifest = json.loads((MODELS / MANIFEST).read_text())
        manifest["models"] = [model for model in manifest["models"] if model["name"] in names]
        manifest["default"] = names[0]
        manifest.pop("generators", None)
        for model in manifest["models"]:
            for file in model["files"].values():
                shutil.copy(MODELS / file["path"], folder)
        (Path(folder) / MANIFEST).write_text(json.dumps(manifest))
        yield Path(folder)


@contextmanager
def quick_server(program: Sequence[str] = SERVE, **settings: str) -> Iterator[Server]:
    """``enlarger serve`` with ``bicubic`` alone."""
    with small_zoo() as models, running_server(program, models=str(models), **settings) as server:
        yield server


def crop(height: int, width: int, format: str = "PNG", **options: object) -> bytes:
    """A photograph of that size, as a file."""
    photo = Image.fromarray(skimage.data.chelsea()).resize((width, height), Image.Resampling.BICUBIC)
    return encode(np.asarray(photo), format, **options)
