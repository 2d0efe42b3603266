"""What a person does on the page."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.browser import PATIENCE, Browser


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def choose(browser: Browser, *paths: Path) -> None:
    browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))
    browser.find("#files").send_keys("\n".join(map(str, paths)))


def state(browser: Browser, number: int = 1) -> str:
    """waiting, running, done, failed or cancelled: of the picture in that place of the list."""
    return str(browser.script(f"return document.querySelector('.job:nth-child({number})')?.dataset.state ?? ''"))


def settled(browser: Browser, number: int = 1, seconds: float = PATIENCE) -> str:
    def end() -> str:
        now = state(browser, number)
        return "" if now in ("waiting", "running") else now

    return str(browser.wait(end, seconds))
