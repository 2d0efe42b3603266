"""How much of small text a reader (Tesseract) gets right after networks, by script, size and what was done to it.

Pages of words in their scripts' plain fonts are drawn by Chromium at four times their size (HR) and spoiled as
``conditions`` has it; under "screen" LR is the page as Chromium draws it at its own size, hinted as on a screen.
"""

import json
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.inference.zoo import load_zoo
from training.rendering.browser import screenshot
from training.rendering.text import Script, scripts
from training.report.cache import Cache
from training.report.conditions import CONDITIONS
from training.report.evaluate import ServedPath, choose, png, served_path
from training.report.evaluate_looks import cached_enlarger, enlarger, label_of, read_rivals
from training.report.metrics import Pixels

SCALE = 4
SEED = 0x0C2
SIZES = (8, 10, 12, 14)  # LR pixels, CSS' font-size
SCREEN = "screen"
WAYS = (*CONDITIONS, SCREEN)
LANGUAGES = {"latin": "eng", "cyrillic": "rus", "greek": "ell", "arabic": "ara", "devanagari": "hin"}
FONTS = (
    *("DejaVu Sans", "DejaVu Serif", "Liberation Sans", "Liberation Serif", "FreeSans", "FreeSerif"),
    *("Lohit Devanagari", "Amiri", "KacstBook"),
)
WORDS, WIDTH, HEIGHT = 28, 320, 192  # of a page; CSS pixels
SECONDS = 60
ORIGINAL = "original"

Enlarge = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class Reading:
    """``right``: the share of a page's characters that were read, 1 - edit distance / length, at least 0."""

    network: str
    script: str
    size: int
    way: str
    page: int
    right: float


@dataclass(frozen=True)
class Text:
    """A page: what it says, and how it is drawn."""

    content: str
    html: str

    def drawn(self, factor: int) -> Pixels:
        return screenshot(self.html, WIDTH, HEIGHT, factor)


def make_text(script: Script, size: int, page: int) -> Text:
    """The same for the same script, size and number, with the same fonts installed."""
    rng = np.random.default_rng((SEED, size, page, *script.name.encode()))
    words = rng.permutation([word for word in first_language(script) if len(word) > 1])[:WORDS]
    content = " ".join(words.tolist())
    fonts = [font for font in FONTS if font in script.fonts] or script.fonts
    ground, ink = (("#fff", "#000"), ("#fff", "#333"), ("#fdf6e3", "#222"), ("#222", "#eee"))[page % 4]
    style = f"margin:6px;font:{size}px/1.5 '{fonts[page % len(fonts)]}';direction:{script.direction};"
    return Text(content, f'<body style="{style}background:{ground};color:{ink}">{escape(content)}')


def first_language(script: Script) -> list[str]:
    """Words of the language that the reader is told: the first paragraphs of a script are in it."""
    return [word for paragraph in script.text[:2] for word in paragraph.split()]


def installed_languages() -> set[str]:
    if not shutil.which("tesseract"):
        raise ValueError("text is read by tesseract, which is not here (Debian: apt-get install tesseract-ocr)")
    listed = subprocess.run(["tesseract", "--list-langs"], check=True, capture_output=True, text=True)
    return set(listed.stdout.split()[1:])


def read(image: Pixels, language: str) -> str:
    """What stands in uint8 ``[H, W, 3]``, taken as one block of text."""
    command = ["tesseract", "stdin", "stdout", "-l", language, "--psm", "6", "--dpi", "300"]
    single = os.environ | {"OMP_THREAD_LIMIT": "1"}
    result = subprocess.run(command, input=png(image), check=True, capture_output=True, timeout=SECONDS, env=single)
    return " ".join(result.stdout.decode(errors="replace").split())


