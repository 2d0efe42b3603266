"""What the zoo makes of a sample: crops of a photograph that scikit-image brings along, a QR code, a grid of digits."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import segno
import skimage.data
from PIL import Image

from app.inference.engine import Engine
from app.inference.generator import grid, latent_vectors
from app.inference.zoo import GeneratorSpec, ModelSpec, Zoo
from app.threads import usable_cores
from training.data.degradations import DEGRADATIONS, RANDOM_DEGRADATIONS, bicubic
from training.data.pairs import Pixels, read_picture
from training.data.qrcodes import Code, render_pair, whole_size, whole_view
from training.report.conditions import CONDITIONS
from training.report.crops import Box, Panel, most_different, save_picture, side_by_side, versions
from training.report.evaluate import png, served_path

CREDIT = "Eileen Collins, photographed by NASA, public domain (`skimage.data.astronaut()`)"
PATCH = Box(120, 336, 96, 96)  # the mission's patch: letters, thin lines, cloth
CODE_CONTENT = "https://en.wikipedia.org/wiki/Enlarger"
CODE_SIZE, CODE_BLUR, CODE_NOISE = 1.3, 0.5, 5.0  # LR pixels a module, LR pixels, levels of 255
CODE_SEED = 1
CODE_CREDIT = f"A code drawn with {CODE_SIZE} pixels a module, blurred by {CODE_BLUR} pixels, noise {CODE_NOISE:g}"
GRID_SEED, GRID_COUNT, GRID_COLUMNS, GRID_ZOOM = 1, 50, 10, 2
DRAWS, DEGRADED, DEGRADED_ZOOM = 4, Box(22, 76, 44, 44), 3
CROP_SIDE, CROP_ZOOM = 64, 3  # HR pixels; small, since every network has its own


def sample_picture() -> Pixels:
    """uint8 ``[512, 512, 3]``; no network here was trained on it."""
    return skimage.data.astronaut()


def sample_pair(hr: Pixels, scale: int, reduce: Callable[[Pixels, int], Pixels] = bicubic) -> tuple[Pixels, Pixels]:
    """The picture reduced, and the picture as far as it is that many times as large."""
    hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
    return reduce(hr, scale), hr


def draw_degradations(path: Path, scale: int = 4) -> None:
    """What a crop of the sample is like at the LR size after each degradation: the fixed ones that networks are judged
    under, and the random ones that they learn from, each drawn ``DRAWS`` times."""
    hr = sample_picture()
    fixed = {**DEGRADATIONS, "web": CONDITIONS["web"], "poor": CONDITIONS["poor"]}
    panels = [Panel(name, spoil(hr, scale)) for name, spoil in fixed.items()]
    for name in ("web", "poor"):
        seeds = range(1, DRAWS + 1)
        spoil = RANDOM_DEGRADATIONS[name]
        panels += [Panel(f"random {name} {seed}", spoil(hr, scale, np.random.default_rng(seed))) for seed in seeds]
    first, *others = panels
    save_picture(side_by_side([*others, first], DEGRADED, DEGRADED_ZOOM), path)


def sample_code(scale: int) -> tuple[Pixels, Pixels]:
    """LR and HR of a small, blurred, noisy QR code that says where this project's name comes from."""
    rng = np.random.default_rng(CODE_SEED)
    modules = np.array([list(row) for row in segno.make(CODE_CONTENT, error="m", micro=False).matrix], np.uint8)
    code = Code(CODE_CONTENT, (len(modules) - 17) // 4, modules)
    view = whole_view(rng, code, CODE_SIZE, CODE_BLUR, CODE_NOISE)
    return render_pair(code, view, whole_size(code, CODE_SIZE), scale, rng)


def draw_grid(zoo: Zoo, spec: GeneratorSpec) -> Image.Image:
    """``GRID_COUNT`` pictures of a generator of the zoo, as ``POST /generate`` draws them, but larger."""
    engine = Engine(dataclasses.replace(zoo, models=(), generators=(spec,)), "cpu", usable_cores())
    latents = latent_vectors(GRID_SEED, GRID_COUNT, spec.latent)
    sheet = grid(engine.generators[spec.name].run(latents), GRID_COLUMNS)
    image = Image.fromarray(sheet[..., 0] if spec.channels == 1 else sheet)
    return image.resize((image.width * GRID_ZOOM, image.height * GRID_ZOOM), Image.Resampling.NEAREST)


def enlarged(zoo: Zoo, files: Iterable[tuple[ModelSpec, str]], lr: Pixels, hr: Pixels) -> list[Panel]:
    """A picture as enlarged by each file (all of one scale), between its other versions.

    Files of one model are told apart by their precision where there is more than one.
    """
    panels = []
    for spec, precision in files:
        with served_path(zoo, [spec], precision) as path:
            label = spec.name if precision == "fp32" else f"{spec.name} {precision}"
            panels.append(Panel(label, path.upscale(spec, png(lr))))
    return versions(lr, hr, panels)


def draw_crops(
    zoo: Zoo,
    files: Sequence[tuple[ModelSpec, str]],
    folder: Path,
    picture: Path | None = None,
    box: Box | None = None,
) -> None:
    """``crops-x<scale>.png`` for each scale with a trained network's fp32 file among ``files``.

    Without a box it is the one in which the networks (a single one and bicubic) differ most.
    """
    hr = read_picture(picture) if picture else sample_picture()
    trained = [(spec, p) for spec, p in files if p == "fp32" and spec.architecture != "interpolation"]
    for scale in sorted({spec.scale for spec, _ in trained}):
        of_scale = [(spec, p) for spec, p in trained if spec.scale == scale]
        panels = enlarged(zoo, of_scale, *sample_pair(hr, scale))
        networks = panels[2:-1] if len(panels) > 4 else panels[1:-1]
        chosen = box or most_different([panel.pixels for panel in networks], CROP_SIDE, CROP_SIDE)
        save_picture(side_by_side(panels, chosen, CROP_ZOOM), folder / f"crops-x{scale}.png")
