"""The shortcut of the LR picture to the phases, added by broadcasting."""

import numpy as np
import onnx
import pytest
import torch

from app.inference.providers import create_session
from training.architectures import Generator, build
from training.export.face import attach_face
from training.export.graph import to_onnx
from training.export.shortcut import with_broadcast_shortcut

NETWORKS: dict[str, dict[str, object]] = {
    "plain": {"architecture": "plain", "channels": 8, "depth": 2},
    "plain-residual": {"architecture": "plain-residual", "channels": 8, "blocks": 2},
    "span": {"architecture": "span", "channels": 8, "blocks": 2},
}
OTHERS: dict[str, dict[str, object]] = {
    "espcn": {"architecture": "espcn"},
    "bicubic": {"architecture": "interpolation", "kernel": "bicubic"},
}


def strong(network: Generator) -> Generator:
    """Gives every parameter a value, that the untrained network may not only repeat the picture."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def core_of(network: dict[str, object], scale: int) -> onnx.ModelProto:
    torch.manual_seed(0)
    return to_onnx(strong(build(scale, **network)))


def output(core: onnx.ModelProto, scale: int, image: np.ndarray) -> np.ndarray:
    data = attach_face(core, scale, phases=True).SerializeToString()
    return create_session(data, "net.onnx", "cpu", 1).run(["upscaled16"], {"image": image})[0]


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_picture_is_the_same_and_is_not_repeated(kind: str, scale: int) -> None:
    core = core_of(NETWORKS[kind], scale)
    shared = with_broadcast_shortcut(core)
    assert "Tile" in [node.op_type for node in core.graph.node]
    assert not {"Tile", "Expand"} & {node.op_type for node in shared.graph.node}
    for shape in [(1, 17, 23, 3), (2, 8, 5, 3)]:
        image = np.random.default_rng(0).random(shape, np.float32)
        np.testing.assert_array_equal(output(shared, scale, image), output(core, scale, image))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_network_without_a_shortcut_stays_as_it_is(kind: str) -> None:
    core = core_of(OTHERS[kind], 2)
    assert with_broadcast_shortcut(core) is core


def test_nothing_is_left_that_nobody_reads() -> None:
    graph = with_broadcast_shortcut(core_of(NETWORKS["plain"], 4)).graph
    read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    assert {name for node in graph.node for name in node.output} <= read
    assert {constant.name for constant in graph.initializer} <= read