def share_right(content: str, found: str) -> float:
    """Signs of one meaning count as one: a micro sign read for a mu is right.

    >>> share_right("letter", "1etter"), share_right("a", "something else"), share_right("\u03bc", "\u00b5")
    (0.8333333333333334, 0.0, 1.0)
    """
    content, found = (unicodedata.normalize("NFKC", text) for text in (content, found))
    return max(0.0, 1 - edit_distance(content, found) / len(content))


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's: insertions, deletions and exchanges of a character.

    >>> edit_distance("kitten", "sitting"), edit_distance("", "abc")
    (3, 3)
    """
    before = list(range(len(other) + 1))
    for row, a in enumerate(one, 1):
        now = [row]
        for column, b in enumerate(other, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (a != b)))
        before = now
    return before[-1]


@dataclass(frozen=True)
class Asked:
    """What is compared: networks of the zoo by their names, and ``rivals``' files; ``pages`` of each kind."""

    models: Path
    names: Sequence[str]
    rivals: Sequence[Path]
    scripts: Sequence[str]
    sizes: Sequence[int]
    ways: Sequence[str]
    pages: int
    cache: Cache


def evaluate_ocr(asked: Asked) -> list[Reading]:
    languages = installed_languages()
    there = [name for name in asked.scripts if name in scripts() and LANGUAGES[name] in languages]
    if not there:
        raise ValueError(f"no language of {', '.join(asked.scripts)} is installed for tesseract, or no font has it")
    with ExitStack() as stack:
        zoo = load_zoo(asked.models)
        networks: dict[str, Enlarge] = {}
        for spec, precision in choose(zoo, [f"{name}-x{SCALE}" for name in asked.names], ["fp32"]):
            path: ServedPath = stack.enter_context(served_path(zoo, [spec], precision))
            networks[label_of(spec, precision)] = enlarger(spec, path)
        networks |= {rival.name: cached_enlarger(rival, asked.cache) for rival in read_rivals(asked.rivals)}
        kinds = [(name, size, page) for name in there for size in asked.sizes for page in range(asked.pages)]
        found = [
            each for kind in tqdm(kinds, "reading", unit="page") for each in read_page(networks, *kind, asked.ways)
        ]
    return found


def read_page(networks: Mapping[str, Enlarge], name: str, size: int, page: int, ways: Sequence[str]) -> list[Reading]:
    text, language = make_text(scripts()[name], size, page), LANGUAGES[name]
    hr = text.drawn(SCALE)
    ceiling = share_right(text.content, read(hr, language))
    readings = []
    for way in ways:
        lr = text.drawn(1) if way == SCREEN else CONDITIONS[way](hr, SCALE)
        rights = {
            network: share_right(text.content, read(enlarge(lr), language)) for network, enlarge in networks.items()
        }
        for network, right in {**rights, ORIGINAL: ceiling}.items():
            readings.append(Reading(network, name, size, way, page, round(right, 4)))
    return readings


# -- told --------------------------------------------------------------------------------------------------------


def ocr_table(readings: Sequence[Reading]) -> str:
    """Markdown: percent of the characters read, a table a way, a row a network, a column a script and size."""
    networks = list(dict.fromkeys(reading.network for reading in readings))
    columns = list(dict.fromkeys((reading.script, reading.size) for reading in readings))
    parts = []
    for way in dict.fromkeys(reading.way for reading in readings):
        of_way = [reading for reading in readings if reading.way == way]
        lines = [f"| {way} | {' | '.join(f'{script} {size}' for script, size in columns)} | mean |"]
        lines.append("| --- |" + " --- |" * (len(columns) + 1))
        for network in networks:
            own = [reading for reading in of_way if reading.network == network]
            cells = [percent(each for each in own if (each.script, each.size) == column) for column in columns]
            lines.append(f"| `{network}` | {' | '.join(cells)} | {percent(own)} |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "Percent of the characters that Tesseract reads rightly (1 - edit distance / length)."])


def percent(readings: Iterable[Reading]) -> str:
    return f"{100 * float(np.mean([reading.right for reading in readings])):.1f}"


def write_readings(path: Path, readings: Sequence[Reading]) -> None:
    path.write_text(json.dumps([asdict(reading) for reading in readings], indent=1))
