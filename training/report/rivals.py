"""Networks to be judged beside the zoo's, from the files that a user has: nothing of them goes into the zoo."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx
import torch

from app.inference.providers import create_session
from app.threads import usable_cores
from app.upscale.passes import mirrored_strip
from app.upscale.stitcher import Stitcher
from app.upscale.tiler import plan_tiles
from training.export.face import attach_face
from training.export.foreign import read_foreign
from training.export.importing import Fitted, find_range, fitted_core
from training.hardware import computes_bf16
from training.report.evaluate import best_speed
from training.report.looks import digest
from training.report.metrics import Pixels
from training.report.records import Speed

LARGEST, CONTEXT, BLEND = 320, 32, 8  # LR pixels: a tile's side, its surroundings, and what two tiles share


@dataclass(frozen=True)
class Rival:
    """``enlarge`` takes LR uint8 ``[h, w, 3]`` and gives ``[h * scale, w * scale, 3]``, computed in ``precision``.

    ``write_graph`` makes the same in float32 behind the service's face, to be timed.
    """

    name: str
    scale: int
    precision: str
    sha256: str
    architecture: str
    parameters: int
    enlarge: Callable[[Pixels], Pixels]
    write_graph: Callable[[], onnx.ModelProto]

    @cached_property
    def graph(self) -> onnx.ModelProto:
        return self.write_graph()

    def speed(self) -> Speed:
        """Of a bare ONNX Runtime session in float32, as the zoo's networks are timed."""
        return best_speed(faced(self.graph))


def read_rival(path: Path) -> Rival:
    """Anything that ``import-model`` reads, or an ``.onnx`` file of this project; ``ValueError`` says what is wrong."""
    if path.suffix.lower() == ".onnx" and path.is_file():
        graph = onnx.load(path)
        if {"upscaled", "upscaled16"} <= {output.name for output in graph.graph.output}:
            return read_own(path, graph)
    foreign = read_foreign(path)
    peak = find_range(foreign, path)
    network = Fitted(foreign, peak).eval()
    in_bf16 = isinstance(foreign.network, torch.nn.Module) and computes_bf16(torch.device("cpu"))
    if in_bf16:
        network.to(memory_format=torch.channels_last)

    def write_graph() -> onnx.ModelProto:
        return attach_face(fitted_core(foreign.core, foreign.scale, foreign.sizes, peak), foreign.scale, phases=False)

    return Rival(
        name=path.stem,
        scale=foreign.scale,
        precision="bf16" if in_bf16 else "fp32",
        sha256=digest([path]),
        architecture=foreign.architecture,
        parameters=foreign.parameters,
        enlarge=partial(in_tiles, partial(run_torch, network, in_bf16), foreign.scale),
        write_graph=write_graph,
    )


def read_own(path: Path, graph: onnx.ModelProto) -> Rival:
    """A file behind the service's face, such as an earlier state of one of the zoo's."""
    told = {entry.key: entry.value for entry in graph.metadata_props}
    try:
        scale = int(told["scale"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path.name} does not tell its scale, as this project's files do") from error
    parameters = sum(int(np.prod(i.dims)) for i in graph.graph.initializer)
    enlarge = partial(in_tiles, faced(graph), scale)
    return Rival(path.stem, scale, "fp32", digest([path]), "ONNX", parameters, enlarge, lambda: graph)


def in_tiles(run: Callable[[Pixels], Pixels], scale: int, lr: Pixels) -> Pixels:
    """A picture of up to ``LARGEST`` pixels a side at once, a larger one in tiles: a rival may take much memory."""
    height, width = lr.shape[:2]
    plan = plan_tiles(height, width, (LARGEST, LARGEST), CONTEXT, BLEND)
    stitcher = Stitcher(plan, scale)
    bands = []
    for row in plan.rows:
        strip = mirrored_strip(plan, row, lambda top, bottom: lr[top:bottom])
        windows = [strip[:, column.start + plan.mirrored : column.stop + plan.mirrored] for column in plan.columns]
        bands.append(stitcher.band(row, [run(window) for window in windows]))
    return np.concatenate(bands)


@torch.inference_mode()
def run_torch(network: Fitted, in_bf16: bool, lr: Pixels) -> Pixels:
    image = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
        hr = network(image)
    pixels: Pixels = (hr[0].float().clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    return pixels


def faced(graph: onnx.ModelProto) -> Callable[[Pixels], Pixels]:
    """A graph behind the service's face as a function of one picture."""
    session = create_session(graph.SerializeToString(), "rival", "cpu", usable_cores())

    def run(lr: Pixels) -> Pixels:
        upscaled: Pixels = session.run(["upscaled"], {"image": lr[None].astype(np.float32) / 255})[0][0]
        return upscaled

    return run
