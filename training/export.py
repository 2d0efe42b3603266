"""A trained network to ``models/``: the ONNX file behind the one face, proven equal, and its manifest entry."""

import contextlib
import copy
import csv
import dataclasses
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from app.providers import create_session, share_resources
from app.settings import usable_cores
from app.zoo import MANIFEST, MANIFEST_VERSION, GeneratorSpec, ModelFile, ModelSpec
from training.architectures import Generator, SubPixelGenerator
from training.architectures.collapsible import collapse
from training.cards import write_cards
from training.checkpoint import Folders, load_trained
from training.evaluate import Judge, evaluate, evaluate_candidate
from training.evaluate_qr import judge_codes
from training.face import OPSET, attach_face, multiply_accumulates
from training.fp16 import attach_gpu_outputs, halved, rounded_on_cpu
from training.hardware import machines
from training.qrcodes import CODES
from training.quantise import quantised
from training.recipe import Recipe

LICENCE = "Apache-2.0"
TRAINING_DATA = (
    "Freely licensed photographs (CC0, CC-BY, CC-BY-SA, GPL-2+, LGPL; one collection 'free to use however you wish'), "
    "so the weights may be used commercially"
)
TRAINING_CODES = "QR codes drawn on the fly from the seed; no picture of anybody's"
DEFAULTS = ("balanced", "fast")  # the first of these that is there serves requests that name no model
CONTEXT_TOLERANCE = 0.25  # levels of 255 by which a core may move, before rounding, when its surroundings are cut
MAX_CONTEXT = 48  # LR pixels
LOG_POINTS = 10  # of a training log, in the manifest
MAX_SEAM = 2.0  # levels of 255 by which tiles may differ from the whole picture where no context within that suffices
BEYOND = 16  # LR pixels around the widest context that is tried: what it leaves out must be seen
MAX_FP16_LOSS = 0.05  # dB on any test set
Metrics = Mapping[str, Mapping[str, float]]


def export(recipe: Recipe, folders: Folders, models: Path) -> ModelSpec:
    """Writes the network's files and the manifest; the metrics are measured on the served path and written into both.

    ``<title>.onnx`` is fp32; a recipe with an ``[int8]`` table has ``<title>.int8.onnx`` too, one with an ``[fp16]``
    table ``<title>.fp16.onnx``.
    """
    network, step = load_trained(recipe, folders)
    network = collapse(copy.deepcopy(network))
    core = to_onnx(network)
    phases = isinstance(network, SubPixelGenerator)
    graphs = {"fp32": attach_face(core, recipe.scale, phases)}
    worst = parity(network, graphs["fp32"])
    context, seam = measure_context(network)
    if recipe.int8:
        graphs["int8"] = attach_face(quantised(core, recipe, folders), recipe.scale, phases)
        context = least_context(graphs["int8"], recipe.scale, context)
    if recipe.fp16:
        graphs["fp16"] = attach_gpu_outputs(attach_face(halved(core, recipe), recipe.scale, phases))
    spec = ModelSpec(
        name=recipe.name,
        scale=recipe.scale,
        architecture=recipe.network["architecture"],
        context=context,
        parameters=sum(p.numel() for p in network.parameters()),
        macs=multiply_accumulates(core),
        summary=recipe.summary,
        licence=LICENCE,
        recipe=f"training/recipes/{recipe.title}.toml",
        training=training_summary(recipe, folders, step) | seam_noted(recipe.title, seam),
        files={},
    )
    print(f"{spec.title}: step {step}, context {context}, {spec.macs:,} MAC/px, parity {worst} of 255")
    judge = judge_codes if recipe.data.codes else partial(evaluate, folders=folders)
    return publish(spec, graphs, judge, models)


