"""How good the networks are, measured on the served path: PNG bytes in, PNG bytes out, compared with the original."""

import dataclasses
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from app.decoder import DecodeLimits, decode
from app.engine import Engine
from app.scheduler import Scheduler
from app.settings import Settings, usable_cores
from app.upscaler import Output, open_job, prepare, upscale
from app.zoo import MANIFEST, MANIFEST_VERSION, ModelFile, ModelSpec, load_zoo
from training.checkpoint import Folders
from training.data import Pixels, list_pictures, read_picture
from training.degradations import bicubic
from training.metrics import compare

TEST_SETS = ("Set5", "Set14", "B100")
Upscale = Callable[[ModelSpec, bytes], Pixels]
Metrics = dict[str, dict[str, float]]


def test_pairs(folder: Path, scale: int) -> Iterator[tuple[bytes, Pixels]]:
    """LR as PNG bytes and HR uint8 ``[H, W, 3]``.

    A folder with ``x<scale>/NNN_LR.png`` and ``NNN_HR.png`` is taken as it is; of any other folder of pictures the LR
    is made by bicubic reduction.
    """
    ready = sorted((folder / f"x{scale}").glob("*_LR.png"))
    if ready:
        for path in ready:
            original = path.with_name(path.name.replace("_LR", "_HR"))
            if not original.exists():  # B100 keeps its originals once, beside x4
                original = folder / "x4" / original.name
            yield path.read_bytes(), read_picture(original)
        return
    for path in list_pictures(folder):
        hr = read_picture(path, multiple=scale)
        buffer = io.BytesIO()
        Image.fromarray(bicubic(hr, scale)).save(buffer, "PNG")
        yield buffer.getvalue(), hr


def serves_scale(folder: Path, scale: int) -> bool:
    """Whether a test set can judge that scale: it has the pairs, or it is a folder of plain pictures."""
    return (folder / f"x{scale}").is_dir() or (folder.is_dir() and not any(folder.glob("x[1-9]")))


def evaluate(spec: ModelSpec, run: Upscale, folders: Folders, sets: tuple[str, ...] = TEST_SETS) -> Metrics:
    """Mean figures on each test set that is there at this scale."""
    results: Metrics = {}
    for name in sets:
        folder = folders.data / name
        if not serves_scale(folder, spec.scale):
            continue
        scores = []
        for lr, hr in test_pairs(folder, spec.scale):
            sr = run(spec, lr)
            h, w = min(sr.shape[0], hr.shape[0]), min(sr.shape[1], hr.shape[1])
            scores.append(compare(sr[:h, :w], hr[:h, :w], spec.scale))
        results[name] = {key: round(float(np.mean([s[key] for s in scores])), 4) for key in scores[0]}
    return results


def served_path(models: Path, precision: str = "auto") -> tuple[Upscale, Scheduler]:
    """The same generator the service walks, over the same engine and scheduler."""
    settings = Settings(models=models)
    engine = Engine(load_zoo(models), "cpu", usable_cores(), precision)
    scheduler = Scheduler(engine.run, lambda spec: engine.network(spec).seconds_per_pixel, settings.max_queue_seconds)

    def run(spec: ModelSpec, image: bytes) -> Pixels:
        work = prepare(decode(image, DecodeLimits()), [spec], Output("png"), settings.budget)
        with open_job(work, scheduler, seconds=3600) as job:
            data = b"".join(upscale(work, job))
        with Image.open(io.BytesIO(data)) as result:
            return np.asarray(result.convert("RGB"))

    return run, scheduler


def evaluate_candidate(spec: ModelSpec, data: bytes, folders: Folders, precision: str) -> Metrics:
    """Figures of a model's file of one precision that is not in the zoo yet."""
    with tempfile.TemporaryDirectory() as folder:
        file = ModelFile(f"{spec.title}.onnx", hashlib.sha256(data).hexdigest(), len(data), {})
        entry = dataclasses.asdict(dataclasses.replace(spec, files={precision: file}))
        (Path(folder) / file.path).write_bytes(data)
        manifest = {"version": MANIFEST_VERSION, "default": spec.name, "models": [entry]}
        (Path(folder) / MANIFEST).write_text(json.dumps(manifest))
        run, scheduler = served_path(Path(folder), precision)
        try:
            return evaluate(spec, run, folders)
        finally:
            scheduler.close()


def evaluate_zoo(
    models: Path, folders: Folders, titles: list[str], sets: tuple[str, ...], precision: str = "fp32"
) -> dict[str, Metrics]:
    """Figures of the named models of the zoo (``name`` or ``name-xN``; none named: all that have that precision)."""
    zoo = load_zoo(models)
    if unknown := set(titles) - {spec.title for spec in zoo} - set(zoo.names):
        known = ", ".join(spec.title for spec in zoo)
        raise ValueError(f"no model is called {', '.join(sorted(unknown))}; there are: {known}")
    if not any((folders.data / name).is_dir() for name in sets):
        raise ValueError(f"none of the test sets {', '.join(sets)} is in {folders.data}; give its folder with --data")
    chosen = [spec for spec in zoo if not titles or spec.title in titles or spec.name in titles]
    if missing := [spec.title for spec in chosen if titles and precision not in spec.files]:
        raise ValueError(f"there is no {precision} file of {', '.join(missing)}")
    chosen = [spec for spec in chosen if precision in spec.files]
    run, scheduler = served_path(models, precision)
    try:
        return {spec.title: evaluate(spec, run, folders, sets) for spec in chosen}
    finally:
        scheduler.close()


def table(results: dict[str, Metrics]) -> str:
    """Markdown: a row a model, luma PSNR / SSIM a test set."""
    sets = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    lines = ["| model | " + " | ".join(sets) + " |", "| --- |" + " --- |" * len(sets)]
    for title, metrics in results.items():
        cells = [f"{m['psnr_y']:.2f} / {m['ssim_y']:.4f}" if (m := metrics.get(name)) else "-" for name in sets]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
