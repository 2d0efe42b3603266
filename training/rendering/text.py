"""What pages say, and in which fonts: the installed ones, by script."""

import subprocess
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

SCRIPTS_FILE = Path(__file__).parent / "scripts.toml"


@dataclass(frozen=True)
class Script:
    """``fonts``: the families that have it. ``text``: some paragraphs."""

    name: str
    fonts: tuple[str, ...]
    text: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        if self.name == "han":  # no spaces between words: two signs stand for one
            return [paragraph[i : i + 2] for paragraph in self.text for i in range(0, len(paragraph), 2)]
        return [word for paragraph in self.text for word in paragraph.split()]

    @property
    def direction(self) -> str:
        return "rtl" if self.name == "arabic" else "ltr"

    def font(self, rng: np.random.Generator) -> str:
        return str(rng.choice(self.fonts))

    def phrase(self, rng: np.random.Generator, shortest: int = 1, longest: int = 5) -> str:
        """Some words in their order, now and then in capitals, a number, or letters at random."""
        words, kind = self.words, rng.random()
        if kind < 0.1:
            return str(rng.choice(["{:,}", "{}", "{}%", "€ {}.00", "12:{}", "v{}.0", "#{}"])).format(
                rng.integers(100_000)
            )
        if kind < 0.2:
            letters = sorted({letter for word in words for letter in word if letter.isalnum()})
            return "".join(rng.choice(letters, rng.integers(3, 12)))
        start, count = rng.integers(len(words)), rng.integers(shortest, longest + 1)
        phrase = ("" if self.name == "han" else " ").join(words[start : start + count])
        return phrase.upper() if kind < 0.3 else phrase


@lru_cache
def scripts() -> dict[str, Script]:
    """Those for which a font is installed."""
    table = tomllib.loads(SCRIPTS_FILE.read_text(encoding="utf-8"))
    found = {name: Script(name, fonts_of(entry["language"]), tuple(entry["text"])) for name, entry in table.items()}
    return {name: script for name, script in found.items() if script.fonts}


def fonts_of(language: str) -> tuple[str, ...]:
    """Families that fontconfig says can write a language; bitmap-like Unifont stands for the rarest alone."""
    listed = subprocess.run(["fc-list", f":lang={language}", "family"], check=True, capture_output=True, text=True)
    families = sorted({line.split(",")[0].replace("\\", "") for line in listed.stdout.splitlines() if line})
    return tuple(family for family in families if not family.startswith("Unifont")) or tuple(families)