def publish(spec: ModelSpec, graphs: Mapping[str, onnx.ModelProto], judge: Judge, models: Path) -> ModelSpec:
    """Measures each precision, then writes all files, the manifest that names them and, from that, the card."""
    contents, files = {}, {}
    for precision, graph in graphs.items():
        judged = rounded_on_cpu(graph) if precision == "fp16" else graph
        metrics = evaluate_candidate(spec, describe(judged, spec, precision, {}), judge, precision)
        if precision == "fp16":
            check_loss(spec, files["fp32"].metrics, metrics)
        data = describe(graph, spec, precision, metrics)
        path = f"{spec.title}.onnx" if precision == "fp32" else f"{spec.title}.{precision}.onnx"
        contents[path] = data
        files[precision] = ModelFile(path, hashlib.sha256(data).hexdigest(), len(data), metrics)
    models.mkdir(parents=True, exist_ok=True)
    for path, data in contents.items():
        replace_file(models / path, data)
    spec = dataclasses.replace(spec, files=files)
    write_manifest(models, spec)
    write_cards(models, [spec.title])
    return spec


def check_loss(spec: ModelSpec, fp32: Metrics, fp16: Metrics) -> None:
    """Raises ``ValueError`` if float16 costs what rounding alone cannot: something overflows, or cancels out."""
    for name, figures in fp16.items():
        loss = fp32[name]["psnr_y"] - figures["psnr_y"]
        if not loss <= MAX_FP16_LOSS:
            raise ValueError(f"{spec.title}: fp16 loses {loss:.3f} dB on {name}, allowed are {MAX_FP16_LOSS} dB")


