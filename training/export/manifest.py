"""The manifest of the model folder, and what each file says of itself."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import onnx

from app.inference.zoo import MANIFEST, MANIFEST_VERSION, GeneratorSpec, ModelSpec

DEFAULTS = ("balanced", "fast")  # the first of these that is there serves requests that name no model


def describe(model: onnx.ModelProto, spec: ModelSpec, precision: str, metrics: dict[str, dict[str, float]]) -> bytes:
    """The file's bytes, with what the manifest says of it also inside it."""
    props = {
        "name": spec.name,
        "architecture": spec.architecture,
        "scale": str(spec.scale),
        "precision": precision,
        "context": str(spec.context),
        "alignment": str(spec.alignment),
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
    for file in entry["files"].values():
        if file["context"] is None:
            del file["context"]
    for name in ("pixel_bytes", "strength"):
        if not entry[name]:
            del entry[name]
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
