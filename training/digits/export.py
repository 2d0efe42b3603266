"""A trained generator to ``models/``: its ONNX file, proven equal to torch, its measures, its manifest entry."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from app.inference.providers import create_session
from app.inference.zoo import GeneratorSpec, ModelFile
from app.threads import usable_cores
from training.digits.data import SIDE, Labelled
from training.digits.judge import Classifier, draw, judge, look
from training.digits.networks import to_pixels, to_tensor
from training.digits.recipe import DigitsRecipe
from training.digits.train import Run, load_generator
from training.export.face import IR_VERSION, OPSET
from training.export.graph import quiet_exporter
from training.export.macs import macs_of_a_run
from training.export.manifest import replace_file, write_generator
from training.export.publish import LICENCE
from training.report.cards import write_cards

JUDGED = 10_000  # samples
TRAINING_DATA = "MNIST's 60,000 training digits (or files of that shape, by path)"


def export_digits(
    recipe: DigitsRecipe, runs: Path, models: Path, judged_by: tuple[Classifier, float], test: Labelled
) -> GeneratorSpec:
    """Writes ``<name>.onnx`` and the manifest's entry, with what the judge says of 10,000 samples."""
    classifier, accuracy = judged_by
    generator, run = load_generator(recipe, runs)
    real, _ = look(classifier, to_tensor(np.array(test.pictures)))
    verdict = judge(classifier, draw(generator, recipe.latent, JUDGED, seed=0), real)
    metrics = {"test digits": {**verdict.metrics(), "judge_accuracy": round(accuracy, 4)}}
    core = to_onnx(generator, recipe.latent)
    graph = attach_generator_face(core, recipe.latent)
    check_parity(generator, graph, recipe.latent)
    spec = GeneratorSpec(
        name=recipe.name,
        architecture=f"gan-{recipe.gan}",
        latent=recipe.latent,
        height=SIDE,
        width=SIDE,
        channels=1,
        parameters=sum(p.numel() for p in generator.parameters()),
        macs=macs_of_a_run(core, np.zeros((1, recipe.latent), np.float32)),
        summary=recipe.summary,
        licence=LICENCE,
        recipe=f"training/digits/recipes/{recipe.title}.toml",
        training=training_summary(recipe, run),
        files={},
    )
    data = describe(graph, spec, metrics)
    file = ModelFile(f"{spec.name}.onnx", hashlib.sha256(data).hexdigest(), len(data), metrics)
    models.mkdir(parents=True, exist_ok=True)
    replace_file(models / file.path, data)
    spec = dataclasses.replace(spec, files={"fp32": file})
    write_generator(models, spec)
    write_cards(models, [spec.title])
    print(f"{spec.title}: step {run.step}, {spec.macs:,} MAC a picture, {metrics}")
    return spec


def to_onnx(generator: nn.Module, latent: int) -> onnx.ModelProto:
    """The float core: ``[N, latent]`` to ``[N, 1, 28, 28]`` in [-1, 1]; N dynamic."""
    with quiet_exporter():
        program = torch.onnx.export(
            generator,
            (torch.zeros(2, latent),),
            input_names=["noise"],  # the face's own names must not be taken
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def attach_generator_face(core: onnx.ModelProto, latent: int) -> onnx.ModelProto:
    """``latents`` float ``[N, latent]`` to ``pictures`` uint8 ``[N, 28, 28, 1]``: -1 is 0, 1 is 255, rounded."""
    graph = onnx.GraphProto()
    graph.CopyFrom(core.graph)
    for part in (graph, *graph.node, *graph.value_info):
        del part.metadata_props[:]  # the exporter's stack traces: paths of this machine
    start, end = graph.input[0].name, graph.output[0].name
    graph.node.insert(0, helper.make_node("Identity", ["latents"], [start], name="face_latents"))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", latent]))
    graph.initializer.append(numpy_helper.from_array(np.float32(1), "face_one"))
    graph.initializer.append(numpy_helper.from_array(np.float32(2 / 255), "face_step"))
    graph.initializer.append(numpy_helper.from_array(np.uint8(0), "face_zero"))
    graph.node.extend(
        [
            helper.make_node("Add", [end, "face_one"], ["face_positive"], name="face_positive"),
            helper.make_node("QuantizeLinear", ["face_positive", "face_step", "face_zero"], ["face_nchw"], name="face"),
            helper.make_node("Transpose", ["face_nchw"], ["pictures"], perm=[0, 2, 3, 1], name="face_nhwc"),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", SIDE, SIDE, 1]))
    opset = [helper.make_opsetid("", OPSET), *(o for o in core.opset_import if o.domain)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="enlarger")
    onnx.checker.check_model(model, full_check=True)
    return model


@torch.no_grad()
def check_parity(generator: nn.Module, model: onnx.ModelProto, latent: int) -> None:
    """``ValueError`` if the graph's pictures are more than one level from torch's, for any number of them."""
    session = create_session(model.SerializeToString(), "candidate", "cpu", usable_cores())
    for count in (1, 3, 32):
        noise = np.random.default_rng(count).standard_normal((count, latent), np.float32)
        pictures = session.run(["pictures"], {"latents": noise})[0]
        expected = to_pixels(generator(torch.from_numpy(noise))).numpy()[..., None]
        worst = int(np.abs(pictures.astype(int) - expected).max())
        if worst > 1:
            raise ValueError(f"the exported graph differs from torch by {worst} levels of 255")


def training_summary(recipe: DigitsRecipe, run: Run) -> dict[str, Any]:
    return {
        "steps": run.step,
        "of_steps": recipe.steps,
        "seed": recipe.seed,
        "batch": recipe.batch,
        "optimizer": recipe.optimizer,
        "seconds": round(run.seconds),
        "data": TRAINING_DATA,
    }


def describe(model: onnx.ModelProto, spec: GeneratorSpec, metrics: dict[str, Any]) -> bytes:
    """The file's bytes, with what the manifest says of it also inside it."""
    props = {
        "name": spec.name,
        "kind": "generator",
        "architecture": spec.architecture,
        "latent": str(spec.latent),
        "licence": spec.licence,
        "recipe": spec.recipe,
        "training": json.dumps(dict(spec.training)),
        "metrics": json.dumps(metrics),
    }
    del model.metadata_props[:]
    for key, value in props.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString(deterministic=True))
