"""Drawings as SVG, those of others and made-up ones, rendered by librsvg."""

import io
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.pairs import Pixels

SECONDS = 30
LONG_SIDE = (384, 1536)  # HR pixels, drawn evenly on a logarithmic scale


def find_drawings(folder: Path) -> list[Path]:
    """Every SVG below ``folder`` with nothing but vectors in it, sorted."""
    drawings = [path for path in sorted(folder.rglob("*.svg")) if b"<image" not in path.read_bytes()]
    if not drawings:
        raise ValueError(f"no drawings in {folder}; give a folder of SVG files with --svg (Debian: openclipart-svg)")
    return drawings


def render(svg: bytes, long_side: int) -> Image.Image | None:
    """RGBA with sides of ``long_side`` at most; none of what librsvg cannot draw."""
    if not shutil.which("rsvg-convert"):
        raise ValueError(
            "drawings are rendered by rsvg-convert, which is not here (Debian: apt-get install librsvg2-bin)"
        )
    side = str(long_side)
    try:
        result = subprocess.run(
            ["rsvg-convert", "--width", side, "--height", side, "--keep-aspect-ratio"],
            input=svg,
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        return Image.open(io.BytesIO(result.stdout)).convert("RGBA")
    except (subprocess.SubprocessError, OSError):
        return None


def drawing(svg: bytes, least: int, rng: np.random.Generator) -> Pixels | None:
    """Over a ground that is ``least`` pixels high and wide, uint8 ``[H, W, 3]``; none of an empty drawing."""
    low, high = LONG_SIDE
    image = render(svg, round(low * (high / low) ** rng.random()))
    if image is None or not (box := image.getbbox()):
        return None
    image = image.crop(box)
    size = max(image.width, least), max(image.height, least)
    picture = ground(size, rng)
    place = ((size[0] - image.width) // 2, (size[1] - image.height) // 2)
    picture.paste(image, place, mask=image)
    return np.asarray(picture)


def ground(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """White, a colour or a gradient from one to another."""
    kind = rng.random()
    if kind < 0.6:
        return Image.new("RGB", size, "white")
    colours = rng.integers(0, 256, (2, 3))
    if kind < 0.85:
        return Image.new("RGB", size, tuple(colours[0].tolist()))
    share = Image.linear_gradient("L").rotate(90 * int(rng.integers(4))).resize(size, Image.Resampling.BICUBIC)
    return Image.composite(*(Image.new("RGB", size, tuple(colour)) for colour in colours.tolist()), share)


# -- made up: flat colours, gradients and shadows within outlines; strands of hair; screen tones; hatching ------------


def line_art(rng: np.random.Generator, width: int = 1200, height: int = 1200) -> bytes:
    """An SVG of some figures over each other, in ink alone or in colours."""
    ink = "#000" if rng.random() < 0.5 else colour(rng, 60)
    coloured = rng.random() < 0.7
    shapes, definitions = [], []
    for number in range(int(rng.integers(8, 20))):
        centre, size = rng.random(2) * (width, height), float(rng.uniform(60, 400))
        outline = blob(centre, size, rng)
        definition, fill = filling(number, rng) if coloured else toned(number, rng)
        definitions.append(f'{definition}<clipPath id="c{number}"><path d="{outline}"/></clipPath>')
        line = rng.choice([0, 2, 4, 6, 10, 16])
        shapes.append(f'<path d="{outline}" fill="{fill}"/>')
        inner = rng.choice([shadow, strands, hatching])(centre, size, ink, rng)
        shapes.append(f'<g clip-path="url(#c{number})">{inner}</g>')
        shapes.append(f'<path d="{outline}" fill="none" stroke="{ink}" stroke-width="{line}"/>')
    paper = "#fff" if not coloured or rng.random() < 0.4 else colour(rng)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><defs>{"".join(definitions)}</defs>'
        f'<rect width="100%" height="100%" fill="{paper}"/>{"".join(shapes)}</svg>'
    ).encode()


def colour(rng: np.random.Generator, brightest: int = 255) -> str:
    return "#" + bytes(rng.integers(0, brightest + 1, 3).tolist()).hex()


def blob(centre: np.ndarray, size: float, rng: np.random.Generator) -> str:
    """A closed path: smooth, or (one in four) with corners."""
    count = int(rng.integers(4, 10))
    angles = np.sort(rng.uniform(0, 2 * math.pi, count))
    points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.4, 1, (count, 1)) * size
    if rng.random() < 0.25:
        return f"M{' L'.join(f'{x:.1f},{y:.1f}' for x, y in points)}Z"
    after, before = np.roll(points, -1, 0), np.roll(points, 1, 0)
    leaving = points + (after - before) / 5
    arriving = after - (np.roll(points, -2, 0) - points) / 5
    curves = np.concatenate([leaving, arriving, after], 1)
    return (
        f"M{points[0][0]:.1f},{points[0][1]:.1f}" + "".join(f"C{' '.join(f'{v:.1f}' for v in c)}" for c in curves) + "Z"
    )


def filling(number: int, rng: np.random.Generator) -> tuple[str, str]:
    """Its definition and its name: one colour, or a linear or radial gradient."""
    kind = rng.choice(["flat", "linear", "radial"], p=[0.5, 0.3, 0.2])
    if kind == "flat":
        return "", colour(rng)
    stops = "".join(f'<stop offset="{offset}" stop-color="{colour(rng)}"/>' for offset in (0, 1))
    turned = f'gradientTransform="rotate({rng.integers(360)} .5 .5)"'
    return f'<{kind}Gradient id="g{number}" {turned}>{stops}</{kind}Gradient>', f"url(#g{number})"


def toned(number: int, rng: np.random.Generator) -> tuple[str, str]:
    """White, gray, or a screen tone of dots."""
    kind = rng.random()
    if kind < 0.5:
        return "", str(rng.choice(["#fff", "#fff", "#000", "#888", "#ccc"]))
    pitch = rng.uniform(10, 28)
    dot = f'<circle cx="{pitch / 2}" cy="{pitch / 2}" r="{pitch * rng.uniform(0.15, 0.45)}"/>'
    pattern = f'id="g{number}" width="{pitch}" height="{pitch}" patternUnits="userSpaceOnUse"'
    turned = f'patternTransform="rotate({rng.choice([0, 45])})"'
    ground = '<rect width="99" height="99" fill="#fff"/>'
    return f"<pattern {pattern} {turned}>{ground}{dot}</pattern>", f"url(#g{number})"


def shadow(centre: np.ndarray, size: float, ink: str, rng: np.random.Generator) -> str:
    """Cel shading: a part of the figure darker, and a small light."""
    dark, light = blob(centre + rng.uniform(-0.6, 0.6, 2) * size, size, rng), blob(centre, 0.15 * size, rng)
    return f'<path d="{dark}" fill="{ink}" opacity=".3"/><path d="{light}" fill="#fff" opacity=".85"/>'


def strands(centre: np.ndarray, size: float, ink: str, rng: np.random.Generator) -> str:
    """Curved strokes that taper to a point at both ends, side by side as hair is drawn."""
    paths, step = [], rng.uniform(0.04, 0.2) * size
    bend, slant = rng.uniform(-0.8, 0.8, 2) * size
    for offset in np.arange(-size, size, step):
        x, top, bottom = centre[0] + offset, centre[1] - size, centre[1] + size
        middle, thick = x + bend + rng.uniform(-0.5, 0.5) * step, rng.uniform(1, 0.5 * step + 1)
        start, end = f"{x:.1f},{top:.1f}", f"{x + slant:.1f},{bottom:.1f}"
        left, right = f"{middle:.1f},{centre[1]:.1f}", f"{middle + thick:.1f},{centre[1]:.1f}"
        paths.append(f"M{start}Q{left} {end}Q{right} {start}Z")
    return f'<path d="{"".join(paths)}" fill="{ink}"/>'


def hatching(centre: np.ndarray, size: float, ink: str, rng: np.random.Generator) -> str:
    step, line = rng.uniform(8, 40), rng.uniform(1.5, 5)
    lines = "".join(
        f"M{centre[0] - size:.1f},{y:.1f}h{2 * size:.1f}" for y in np.arange(centre[1] - size, centre[1] + size, step)
    )
    turned = f'transform="rotate({rng.integers(180)} {centre[0]:.1f} {centre[1]:.1f})"'
    return f'<path d="{lines}" stroke="{ink}" stroke-width="{line:.1f}" {turned}/>'
