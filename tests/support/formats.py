"""The tables of ``docs/formats.md``, made from the rows of ``app/images/formats`` and ``app/images/encoders``.

python -m tests.support.formats      # writes them
"""

from app.images.encoders import FORMATS
from app.images.formats import INPUTS
from harness import ROOT

DOCUMENT = ROOT / "docs" / "formats.md"
BEGIN, END = "<!-- formats: begin -->\n", "<!-- formats: end -->\n"


def tables() -> str:
    """Markdown: what is read, and what is written."""
    lines = ["| input | suffixes in a folder |", "| --- | --- |"]
    lines += [f"| `{each.name}` | {' '.join(f'`{suffix}`' for suffix in each.suffixes)} |" for each in INPUTS.values()]
    lines += ["", "| output | media type | suffixes | bits | alpha | options | streamed | at most |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for each in FORMATS.values():
        options = [name for name in ("quality", "subsampling", "lossless") if getattr(each, name)]
        most = {"px a side": each.max_side, "px": each.max_pixels, "bytes": each.max_bytes}
        limits = [f"{limit:,} {unit}" for unit, limit in most.items() if limit]
        cells = [f"`{each.name}`", f"`{each.media_type}`", " ".join(f"`{suffix}`" for suffix in each.suffixes)]
        cells += ["8 or 16" if each.bits == 16 else "8", "yes" if each.alpha else "no", ", ".join(options) or "-"]
        cells += ["yes" if each.streamed else "no", ", ".join(limits)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_tables(document: str) -> str:
    """The document with its tables made anew."""
    head, _, rest = document.partition(BEGIN)
    return head + BEGIN + tables() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
