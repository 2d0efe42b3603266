"""``import-model``: a network that others trained becomes one of the zoo, behind the one face, proven equal."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from app.inference.zoo import MANIFEST, ModelSpec
from app.upscale.tiler import DEAR, TileBudget
from training.architectures import Generator
from training.checkpoint import Folders
from training.export.face import attach_face
from training.export.footprint import measure_pixel_bytes
from training.export.foreign import Foreign, Sizes, read_foreign
from training.export.macs import multiply_accumulates
from training.export.publish import publish
from training.export.verify import BEYOND, MAX_PHOTO_SEAM, MAX_SEAM, measure_context, parity, photo_seam, seam_noted
from training.report.evaluate import evaluate

UNKNOWN = "unknown"
COMPARED = "balanced has 0.35"
WORST_TIMES = 2  # what may move on noise, over what may move on photographs
IMPORTED = "imported"
NAME = r"[a-z0-9][a-z0-9._-]{0,39}"
SCALES = range(2, 9)
RANGES = (1, 255)
# Mean difference, of the range, between a smooth picture and its enlargement reduced again: what leaves no doubt, and
# the most that is taken. In 0..255 a network that was made for 0..1 seems better than it is: its biases vanish there.
ALIKE, LIKENESS = 0.03, 0.1


@dataclass(frozen=True)
class Order:
    """What the user says of the file. ``peak``: the network's white, 1 or 255; None: to be found out."""

    path: Path
    name: str
    scale: int | None = None
    licence: str = UNKNOWN
    source: str = UNKNOWN
    peak: int | None = None
    max_seam: float = MAX_PHOTO_SEAM


def import_model(order: Order, folders: Folders, models: Path) -> ModelSpec:
    """Reads, checks and publishes; whatever is wrong is a ``ValueError``, and then nothing is written."""
    check_name(order.name, models)
    foreign = read_foreign(order.path)
    check_scale(order, foreign.scale)
    peak = order.peak or find_range(foreign, order.path)
    network = Fitted(foreign, peak)
    core = fitted_core(foreign.core, foreign.scale, foreign.sizes, peak)
    graph = attach_face(core, foreign.scale, phases=False)
    worst = parity(network, graph, "the network it was made from")
    context, worst_seam = measure_context(network, max_seam=255)
    seams = judge_seams(order, foreign, network, context, worst_seam)
    spec = ModelSpec(
        name=order.name,
        scale=foreign.scale,
        architecture=foreign.architecture,
        context=context,
        parameters=foreign.parameters,
        macs=multiply_accumulates(core),
        summary=f"Imported: {foreign.architecture}, from {order.path.name}.",
        licence=order.licence,
        recipe=IMPORTED,
        training=origin(order, peak) | seams,
        files={},
        alignment=network.alignment,
        pixel_bytes=measure_pixel_bytes(graph),
    )
    print(f"{spec.title}: {spec.architecture}, context {context}, {spec.macs:,} MAC/px, parity {worst} of 255")
    if spec.macs > DEAR:
        print(f"{spec.title}: warning: dear: {spec.macs / 1e6:.1f} million MAC/px ({COMPARED}); {memory(spec)}")
    return publish(spec, {"fp32": graph}, partial(evaluate, folders=folders), models)


def judge_seams(
    order: Order, foreign: Foreign, network: "Fitted", context: int, worst: float
) -> dict[str, float | dict[str, float]]:
    """For the manifest, and on the terminal, where tiles are not quite the whole picture: what moves, at worst and on
    photographs. ``ValueError`` where tiles would show on those."""
    if worst <= MAX_SEAM:
        return dict(seam_noted(f"{order.name}-x{foreign.scale}", worst))
    seam = photo_seam(network, context)
    told = f"tiles differ from the whole picture on photographs by {seam}, on noise by {worst:g} at most"
    if not (seam.worst <= order.max_seam and worst <= WORST_TIMES * order.max_seam):
        raise ValueError(
            f"no context up to {context} LR pixels suffices: {told} (allowed: {order.max_seam:g} and "
            f"{WORST_TIMES * order.max_seam:g}), so tiles would show; the network looks further, or at the whole "
            f"picture; --seams takes it all the same. {foreign.note}".strip()
        )
    print(f"{order.name}-x{foreign.scale}: warning: {told}")
    return {"seam": worst, "photo_seam": {"worst": seam.worst, "mean": seam.mean}}


def memory(spec: ModelSpec) -> str:
    return (
        f"up to {TileBudget().largest_area(spec.macs, spec.pixel_bytes) * spec.pixel_bytes / 2**30:.1f} GiB of memory"
    )


