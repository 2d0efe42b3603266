"""A trained network to ``models/``: the ONNX file behind the one face, proven equal, and its manifest entry."""

import copy
import csv
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch

from app.inference.zoo import ModelFile, ModelSpec
from training.architectures import Generator, SubPixelGenerator, build
from training.architectures.collapsible import collapse
from training.checkpoint import Folders, load_trained
from training.data.qrcodes import CODES
from training.export.face import attach_face
from training.export.fp16 import attach_gpu_outputs, halved, rounded_on_cpu
from training.export.graph import to_onnx
from training.export.macs import multiply_accumulates
from training.export.manifest import describe, read_manifest, replace_file, write_manifest
from training.export.quantise import quantised
from training.export.shortcut import with_broadcast_shortcut
from training.export.verify import least_context, measure_context, parity, seam_noted
from training.hardware import machines
from training.recipe import DataRecipe, Recipe
from training.rendering.command import RENDERED
from training.report.cards import write_cards
from training.report.evaluate import Judge, evaluate, evaluate_candidate
from training.report.evaluate_qr import judge_codes
from training.start import starting
from training.warm_start import blended, load_exported

LICENCE = "Apache-2.0"
PHOTOGRAPHS = (
    "Freely licensed photographs (CC0, CC-BY, CC-BY-SA, GPL-2+, LGPL; one collection 'free to use however you wish'), "
    "so the weights may be used commercially"
)
TRAINING_CODES = "QR codes drawn on the fly from the seed; no picture of anybody's"
DRAWINGS = (
    "Drawings of openclipart (public domain), made-up line art and pixel art, and pages of text and interfaces "
    "(articles of the Universal Declaration of Human Rights), all rendered here"
)
LOG_POINTS = 10  # of a training log, in the manifest
MAX_FP16_LOSS = 0.05  # dB on any test set
Metrics = Mapping[str, Mapping[str, float]]


def export(recipe: Recipe, folders: Folders, models: Path) -> ModelSpec:
    """Writes the network's files and the manifest; the metrics are measured on the served path and written into both.

    ``<title>.onnx`` is fp32; a recipe with an ``[int8]`` table has ``<title>.int8.onnx`` too, one with an ``[fp16]``
    table ``<title>.fp16.onnx``.
    """
    network, training = trained(recipe, folders)
    core = to_onnx(network)
    phases = isinstance(network, SubPixelGenerator)
    graphs = {"fp32": attach_face(with_broadcast_shortcut(core), recipe.scale, phases)}
    worst = parity(network, graphs["fp32"])
    context, seam = measure_context(network)
    if recipe.int8:
        graphs["int8"] = attach_face(quantised(core, recipe, folders), recipe.scale, phases)
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
        training=training | seam_noted(recipe.title, seam),
        files={},
        alignment=network.alignment,
        strength=network.takes_strength,
    )
    print(f"{spec.title}: step {training['steps']}, context {context}, {spec.macs:,} MAC/px, parity {worst} of 255")
    judge = judge_codes if recipe.data.codes else partial(evaluate, folders=folders)
    return publish(spec, graphs, judge, models)


def trained(recipe: Recipe, folders: Folders) -> tuple[Generator, dict[str, Any]]:
    """The network as it is exported, collapsed, and what the manifest tells of its training.

    Where the run is not kept, both are those of the network that was exported from it, so that a further precision can
    be made of it.
    """
    entries, wanted = read_manifest(folders.models)["models"], (recipe.name, recipe.scale)
    entry = next((each for each in entries if (each["name"], each["scale"]) == wanted), None)
    if entry and recipe.steps and not (folders.run(recipe.title) / "checkpoint.pt").exists():
        network = collapse(build(recipe.scale, **recipe.network)).requires_grad_(False)
        load_exported(network, folders.models / entry["files"]["fp32"]["path"])
        return network.eval(), {name: value for name, value in entry["training"].items() if name != "seam"}
    network, step = load_trained(recipe, folders)
    if recipe.blend < 1:
        torch.manual_seed(recipe.seed)
        network = blended(starting(recipe, folders), network, recipe.blend)
    return collapse(copy.deepcopy(network)), training_summary(recipe, folders, step)


def publish(spec: ModelSpec, graphs: Mapping[str, onnx.ModelProto], judge: Judge, models: Path) -> ModelSpec:
    """Measures each precision, then writes all files, the manifest that names them and, from that, the card."""
    contents, files = {}, {}
    for precision, graph in graphs.items():
        context = spec.context
        if precision == "int8":
            context = least_context(graph, spec.scale, spec.context, spec.alignment)
        own = dataclasses.replace(spec, context=context)
        judged = rounded_on_cpu(graph) if precision == "fp16" else graph
        metrics = evaluate_candidate(own, describe(judged, own, precision, {}), judge, precision)
        if precision == "fp16":
            check_loss(spec, files["fp32"].metrics, metrics)
        data = describe(graph, own, precision, metrics)
        path = f"{spec.title}.onnx" if precision == "fp32" else f"{spec.title}.{precision}.onnx"
        contents[path] = data
        digest = hashlib.sha256(data).hexdigest()
        differing = context if context != spec.context else None
        files[precision] = ModelFile(path, digest, len(data), metrics, differing)
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
        "data": sources(recipe.data),
    }
    if recipe.teacher:
        summary["teacher"] = f"{recipe.teacher.credit}: {recipe.teacher.pairs:,} of its images"
    if recipe.start_from:
        summary["started_from"] = recipe.start_from
    if recipe.blend < 1:
        summary["blend"] = recipe.blend
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


def sources(data: DataRecipe) -> str:
    """Whose pictures a network learned from, and that its weights may be used commercially."""
    if data.codes:
        return TRAINING_CODES
    folders = {data.pictures, *(mix.pictures for mix in data.mix)}
    rendered = {name for name in folders if name.split("/")[0] == RENDERED}
    if not rendered:
        return PHOTOGRAPHS
    return f"{DRAWINGS}. {PHOTOGRAPHS}" if folders - rendered else DRAWINGS


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