def to_onnx(network: nn.Module, size: tuple[int, int] = (24, 20)) -> onnx.ModelProto:
    """The float core: ``[N, 3, H, W]`` to phases where the network has them, else to planes; N, H and W dynamic.

    ``size`` (height, width) is that of the picture it is traced with.
    """
    core = Phases(network) if isinstance(network, SubPixelGenerator) else network
    sample = torch.rand(2, 3, *size)
    sizes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with quiet_exporter():
        program = torch.onnx.export(
            core.eval(), (sample,), dynamo=True, opset_version=OPSET, dynamic_shapes=(sizes,), verbose=False
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hides what torch's exporter says to its own developers, none of which a user could act on."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)  # "torchvision is not installed", once an operator: nothing here needs it
    try:
        with warnings.catch_warnings():
            # The exporter of torch 2.13 copies a class that torch itself has deprecated.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        log.setLevel(level)


class Phases(nn.Module):
    """Exports ``phases`` in place of ``forward``."""

    def __init__(self, network: SubPixelGenerator) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        return self.network.phases(lr)


def parity(network: Callable[[Tensor], Tensor], model: onnx.ModelProto, original: str = "torch") -> int:
    """The largest difference, in levels of 255, between the graph with the face and the network it was made from.

    More than 1 is an error. ``original`` is what that network is called there.
    """
    share_resources(usable_cores())
    session = create_session(model.SerializeToString(), "candidate", "cpu")
    rng = np.random.default_rng(0)
    worst = 0
    for shape in ((1, 32, 32, 3), (2, 17, 41, 3), (1, 1, 1, 3), (1, 64, 5, 3)):
        image = rng.random(shape, np.float32)
        with torch.no_grad():
            planes = network(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
        expected = np.rint(np.clip(planes, 0, 1) * 255)
        upscaled, upscaled16 = session.run(["upscaled", "upscaled16"], {"image": image})
        worst = max(
            worst, int(np.abs(upscaled - expected).max()), int(np.abs(np.rint(upscaled16 / 257) - expected).max())
        )
    if worst > 1:
        raise ValueError(f"the exported graph differs from {original} by {worst} levels of 255")
    return worst


@torch.no_grad()
def measure_context(network: Generator, max_seam: float = MAX_SEAM) -> tuple[int, float]:
    """The least surroundings, in LR pixels, from which on a core comes out within ``CONTEXT_TOLERANCE`` of the whole.

    With it comes the seam: by how many levels of 255 the core still moves, 0 where the tolerance holds. If not even
    ``MAX_CONTEXT`` holds it, that is taken as long as the seam is not over ``max_seam``; beyond, ``ValueError``.
    Measured on noise, the hardest picture, on step edges, and on noise that ends in white beyond the widest context,
    which shows a network that looks at the whole. The widest is tried with the one beyond it: a network that works in
    cells of several pixels is then seen out of step with them.
    """
    margin, core, s = MAX_CONTEXT + BEYOND, 16, network.scale
    side = 2 * margin + core
    noise = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    framed = F.pad(noise[:1, :, BEYOND:-BEYOND, BEYOND:-BEYOND], (BEYOND,) * 4, value=1.0)
    picture = torch.cat([noise, (noise[:1] > 0.5).float(), framed])

    def core_with(context: int) -> Tensor:
        start, stop, inner = margin - context, margin + core + context, slice(context * s, (context + core) * s)
        return network(picture[:, :, start:stop, start:stop])[:, :, inner, inner].clamp(0, 1)

    whole = core_with(margin)

    def moves(context: int) -> float:
        return (core_with(context) - whole).abs().max().item() * 255

    seam = float(np.max([moves(MAX_CONTEXT + 1), moves(MAX_CONTEXT)]))
    if not seam <= max(max_seam, CONTEXT_TOLERANCE):  # nor if it is no number
        raise ValueError(
            f"no context up to {MAX_CONTEXT} LR pixels suffices: with that a pixel still moves by {seam:.1f} levels of "
            f"255 (allowed: {max_seam:g}), so tiles would show; the network looks further, or at the whole picture"
        )
    if seam > CONTEXT_TOLERANCE:
        return MAX_CONTEXT, round(seam, 2)
    context = MAX_CONTEXT
    while context and moves(context - 1) <= CONTEXT_TOLERANCE:
        context -= 1
    return context, 0.0


def seam_noted(title: str, seam: float) -> dict[str, float]:
    """For the manifest, and on the terminal, where tiles are not quite the whole picture."""
    if not seam:
        return {}
    print(f"{title}: warning: tiles differ from the whole picture by up to {seam:g} levels of 255")
    return {"seam": seam}


def least_context(model: onnx.ModelProto, scale: int, least: int) -> int:
    """As ``measure_context``, for a graph with the face: the least, not below ``least``, that moves no level by over 1.

    Raises ``ValueError`` where none does. Measured anew for int8: what moves the float network by a hundredth of a
    level may push a code over its rounding edge, layer after layer. That is rare, so the cores are large: 24 pictures
    of noise, 400,000 LR pixels.
    """
    share_resources(usable_cores())
    session = create_session(model.SerializeToString(), "candidate", "cpu")
    margin, core = MAX_CONTEXT + BEYOND, 128
    side = 2 * margin + core
    smooth = np.random.default_rng(0).random((8, side, side, 3), np.float32)
    hard = (smooth > 0.5).astype(np.float32)
    pictures = np.concatenate([smooth, hard, np.repeat(hard[..., :1], 3, axis=3)])

    def cores(context: int) -> Iterator[NDArray[np.int16]]:
        start, stop = margin - context, margin + core + context
        inner = slice(context * scale, (context + core) * scale)
        for picture in pictures:
            image = picture[None, start:stop, start:stop]
            yield session.run(["upscaled"], {"image": image})[0][:, inner, inner].astype(np.int16)

    whole = list(cores(margin))
    for context in range(least, MAX_CONTEXT + 1):
        if all(np.abs(part - full).max() <= 1 for part, full in zip(cores(context), whole, strict=True)):
            return context
    raise ValueError(f"no context up to {MAX_CONTEXT} LR pixels keeps the int8 network within one level of the whole")


def training_summary(recipe: Recipe, folders: Folders, step: int) -> dict[str, Any]:
    """What the card tells of the run: steps, time, data, seed, the loss and validation figure it ended with."""
    if not recipe.steps:
        return {"steps": 0}
    summary: dict[str, Any] = {
        "steps": step,
        "of_steps": recipe.steps,
        "seed": recipe.seed,
        "batch": recipe.data.batch,
        "crop": recipe.data.crop,
        "degradation": CODES if recipe.data.codes else recipe.data.degradation,
        "data": TRAINING_CODES if recipe.data.codes else TRAINING_DATA,
    }
    if recipe.start_from:
        summary["started_from"] = recipe.start_from
    with open(folders.run(recipe.title) / "log.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    if names := machines(folders.run(recipe.title)):
        summary["machines"] = names
    validated = [row for row in rows if row["psnr_y"]]
    if validated:
        summary |= {
            "seconds": round(float(rows[-1]["seconds"])),
            "final_loss": float(rows[-1]["loss"]),
            "validation_psnr_y": float(validated[-1]["psnr_y"]),
            "log": thinned(rows),
        }
    return summary


def thinned(rows: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
    """About ``LOG_POINTS`` lines of a log, evenly apart and ending with the last: step, losses, validation PSNR.

    Lines with a validation are taken while there are enough of them.
    """
    validated = [row for row in rows if row["psnr_y"]]
    source = validated if len(validated) >= LOG_POINTS else rows
    chosen = sorted({round((i + 1) * len(source) / LOG_POINTS) - 1 for i in range(LOG_POINTS)} - {-1})
    kept = [name for name in rows[0] if name not in ("step", "rate", "seconds", "loader_share")]
    return [
        {"step": int(source[i]["step"])} | {name: float(source[i][name]) for name in kept if source[i][name]}
        for i in chosen
    ]


def describe(model: onnx.ModelProto, spec: ModelSpec, precision: str, metrics: dict[str, dict[str, float]]) -> bytes:
    """The file's bytes, with what the manifest says of it also inside it."""
    props = {
        "name": spec.name,
        "architecture": spec.architecture,
        "scale": str(spec.scale),
        "precision": precision,
        "context": str(spec.context),
        "licence": spec.licence,
        "recipe": spec.recipe,
        "training": json.dumps(dict(spec.training)),
        "degradation": str(spec.training.get("degradation", "none")),
        "metrics": json.dumps(metrics),
    }
    del model.metadata_props[:]
    for key, value in props.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString(deterministic=True))


def write_manifest(models: Path, spec: ModelSpec) -> None:
    """Adds or replaces one entry; entries stay sorted by cost and scale, in whatever order models come."""
    manifest = read_manifest(models)
    entry = dataclasses.asdict(spec)
    entries = [entry, *(e for e in manifest["models"] if (e["name"], e["scale"]) != (spec.name, spec.scale))]
    entries.sort(key=lambda e: e["scale"])
    cost = {e["name"]: e["macs"] for e in entries}  # of its largest scale
    entries.sort(key=lambda e: (cost[e["name"]], e["name"], e["scale"]))
    default = next((name for name in DEFAULTS if name in cost), manifest["default"] or spec.name)
    replace_manifest(models, {**manifest, "default": default, "models": entries})


def write_generator(models: Path, spec: GeneratorSpec) -> None:
    """Adds or replaces the entry of a generator."""
    manifest = read_manifest(models)
    entries = [dataclasses.asdict(spec), *(e for e in manifest.get("generators", []) if e["name"] != spec.name)]
    replace_manifest(models, {**manifest, "generators": sorted(entries, key=lambda e: e["name"])})


def read_manifest(models: Path) -> dict[str, Any]:
    path = models / MANIFEST
    if not path.exists():
        return {"version": MANIFEST_VERSION, "default": "", "models": []}
    return {**json.loads(path.read_text(encoding="utf-8")), "version": MANIFEST_VERSION}


def replace_manifest(models: Path, manifest: dict[str, Any]) -> None:
    replace_file(models / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())


def replace_file(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)
