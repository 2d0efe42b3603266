"""Checks that a network's file has the one face for which everything here is written."""

from typing import Any

from app.errors import ModelFileError
from app.inference.runtimes.base import Face
from app.inference.zoo import GeneratorSpec, ModelSpec

OUTPUTS = {"upscaled": "tensor(uint8)", "upscaled16": "tensor(uint16)"}
IMAGE = ("image", "tensor(float)", (3,), 4)  # name, kind, channels, dimensions
STRENGTH = ("strength", "tensor(float)", (), 1)


def check_face(face: Face, spec: ModelSpec) -> None:
    """Raises ``ModelFileError`` unless the graph has the one face of every model of this service."""
    problems = []
    strength = [STRENGTH] if spec.strength else []
    if [(i.name, i.kind, i.shape[1:][-1:], len(i.shape)) for i in face.inputs] != [IMAGE, *strength]:
        told = [(i.name, i.kind, i.shape) for i in face.inputs]
        wanted = "image: float [N, H, W, 3]" + " and strength: float [N]" * spec.strength
        problems.append(f"inputs are {told}, not {wanted}, as the manifest says")
    outputs = {o.name: o.kind for o in face.outputs}
    if outputs != OUTPUTS:
        problems.append(f"outputs are {outputs}, not {OUTPUTS}")
    for key in ("name", "scale", "context"):
        if (value := face.metadata.get(key)) != str(getattr(spec, key)):
            problems.append(f"its metadata says {key} {value!r}, the manifest {getattr(spec, key)!r}")
    if problems:
        raise ModelFileError(f"{spec.title}: {'; '.join(problems)}.")


def check_generator_face(session: Any, spec: GeneratorSpec) -> None:
    """Raises ``ModelFileError`` unless the graph maps ``latents`` to ``pictures`` as the manifest says."""
    inputs = [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()]
    outputs = [(o.name, o.type, o.shape[1:]) for o in session.get_outputs()]
    problems = []
    if inputs != (expected := [("latents", "tensor(float)", [spec.latent])]):
        problems.append(f"inputs are {inputs}, not {expected}")
    if outputs != (expected := [("pictures", "tensor(uint8)", [spec.height, spec.width, spec.channels])]):
        problems.append(f"outputs are {outputs}, not {expected}")
    told = session.get_modelmeta().custom_metadata_map
    for key, value in (("name", spec.name), ("kind", "generator")):
        if told.get(key) != value:
            problems.append(f"its metadata says {key} {told.get(key)!r}, not {value!r}")
    if problems:
        raise ModelFileError(f"{spec.title}: {'; '.join(problems)}.")
