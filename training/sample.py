"""Crops of a picture as the zoo enlarges it; the picture: a freely licensed one that scikit-image brings along."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import skimage.data

from app.zoo import ModelSpec, Zoo
from training.crops import Box, Panel, most_different, save_picture, side_by_side, versions
from training.data import Pixels, read_picture
from training.degradations import bicubic
from training.evaluate import png, served_path

CREDIT = "Eileen Collins, photographed by NASA, public domain (`skimage.data.astronaut()`)"
PATCH = Box(120, 336, 96, 96)  # the mission's patch: letters, thin lines, cloth
CROP_SIDE, CROP_ZOOM = 64, 3  # HR pixels; small, since every network has its own


def sample_picture() -> Pixels:
    """uint8 ``[512, 512, 3]``; no network here was trained on it."""
    return skimage.data.astronaut()


def enlarged(zoo: Zoo, files: Iterable[tuple[ModelSpec, str]], hr: Pixels) -> list[Panel]:
    """The picture, reduced by bicubic and enlarged again by each file (all of one scale), between its other versions.

    Files of one model are told apart by their precision where there is more than one.
    """
    files = list(files)
    (scale,) = {spec.scale for spec, _ in files}
    hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
    lr = bicubic(hr, scale)
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
        panels = enlarged(zoo, [(spec, p) for spec, p in trained if spec.scale == scale], hr)
        networks = panels[2:-1] if len(panels) > 4 else panels[1:-1]
        chosen = box or most_different([panel.pixels for panel in networks], CROP_SIDE, CROP_SIDE)
        save_picture(side_by_side(panels, chosen, CROP_ZOOM), folder / f"crops-x{scale}.png")
