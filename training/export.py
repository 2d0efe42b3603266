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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.engine import create_session, share_resources
from app.settings import usable_cores
from app.zoo import MANIFEST, MANIFEST_VERSION, GeneratorSpec, ModelFile, ModelSpec
from training.architectures import Generator, SubPixelGenerator
from training.architectures.collapsible import collapse
from training.checkpoint import Folders, load_trained
from training.face import OPSET, attach_face, multiply_accumulates
from training.quantise import quantised
from training.recipe import Recipe

LICENCE = "Apache-2.0"
TRAINING_DATA = (
    "Freely licensed photographs (CC0, CC-BY, CC-BY-SA, GPL-2+, LGPL; one collection 'free to use however you wish'), "
    "so the weights may be used commercially"
)
DEFAULTS = ("balanced", "fast")  # the first of these that is there serves requests that name no model
CONTEXT_TOLERANCE = 0.25  # levels of 255 by which a core may move, before rounding, when its surroundings are cut
MAX_CONTEXT = 48  # LR pixels


def export(recipe: Recipe, folders: Folders, models: Path) -> ModelSpec:
    """Writes the network's files and the manifest; the metrics are measured on the served path and written into both.

    ``<title>.onnx`` is fp32; a recipe with an ``[int8]`` table has ``<title>.int8.onnx`` too.
    """
    network, step = load_trained(recipe, folders)
    network = collapse(copy.deepcopy(network))
    core = to_onnx(network)
    phases = isinstance(network, SubPixelGenerator)
    graphs = {"fp32": attach_face(core, recipe.scale, phases)}
    worst = parity(network, graphs["fp32"])
    context = measure_context(network)
    if recipe.int8:
        graphs["int8"] = attach_face(quantised(core, recipe, folders), recipe.scale, phases)
        context = least_context(graphs["int8"], recipe.scale, context)
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
        training=training_summary(recipe, folders, step),
        files={},
    )
    print(f"{spec.title}: step {step}, context {context}, {spec.macs:,} MAC/px, parity {worst} of 255")
    return publish(spec, graphs, folders, models)


def publish(spec: ModelSpec, graphs: Mapping[str, onnx.ModelProto], folders: Folders, models: Path) -> ModelSpec:
    """Measures each precision, then writes all files and, last, the manifest that names them."""
    from training.evaluate import evaluate_candidate  # evaluation needs the exported file

    contents, files = {}, {}
    for precision, graph in graphs.items():
        metrics = evaluate_candidate(spec, describe(graph, spec, precision, {}), folders, precision)
        data = describe(graph, spec, precision, metrics)
        path = f"{spec.title}.onnx" if precision == "fp32" else f"{spec.title}.{precision}.onnx"
        contents[path] = data
        files[precision] = ModelFile(path, hashlib.sha256(data).hexdigest(), len(data), metrics)
    models.mkdir(parents=True, exist_ok=True)
    for path, data in contents.items():
        replace_file(models / path, data)
    spec = dataclasses.replace(spec, files=files)
    write_manifest(models, spec)
    return spec


def to_onnx(network: Generator) -> onnx.ModelProto:
    """The float core: ``[N, 3, H, W]`` to phases where the network has them, else to planes; N, H and W dynamic."""
    core: nn.Module = Phases(network) if isinstance(network, SubPixelGenerator) else network
    sample = torch.rand(2, 3, 24, 20)
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


def parity(network: Generator, model: onnx.ModelProto) -> int:
    """The largest difference, in levels of 255, between the exported graph and torch; more than 1 is an error."""
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
        raise ValueError(f"the exported graph differs from torch by {worst} levels of 255")
    return worst


@torch.no_grad()
def measure_context(network: Generator) -> int:
    """The least surroundings, in LR pixels, with which a core comes out within ``CONTEXT_TOLERANCE`` of the whole.

    Measured on noise, the hardest picture, and on a step edge; never more than the receptive field.
    """
    side, core = 2 * MAX_CONTEXT + 16, 16
    noise = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    edges = (noise[:1] > 0.5).float()
    picture = torch.cat([noise, edges])
    s = network.scale
    whole = network(picture)[
        :, :, MAX_CONTEXT * s : (MAX_CONTEXT + core) * s, MAX_CONTEXT * s : (MAX_CONTEXT + core) * s
    ]
    whole = whole.clamp(0, 1)
    for context in range(MAX_CONTEXT):
        start, stop = MAX_CONTEXT - context, MAX_CONTEXT + core + context
        part = network(picture[:, :, start:stop, start:stop])[:, :, context * s :, context * s :]
        difference = (part[:, :, : core * s, : core * s].clamp(0, 1) - whole).abs().max().item() * 255
        if difference <= CONTEXT_TOLERANCE:
            return context
    return MAX_CONTEXT


def least_context(model: onnx.ModelProto, scale: int, least: int) -> int:
    """As ``measure_context``, for a graph with the face: the least, not below ``least``, that moves no level by over 1.

    Measured anew for int8: what moves the float network by a hundredth of a level may push a code over its rounding
    edge, layer after layer. That is rare, so the cores are large: 24 pictures of noise, 400,000 LR pixels.
    """
    share_resources(usable_cores())
    session = create_session(model.SerializeToString(), "candidate", "cpu")
    core, side = 128, 2 * MAX_CONTEXT + 128
    smooth = np.random.default_rng(0).random((8, side, side, 3), np.float32)
    hard = (smooth > 0.5).astype(np.float32)
    pictures = np.concatenate([smooth, hard, np.repeat(hard[..., :1], 3, axis=3)])

    def cores(context: int) -> Iterator[NDArray[np.int16]]:
        start, stop = MAX_CONTEXT - context, MAX_CONTEXT + core + context
        inner = slice(context * scale, (context + core) * scale)
        for picture in pictures:
            image = picture[None, start:stop, start:stop]
            yield session.run(["upscaled"], {"image": image})[0][:, inner, inner].astype(np.int16)

    whole = list(cores(MAX_CONTEXT))
    for context in range(least, MAX_CONTEXT):
        if all(np.abs(part - full).max() <= 1 for part, full in zip(cores(context), whole, strict=True)):
            return context
    return MAX_CONTEXT


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
        "degradation": recipe.data.degradation,
        "data": TRAINING_DATA,
    }
    with open(folders.run(recipe.title) / "log.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    validated = [row for row in rows if row["psnr_y"]]
    if validated:
        summary |= {
            "seconds": round(float(rows[-1]["seconds"])),
            "final_loss": float(rows[-1]["loss"]),
            "validation_psnr_y": float(validated[-1]["psnr_y"]),
        }
    return summary


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
    default = next((name for name in DEFAULTS if name in cost), spec.name)
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
