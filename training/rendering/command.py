"""``python -m training render``: pictures without a photograph in them, to train on and, apart from them, to judge by.

Below the data folder ``rendered/`` gets what is trained on: square tiles, a folder a kind. ``drawings/`` and
``screenshots/`` get what is judged by: drawings and pages that training does not see. Files that are there are kept.
"""

import argparse
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from app.threads import usable_cores
from training.data.pairs import Pixels
from training.rendering.browser import screenshot
from training.rendering.drawings import drawing, find_drawings, line_art
from training.rendering.pages import HEIGHT, PAGES, WIDTH, Page
from training.rendering.pixelart import pixel_art
from training.rendering.text import scripts

RENDERED = "rendered"  # the folder, below the data folder, of what is trained on
SIDE = 384  # HR pixels of a training tile
FACTOR = 4  # HR pixels for one of a page's
TILES_OF_PAGE = 12
TRIED = 6  # windows of a drawing, of which the one with most detail is taken
LEAST_DETAIL = 0.5  # mean gradient in levels; what has less is nearly empty
ALIKE = 100  # drawings of one folder at most
HELD_OUT = 20  # one drawing in so many is judged by and never trained on
JUDGED_SIZE = (768, 1024)  # HR pixels at most: height, width
SEED = 18


@dataclass(frozen=True)
class Work:
    """One thing to be rendered: its files are ``folder/name-N.webp``. ``make``: pictures from random numbers."""

    folder: Path
    name: str
    make: Callable[[np.random.Generator], Sequence[Pixels]]

    def do(self) -> None:
        if any(self.folder.glob(f"{self.name}-*.webp")):
            return
        rng = np.random.default_rng((SEED, zlib.crc32(f"{self.folder.name}/{self.name}".encode())))
        for number, pixels in enumerate(self.make(rng)):
            Image.fromarray(pixels).save(self.folder / f"{self.name}-{number:02}.webp", lossless=True, method=2)


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "render", help="drawings, text, screenshots and pixel art to train on and to judge by"
    )
    command.add_argument("--svg", type=Path, default=Path("/usr/share/openclipart/svg"), help="(default: %(default)s)")
    command.add_argument("--photos", type=Path, help="what may lie under text (default: `photos` of the data folder)")
    command.add_argument("--drawings", type=int, default=1_800, help="tiles of so many (default: %(default)s)")
    command.add_argument("--line-art", type=int, default=400, help="made-up drawings (default: %(default)s)")
    command.add_argument("--pages", type=int, default=120, help="of a dozen tiles each (default: %(default)s)")
    command.add_argument("--pixel-art", type=int, default=200, help="tiles (default: %(default)s)")
    command.add_argument(
        "--judged", type=int, default=24, help="pictures of each set to judge by (default: %(default)s)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    photos = options.photos or options.data / "photos"
    under_text = sorted(photos.glob("*.[jpw][pne][gb]*")) if photos.is_dir() else []
    works = [
        *drawings(options.data, options.svg, options.drawings, options.judged),
        *made_up(options.data / RENDERED, options.line_art, options.pixel_art),
        *pages(options.data, options.pages, options.judged, under_text),
    ]
    for folder in {work.folder for work in works}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in tqdm(pool.map(Work.do, works), "rendering", len(works), mininterval=10):
            pass


def drawings(data: Path, svg: Path, count: int, judged: int) -> Iterator[Work]:
    """Tiles of ``count`` drawings, and whole ones, or large parts, of those that are held out."""
    found = shuffled(find_drawings(svg))
    held_out = [path for path in found if is_held_out(path)]
    trained = [path for path in found if not is_held_out(path)]
    for path in trained[:count]:
        yield Work(data / RENDERED / "drawings", path.stem, partial(of_drawing, path, (SIDE, SIDE)))
    for path in held_out[:judged]:
        yield Work(data / "drawings", path.stem, partial(of_drawing, path, JUDGED_SIZE))


def is_held_out(path: Path) -> bool:
    return zlib.crc32(path.name.encode()) % HELD_OUT == 0


def shuffled(paths: Sequence[Path]) -> list[Path]:
    """By their names' digests; of one folder, whose drawings are alike, ``ALIKE`` at most."""
    seen: Counter[Path] = Counter()
    kept = []
    for path in sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest()):
        seen[path.parent] += 1
        if seen[path.parent] <= ALIKE:
            kept.append(path)
    return kept


def made_up(rendered: Path, line_arts: int, pixel_arts: int) -> Iterator[Work]:
    for number in range(line_arts):
        yield Work(rendered / "drawings", f"line-art-{number:04}", of_line_art)
    for number in range(pixel_arts):
        yield Work(rendered / "pixel-art", f"{number:04}", of_pixels)


def pages(data: Path, count: int, judged: int, photos: Sequence[Path]) -> Iterator[Work]:
    """Tiles of ``count`` pages, of every kind alike many, and parts of further ones to judge by."""
    for number in range(count):
        kind = list(PAGES)[number % len(PAGES)]
        folder = data / RENDERED / ("screenshots" if kind == "interface" else "text")
        yield Work(folder, f"{kind}-{number:04}", partial(of_page, kind, photos, (SIDE, SIDE), TILES_OF_PAGE))
    for number in range(judged):
        kind = ("interface", "document")[number % 2]
        yield Work(data / "screenshots", f"{kind}-{number:04}", partial(of_page, kind, (), JUDGED_SIZE, 1))


def of_drawing(path: Path, size: tuple[int, int], rng: np.random.Generator) -> list[Pixels]:
    return windows(drawing(path.read_bytes(), SIDE, rng), size, 1, rng)


def of_line_art(rng: np.random.Generator) -> list[Pixels]:
    return windows(drawing(line_art(rng), SIDE, rng), (SIDE, SIDE), 1, rng)


def of_pixels(rng: np.random.Generator) -> list[Pixels]:
    return [pixel_art(SIDE, scripts()["latin"], rng)]


def of_page(
    kind: str, photos: Sequence[Path], size: tuple[int, int], count: int, rng: np.random.Generator
) -> list[Pixels]:
    html = PAGES[kind](Page(rng, list(scripts().values()), photos))
    return windows(screenshot(html, WIDTH, HEIGHT, FACTOR), size, count, rng)


def windows(picture: Pixels | None, size: tuple[int, int], count: int, rng: np.random.Generator) -> list[Pixels]:
    """The most detailed of ``TRIED`` windows, ``count`` times; none that is nearly empty."""
    if picture is None:
        return []
    height, width = (min(wanted, there) for wanted, there in zip(size, picture.shape[:2], strict=True))
    chosen = []
    for _ in range(count):
        tops = rng.integers(0, picture.shape[0] - height + 1, TRIED)
        lefts = rng.integers(0, picture.shape[1] - width + 1, TRIED)
        tried = [picture[top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)]
        best = max(tried, key=detail)
        if detail(best) >= LEAST_DETAIL:
            chosen.append(np.ascontiguousarray(best))
    return chosen


def detail(pixels: Pixels) -> float:
    """The mean gradient, in levels."""
    return float(np.abs(np.diff(pixels[::2].astype(np.int16), axis=1)).mean())
