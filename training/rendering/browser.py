"""Pages as Chromium draws them, at any number of pixels for one of CSS'."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from training.data.pairs import Pixels

SECONDS = 120
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
LOOKS = ("--hide-scrollbars", "--disable-lcd-text", "--force-color-profile=srgb")


def find_browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise ValueError("pages are drawn by Chromium, which is not here (Debian: apt-get install chromium)")


def screenshot(html: str, width: int, height: int, factor: int = 1) -> Pixels:
    """A page of ``width`` x ``height`` CSS pixels: uint8 ``[height * factor, width * factor, 3]``.

    Chromium lays out no page that is much lower than 192 pixels.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page, picture = Path(folder) / "page.html", Path(folder) / "page.png"
        page.write_text(f'<!doctype html><meta charset="utf-8">{html}', encoding="utf-8")
        command = [
            find_browser(),
            *FLAGS,
            *LOOKS,
            f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height}",
        ]
        command += [f"--force-device-scale-factor={factor}", f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, check=True, timeout=SECONDS, capture_output=True)
        with Image.open(picture) as image:
            return np.asarray(image.convert("RGB"))
