"""Made-up web pages, each from its own random numbers: posters, documents, and interfaces as screenshots show them.

Lengths are CSS pixels, which are LR pixels of x4 where a page is drawn at four times its size.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.rendering.drawings import colour
from training.rendering.text import Script

WIDTH, HEIGHT = 640, 1600
SIZES = (7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 30, 40, 60)
SMALL = SIZES[:10]


@dataclass(frozen=True)
class Page:
    """One page while it is written: its random numbers, what it may say, and what may lie under text."""

    rng: np.random.Generator
    scripts: Sequence[Script]
    photos: Sequence[Path] = ()

    def script(self) -> Script:
        """Every other time Latin."""
        return self.scripts[0] if self.rng.random() < 0.4 else self.scripts[self.rng.integers(len(self.scripts))]

    def said(
        self, shortest: int = 1, longest: int = 5, tag: str = "span", style: str = "", script: Script | None = None
    ) -> str:
        """Some words in a font that has them."""
        script = script or self.script()
        style = f"font-family:'{script.font(self.rng)}';direction:{script.direction};{style}"
        return f'<{tag} style="{style}">{html.escape(script.phrase(self.rng, shortest, longest))}</{tag}>'

    def pick(self, *choices: str) -> str:
        return str(self.rng.choice(choices))

    def size(self, sizes: Sequence[int] = SMALL) -> str:
        return f"font-size:{self.rng.choice(sizes)}px;"

    def colours(self) -> tuple[str, str]:
        """Ground and ink, mostly far enough apart to be read."""
        kind = self.rng.random()
        if kind < 0.35:
            return self.pick("#fff", "#fff", "#f6f6f6", "#fdf6e3"), self.pick("#000", "#222", "#444", "#777", "#0645ad")
        if kind < 0.55:
            return self.pick("#000", "#1e1e1e", "#282c34", "#0d1117"), self.pick(
                "#fff", "#ddd", "#9cdcfe", "#aaa", "#7c3"
            )
        ground = self.rng.integers(0, 256, 3)
        far = self.rng.integers(0, 96, 3)
        ink = far if ground.mean() > 127 else 255 - far
        return tuple("#" + bytes(c.tolist()).hex() for c in (ground, ink))  # type: ignore[return-value]

    def ground(self, plain: str) -> str:
        """CSS of what lies under: a colour, a gradient, a pattern or a photograph."""
        kind = self.rng.random()
        if kind < 0.45:
            return f"background:{plain};"
        if kind < 0.65:
            angle = self.rng.integers(360)
            return f"background:linear-gradient({angle}deg,{plain},{colour(self.rng)});"
        if kind < 0.75:
            pitch = self.rng.integers(4, 30)
            return f"background:radial-gradient({colour(self.rng)} 30%,{plain} 35%) 0 0/{pitch}px {pitch}px;"
        if self.photos:
            photo = self.photos[self.rng.integers(len(self.photos))]
            return f"background:{plain} url('{photo.resolve().as_uri()}') center/{self.rng.integers(60, 200)}% ;"
        return f"background:{plain};"


def poster(page: Page) -> str:
    """Words of all sizes over all grounds: slides, covers, signs, logos, captions."""
    blocks, rng = [], page.rng
    for _ in range(48):
        ground, ink = page.colours()
        words = []
        for _ in range(rng.integers(1, 5)):
            effect = page.pick(
                "",
                "",
                "",
                "",
                f"text-shadow:1px 1px 2px {colour(rng)};",
                f"-webkit-text-stroke:.7px {colour(rng)};",
                "letter-spacing:2px;",
                "font-weight:bold;",
                "font-style:italic;",
                "text-decoration:underline;",
            )
            turn = f"display:inline-block;transform:rotate({rng.integers(-25, 26)}deg);" if rng.random() < 0.15 else ""
            words.append(page.said(1, 5, "div", page.size(SIZES) + effect + turn))
        border = page.pick("", "", f"border:{rng.integers(1, 5)}px solid {ink};border-radius:{rng.integers(0, 20)}px;")
        style = f"color:{ink};padding:6px;overflow:hidden;text-align:{page.pick('left', 'center')};{border}"
        blocks.append(f'<div style="{style}{page.ground(ground)}">{"".join(words)}</div>')
    return f'<div style="columns:{rng.integers(2, 5)};column-gap:0;height:100%">{"".join(blocks)}</div>'


def document(page: Page) -> str:
    """Headings, paragraphs, lists and tables in small type, as in papers, mails and manuals."""
    parts, rng = [], page.rng
    for _ in range(26):
        script = page.script()
        ground, ink = page.colours() if rng.random() < 0.3 else ("#fff", page.pick("#000", "#222", "#444"))
        paragraphs = "".join(
            page.said(12, 40, "p", page.size() + "margin:3px 0;", script) for _ in range(rng.integers(1, 3))
        )
        kind = rng.integers(4)
        if kind == 0:
            rows = "".join(f"<tr>{''.join(page.said(1, 2, 'td', '', script) for _ in range(4))}</tr>" for _ in range(6))
            style, border = f"{page.size()}border-collapse:collapse", page.pick("border=1", "")
            paragraphs += f'<table style="{style}" {border} cellpadding=3>{rows}</table>'
        elif kind == 1:
            paragraphs += f"<ul>{''.join(page.said(3, 8, 'li', page.size(), script) for _ in range(4))}</ul>"
        elif kind == 2:
            paragraphs = page.said(2, 6, "h2", page.size(SIZES[7:13]) + "margin:4px 0;", script) + paragraphs
        parts.append(f'<div style="background:{ground};color:{ink};padding:8px;overflow:hidden">{paragraphs}</div>')
    return f'<div style="columns:{rng.integers(1, 4)};column-gap:0;height:100%">{"".join(parts)}</div>'


def interface(page: Page) -> str:
    """Windows with menus, forms, tables, charts, messages and code."""
    rng = page.rng
    parts = [WIDGETS[rng.integers(len(WIDGETS))](page) for _ in range(40)]
    ground, ink = page.colours()
    style = (
        f"display:flex;flex-wrap:wrap;align-content:flex-start;gap:{rng.integers(2, 14)}px;height:100%;overflow:hidden;"
    )
    return f'<div style="{style}background:{ground};color:{ink};{page.size(SIZES[2:8])}">{"".join(parts)}</div>'


def form(page: Page) -> str:
    rng = page.rng
    fields = "".join(
        page.pick(
            f"{page.said(1, 2)} <input value='{rng.integers(9999)}' style='width:70px;font:inherit'>",
            f"<input type=checkbox {page.pick('checked', '')}>{page.said(1, 3)}",
            f"<input type=radio {page.pick('checked', '')}>{page.said(1, 3)}",
            f"<input type=range style='width:90px'><progress value=.{rng.integers(1, 9)} style='width:60px'>",
            f"<select style='font:inherit;width:110px'><option>{page.said(1, 2)}</select>",
            f"<button style='font:inherit;border-radius:{rng.integers(0, 9)}px;background:{colour(rng)}'>"
            f"{page.said(1, 2)}</button>",
        )
        + "<br>"
        for _ in range(6)
    )
    return card(page, fields)


def table(page: Page) -> str:
    script, stripe = page.script(), colour(page.rng)
    rows = "".join(
        f"<tr style='background:{stripe if number % 2 else 'none'}'>"
        + "".join(page.said(1, 2, "td", "", script) for _ in range(4))
        + f"<td>{page.rng.integers(100_000):,}</tr>"
        for number in range(7)
    )
    return card(page, f"<table cellspacing=0 cellpadding=3 {page.pick('border=1', '')}>{rows}</table>")


def chart(page: Page) -> str:
    """Lines, or bars, over a grid with numbers."""
    rng = page.rng
    grid = "".join(
        f"<path d='M20,{y}H200' stroke='#8884'/><text x=0 y={y} font-size=8>{100 - y}</text>"
        for y in range(10, 110, 20)
    )
    values = rng.integers(10, 100, (3, 19))
    if rng.random() < 0.5:
        lines = ["M" + " ".join(f"{20 + 10 * i},{v}" for i, v in enumerate(row)) for row in values.tolist()]
        drawn = "".join(
            f"<path d='{d}' fill=none stroke='{colour(rng)}' stroke-width='{rng.uniform(0.5, 3):.1f}'/>" for d in lines
        )
    else:
        drawn = "".join(
            f"<rect x={20 + 10 * i} y={v} width=8 height={100 - v} fill='{colour(rng)}'/>"
            for i, v in enumerate(values[0].tolist())
        )
    return card(page, f"<svg width=210 height=110 fill=currentColor>{grid}{drawn}</svg>")


def menu(page: Page) -> str:
    icons = "★☰✓✕⚙▶■●▲◆✎☀☎✉⌂↑↓←→"
    entries = "".join(
        f"<div style='padding:2px 6px;border-bottom:1px solid #8884'><span style='color:{colour(page.rng)}'>"
        f"{icons[page.rng.integers(len(icons))]}</span> {page.said(1, 3)} "
        f"<small>Ctrl+{'ABCDEFG'[page.rng.integers(7)]}</small></div>"
        for _ in range(6)
    )
    return card(page, entries, "padding:0;")


def messages(page: Page) -> str:
    bubbles = "".join(
        f"<div style='background:{ground};color:{ink};border-radius:9px;padding:4px 7px;margin:3px;"
        f"width:fit-content;max-width:190px'>{page.said(2, 9)}</div>"
        for ground, ink in (page.colours() for _ in range(4))
    )
    return card(page, bubbles)


TOKENS = (
    *("def", "return", "for", "in", "if", "self.x", "=", "(", ")", "0"),
    *("'a'", "+", "//", "{", "}", "==", "None", "import", "width", "[i]"),
)


def code(page: Page) -> str:
    ground, ink = page.colours()
    lines = []
    for _ in range(9):
        tokens = page.rng.choice(TOKENS, page.rng.integers(1, 8))
        body = " ".join(
            f"<span style='color:{colour(page.rng) if page.rng.random() < 0.3 else ink}'>{token}</span>"
            for token in tokens
        )
        lines.append("  " * int(page.rng.integers(4)) + body)
    font = page.pick("Hack", "DejaVu Sans Mono", "Fira Code", "JetBrains Mono", "Inconsolata", "FreeMono", "monospace")
    style = f"background:{ground};color:{ink};{page.size()}font-family:'{font}';padding:6px;margin:0 0 6px"
    return f'<pre style="{style}">{chr(10).join(lines)}</pre>'


def card(page: Page, content: str, style: str = "") -> str:
    ground, ink = page.colours()
    rng = page.rng
    edge = f"border:{rng.integers(0, 3)}px solid {page.pick('#8886', ink)};border-radius:{rng.choice([0, 0, 3, 8])}px;"
    shade = page.pick("", "box-shadow:0 2px 6px #0006;")
    title = page.pick("", page.said(1, 3, "div", f"background:{colour(rng)};color:#fff;padding:2px 5px;"))
    box = f"background:{ground};color:{ink};padding:5px;overflow:hidden;{edge}{shade}{style}"
    return f"<div style='{box}'>{title}{content}</div>"


WIDGETS: tuple[Callable[[Page], str], ...] = (form, table, chart, menu, messages, code, code)
PAGES: dict[str, Callable[[Page], str]] = {"poster": poster, "document": document, "interface": interface}
