"""How good and how fast the networks are: quality on the served path, PNG in and out; speed of the bare session."""

import dataclasses
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from app.inference.engine import Engine
from app.inference.runtimes.onnx_runtime import PRECISIONS
from app.inference.zoo import MANIFEST, MANIFEST_VERSION, ModelFile, ModelSpec, Zoo, load_zoo
from app.threads import usable_cores
from app.upscale.parameters import UpscaleParameters
from app.upscale.upscaler import Upscaler
from training.checkpoint import Folders
from training.data.degradations import bicubic
from training.data.pairs import Pixels, list_pictures, read_picture
from training.hardware import processor
from training.report.looks import Judges
from training.report.records import Metrics, Record, Speed

TEST_SETS = ("Set5", "Set14", "B100")
TILE = 256  # LR pixels, the side of the tile whose speed is told
SPEED_SECONDS, SPEED_RUNS = 2.0, 3  # at least so long and so often
MEASURED_ALONE = Judges({})  # PSNR and SSIM


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
        yield png(bicubic(hr, scale)), hr


def serves_scale(folder: Path, scale: int) -> bool:
    """Whether a test set can judge that scale: it has the pairs, or it is a folder of plain pictures."""
    return (folder / f"x{scale}").is_dir() or (folder.is_dir() and not any(folder.glob("x[1-9]")))


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class ServedPath:
    """The service's own way, over an engine of this process."""

    engine: Engine
    upscaler: Upscaler

    def upscale(self, spec: ModelSpec, image: bytes) -> Pixels:
        """An encoded picture to uint8 ``[H, W, 3]``, as a client would decode the PNG it gets."""
        opened = self.upscaler.open(image)
        plan = self.upscaler.plan(opened, UpscaleParameters(model=spec.name, scale=spec.scale, format="png"))
        data = b"".join(self.upscaler.run(self.upscaler.decode(opened, plan)))
        with Image.open(io.BytesIO(data)) as result:
            return np.asarray(result.convert("RGB"))


Judge = Callable[[ModelSpec, ServedPath], Metrics]
"""Figures of a model on the served path."""


@contextmanager
def served_path(
    zoo: Zoo, specs: Iterable[ModelSpec], precision: str = "auto", provider: str = "cpu"
) -> Iterator[ServedPath]:
    """Loads these networks of the zoo and no others."""
    engine = Engine(dataclasses.replace(zoo, models=tuple(specs)), provider, usable_cores(), precision)
    with Upscaler.on(engine) as upscaler:
        yield ServedPath(engine, upscaler)


def evaluate(
    spec: ModelSpec,
    path: ServedPath,
    folders: Folders,
    sets: Iterable[str] = TEST_SETS,
    judges: Judges = MEASURED_ALONE,
    worsened: "Worsened | None" = None,
) -> Metrics:
    """Mean figures on each test set that is there at this scale; LR as it is, or ``worsened`` first."""
    results: Metrics = {}
    for name in sets:
        folder = folders.data / name
        if not serves_scale(folder, spec.scale):
            continue
        scores = []
        for lr, hr in test_pairs(folder, spec.scale):
            sr = path.upscale(spec, worsened.png(lr) if worsened else lr)
            h, w = min(sr.shape[0], hr.shape[0]), min(sr.shape[1], hr.shape[1])
            scores.append(judges(sr[:h, :w], hr[:h, :w], spec.scale))
        results[f"{name}{worsened or ''}"] = means(scores)
    return results