def check_name(name: str, models: Path) -> None:
    """An import never takes the place of a network that was trained here."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"the name {name!r} is not one for a URL: small letters, digits and . _ - (at most 40)")
    manifest = models / MANIFEST
    entries = json.loads(manifest.read_text(encoding="utf-8"))["models"] if manifest.exists() else []
    if any(entry["name"] == name and entry["recipe"] != IMPORTED for entry in entries):
        raise ValueError(f"{models} already has a model {name!r} that was trained, not imported; choose another name")


def check_scale(order: Order, scale: int) -> None:
    if order.scale not in (None, scale):
        raise ValueError(f"{order.path.name} enlarges {scale} times, not {order.scale}")
    if scale not in SCALES:
        raise ValueError(f"{order.path.name} enlarges {scale} times; the service takes {SCALES[0]} to {SCALES[-1]}")


def origin(order: Order, peak: int) -> dict[str, Any]:
    digest = hashlib.sha256(order.path.read_bytes()).hexdigest()
    told = {"file": order.path.name, "sha256": digest, "source": order.source, "range": peak, "degradation": UNKNOWN}
    return {IMPORTED: True, **told}


class Fitted(Generator):
    """The original network for pictures of any size in [0, 1]: what the served graph is held against."""

    def __init__(self, foreign: Foreign, peak: int) -> None:
        super().__init__()
        self.scale, self.sizes, self.peak = foreign.scale, foreign.sizes, peak
        self.alignment = foreign.sizes.multiple if BEYOND % foreign.sizes.multiple == 0 else 1
        self.original = foreign.network

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[2:]
        below, right = self.sizes.fitting(height) - height, self.sizes.fitting(width) - width
        padded = F.pad(lr, (0, right, 0, below), "replicate").contiguous()
        enlarged: Tensor = self.original(padded * self.peak) / self.peak
        return enlarged[:, :, : height * self.scale, : width * self.scale]


def fitted_core(core: onnx.ModelProto, scale: int, sizes: Sizes, peak: int) -> onnx.ModelProto:
    """``core`` for pictures in [0, 1] of any size: pads them below and at the right with their own edge, and crops."""
    fitted = onnx.ModelProto()
    fitted.CopyFrom(core)
    graph = fitted.graph
    lr, hr = graph.input[0].name, graph.output[0].name
    before, after = ["lr"], [hr]

    def chain(names: list[str], operator: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
        names.append(f"fit_{operator}_{len(names)}_of_{'lr' if names is before else 'hr'}")
        return helper.make_node(operator, [names[-2], *inputs], [names[-1]], name=names[-1], **attributes)

    head, tail = [], []
    if sizes != Sizes():
        head += [*padding_nodes(graph, scale, sizes), chain(before, "Pad", "fit_pads", mode="edge")]
    if peak != 1:
        add_constants(graph, fit_peak=np.float32(peak), fit_part=np.float32(1 / peak))
        head.append(chain(before, "Mul", "fit_peak"))
        tail.append(chain(after, "Mul", "fit_part"))
    if sizes != Sizes():
        tail.append(chain(after, "Slice", "fit_zeros", "fit_ends", "fit_axes"))
    head.append(helper.make_node("Identity", [before[-1]], [lr], name="fit_lr"))
    nodes = [*head, *graph.node, *tail]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["N", 3, "H", "W"]))
    graph.output.append(helper.make_tensor_value_info(after[-1], TensorProto.FLOAT, ["N", 3, "H_out", "W_out"]))
    return fitted


def padding_nodes(graph: onnx.GraphProto, scale: int, sizes: Sizes) -> list[onnx.NodeProto]:
    """``fit_pads`` for Pad and ``fit_ends`` for Slice, from the shape of ``lr``."""
    arrays = {"minimum": sizes.minimum, "multiple": sizes.multiple, "round": sizes.multiple - 1, "scale": scale}
    add_constants(graph, **{f"fit_{name}": np.array([value], np.int64) for name, value in arrays.items()})
    add_constants(
        graph, fit_none=np.zeros(6, np.int64), fit_zeros=np.zeros(2, np.int64), fit_axes=np.array([2, 3], np.int64)
    )
    steps = [
        ("Max", ["fit_size", "fit_minimum"], "fit_least"),
        ("Add", ["fit_least", "fit_round"], "fit_over"),
        ("Div", ["fit_over", "fit_multiple"], "fit_cells"),
        ("Mul", ["fit_cells", "fit_multiple"], "fit_wanted"),
        ("Sub", ["fit_wanted", "fit_size"], "fit_missing"),
        ("Mul", ["fit_size", "fit_scale"], "fit_ends"),
    ]
    return [
        helper.make_node("Shape", ["lr"], ["fit_size"], name="fit_size", start=2, end=4),
        *(helper.make_node(operator, inputs, [name], name=name) for operator, inputs, name in steps),
        helper.make_node("Concat", ["fit_none", "fit_missing"], ["fit_pads"], name="fit_pads", axis=0),
    ]


def add_constants(graph: onnx.GraphProto, **arrays: Any) -> None:
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items())


# -- measured ----------------------------------------------------------------------------------------------------


def find_range(foreign: Foreign, path: Path) -> int:
    """1 or 255: the white with which a smooth picture comes out as itself. Weights of ``spandrel`` are always for 1."""
    if path.suffix.lower() != ".onnx":
        return 1
    unlike = {peak: unlikeness(Fitted(foreign, peak)) for peak in RANGES}
    fitting = [peak for peak in RANGES if unlike[peak] <= LIKENESS]
    if unlike[1] <= ALIKE:
        return 1
    if len(fitting) == 1:
        return fitting[0]
    raise ValueError(
        f"{path.name}: {'either' if fitting else 'neither'} of 0..1 and 0..255 may be its range: a picture is off "
        f"by {unlike[1]:.0%} and {unlike[255]:.0%} of it; tell which with --range"
    )


@torch.no_grad()
def unlikeness(network: Callable[[Tensor], Tensor]) -> float:
    """Mean difference, of the range, between smooth colours in [0, 1] and their enlargement reduced again."""
    colours = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(colours, size=(64, 64), mode="bilinear")
    difference = (F.adaptive_avg_pool2d(network(smooth), (64, 64)) - smooth).abs().mean().item()
    return difference if np.isfinite(difference) else np.inf