def means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure the mean over all pictures that have it: NIQE says nothing of a flat one."""
    return {key: round(float(np.nanmean([score[key] for score in scores])), 4) for key in scores[0]}


@dataclass(frozen=True)
class Worsened:
    """What the web does to LR pictures: a Gaussian blur (deviation in LR pixels), then JPEG (4:2:0) of that quality."""

    blur: float
    jpeg: int

    def __post_init__(self) -> None:
        if not (0 <= self.blur < 100 and 1 <= self.jpeg <= 95):
            raise ValueError(f"blur {self.blur:g} and JPEG {self.jpeg}: a deviation from 0 and a quality from 1 to 95")

    def __str__(self) -> str:
        """As it stands behind the name of a test set."""
        return f" (blur {self.blur:g}, JPEG {self.jpeg})"

    def png(self, lr: bytes) -> bytes:
        """A picture file of a test set, as PNG bytes, made worse."""
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(lr)) as picture:
            blurred = picture.convert("RGB").filter(ImageFilter.GaussianBlur(self.blur))
        blurred.save(buffer, "JPEG", quality=self.jpeg, subsampling="4:2:0")
        with Image.open(buffer) as picture:
            return png(np.asarray(picture.convert("RGB")))


def measure_speed(engine: Engine, spec: ModelSpec, seconds: float = SPEED_SECONDS) -> Speed:
    """Of the bare session on one tile, all usable cores."""
    return best_speed(lambda tile: engine.run(spec, [tile]), seconds)


def best_speed(run: Callable[[Pixels], object], seconds: float = SPEED_SECONDS) -> Speed:
    """The best of some runs on one tile, uint8 ``[TILE, TILE, 3]``: other work can only slow it down."""
    tile = np.random.default_rng(0).integers(0, 256, (TILE, TILE, 3), np.uint8)
    run(tile)  # allocates for this size
    best, runs, end = float("inf"), 0, time.perf_counter() + seconds
    while runs < SPEED_RUNS or time.perf_counter() < end:
        started = time.perf_counter()
        run(tile)
        best, runs = min(best, time.perf_counter() - started), runs + 1
    return Speed(round(TILE * TILE / best / 1e6, 4), processor())


def evaluate_candidate(spec: ModelSpec, data: bytes, judge: Judge, precision: str) -> Metrics:
    """What ``judge`` says of a model's file of one precision that is not in the zoo yet."""
    with tempfile.TemporaryDirectory() as folder:
        file = ModelFile(f"{spec.title}.onnx", hashlib.sha256(data).hexdigest(), len(data), {})
        entry = dataclasses.asdict(dataclasses.replace(spec, files={precision: file}))
        (Path(folder) / file.path).write_bytes(data)
        manifest = {"version": MANIFEST_VERSION, "default": spec.name, "models": [entry]}
        (Path(folder) / MANIFEST).write_text(json.dumps(manifest))
        zoo = load_zoo(Path(folder))
        with served_path(zoo, zoo, precision) as path:
            return judge(spec, path)


def choose(zoo: Zoo, titles: Iterable[str] = (), precisions: Iterable[str] = ()) -> list[tuple[ModelSpec, str]]:
    """The files of the named models (``name`` or ``name-xN``; none named: all), those a CPU runs.

    ``precisions`` keeps these alone; a model named without any of them is an error, as is an unknown name.
    """
    named, kept = set(titles), set(precisions)
    if unknown := named - {spec.title for spec in zoo} - set(zoo.names):
        known = ", ".join(spec.title for spec in zoo)
        raise ValueError(f"no model is called {', '.join(sorted(unknown))}; there are: {known}")
    files = []
    for spec in zoo:
        if named and not {spec.name, spec.title} & named:
            continue
        there = [p for p in PRECISIONS["cpu"] if p in spec.files and (not kept or p in kept)]
        if named and not there:
            raise ValueError(f"there is no {' or '.join(sorted(kept))} file of {spec.title} that a CPU runs")
        files += [(spec, precision) for precision in there]
    return files


def evaluate_zoo(
    zoo: Zoo,
    files: Iterable[tuple[ModelSpec, str]],
    folders: Folders,
    sets: Iterable[str] = TEST_SETS,
    measures: Iterable[str] = ("quality", "speed"),
    judges: Judges = MEASURED_ALONE,
    worsened: Worsened | None = None,
) -> list[Record]:
    """One record a file, loaded one at a time; ``measures``: "quality" on the test sets, "speed", both or neither."""
    sets, measures = list(sets), set(measures)
    if "quality" in measures and not any((folders.data / name).is_dir() for name in sets):
        raise ValueError(f"none of the test sets {', '.join(sets)} is in {folders.data}; give its folder with --data")
    records = []
    for spec, precision in tqdm(list(files), desc="evaluating", unit="file", disable=not measures):
        metrics, speed = {}, None
        if measures:
            with served_path(zoo, [spec], precision) as path:
                if "quality" in measures:
                    metrics = evaluate(spec, path, folders, sets, judges, worsened)
                if "speed" in measures:
                    speed = measure_speed(path.engine, spec)
        records.append(Record.of(spec, precision, metrics, speed))
    return records
