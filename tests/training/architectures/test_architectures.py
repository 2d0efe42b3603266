"""Every network: its shapes, the order of its phases, and what it must equal before it has learnt anything."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from training.architectures import ARCHITECTURES, SubPixelGenerator, build
from training.architectures.base import nearest_phases, rgb_to_ycbcr_matrix, shuffle
from training.architectures.collapsible import CollapsibleConv, collapse

SMALL = {  # configurations of which to test each architecture; of one not named here: its defaults
    "interpolation": [{"kernel": "nearest"}, {"kernel": "bilinear"}, {"kernel": "bicubic"}],
    "srcnn": [{}, {"middle": 5, "residual": True}],
    "espcn": [{}, {"variant": "wide"}],
    "plain": [{"channels": 8, "depth": 3}, {"channels": 4, "depth": 2}],
    "plain-residual": [{"channels": 8, "blocks": 2}],
    "span": [{"channels": 8, "blocks": 2}],
    "srresnet": [{"channels": 8, "blocks": 1}],
    "edsr": [{"channels": 8, "blocks": 2}, {"channels": 8, "blocks": 1, "tail": "nearest", "input_residual": True}],
    "rrdb": [{"channels": 8, "blocks": 1, "growth": 4}],
}
NETWORKS = [{"architecture": name, **parameters} for name in ARCHITECTURES for parameters in SMALL.get(name, [{}])]
PHASED = [
    parameters for parameters in NETWORKS if issubclass(ARCHITECTURES[parameters["architecture"]], SubPixelGenerator)
]
SCALES = [2, 3, 4]
every_network = pytest.mark.parametrize("parameters", NETWORKS, ids=lambda p: "-".join(map(str, p.values())))
every_phased_network = pytest.mark.parametrize("parameters", PHASED, ids=lambda p: "-".join(map(str, p.values())))
every_scale = pytest.mark.parametrize("scale", SCALES)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers this small only lose by more
    yield
    torch.set_num_threads(threads)


def crop(height: int, width: int) -> Tensor:
    """A part of a photograph, float ``[1, 3, height, width]`` in [0, 1]."""
    pixels = skimage.data.astronaut()[90 : 90 + height, 180 : 180 + width]
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


def nearest(lr: Tensor, scale: int) -> Tensor:
    return lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


# -- all of them -------------------------------------------------------------------------------------------------


@every_network
@every_scale
def test_output_is_scale_times_the_input(parameters: dict[str, object], scale: int) -> None:
    network = build(scale, **parameters).eval()
    assert network.scale == scale
    for n, h, w in ((2, 5, 9), (1, 1, 1), (1, 1, 6)):
        with torch.no_grad():
            assert network(torch.rand(n, 3, h, w)).shape == (n, 3, h * scale, w * scale)


@every_phased_network
@every_scale
def test_the_output_is_the_phases_in_their_documented_order(parameters: dict[str, object], scale: int) -> None:
    network = build(scale, **parameters)
    lr = torch.rand(2, 3, 3, 4)
    with torch.no_grad():
        phases, sr = network.phases(lr), network(lr)
    assert phases.shape == (2, scale * scale * 3, 3, 4)
    for y, x, i, j, c in itertools.product(range(3), range(4), range(scale), range(scale), range(3)):
        expected = phases[:, (i * scale + j) * 3 + c, y, x]
        assert torch.equal(sr[:, c, y * scale + i, x * scale + j], expected), (y, x, i, j, c)


@every_network
def test_a_constant_picture_gives_the_same_phases_everywhere_inside(parameters: dict[str, object]) -> None:
    network = build(2, **parameters).eval()
    margin = 56  # HR pixels, more than any of them sees
    with torch.no_grad():
        sr = network(torch.full((1, 3, 60, 60), 0.5))[:, :, margin:-margin, margin:-margin]
    period = 2 * network.alignment  # in a trunk at half the size the cells repeat, not the pixels
    sr = sr.reshape(3, 8 // period, period, 8 // period, period)
    assert (sr - sr[:, :1, :, :1]).abs().max() < 1e-6


@every_scale
def test_nearest_phases_are_nearest_neighbour_enlargement(scale: int) -> None:
    lr = torch.rand(2, 3, 4, 5)
    assert torch.equal(shuffle(nearest_phases(lr, scale), scale), nearest(lr, scale))


# -- interpolation -----------------------------------------------------------------------------------------------


def keys(x: float) -> float:
    """Keys' cubic with a = -0.5, from the paper's general form."""
    a, x = -0.5, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def interpolated(plane: np.ndarray, scale: int, kernel: Callable[[float], float]) -> np.ndarray:
    """Each HR pixel as the sum over all LR pixels around its place, those beyond the edge being the edge's."""
    h, w = plane.shape
    result = np.zeros((h * scale, w * scale))
    for row, column in np.ndindex(*result.shape):
        v, u = (row + 0.5) / scale - 0.5, (column + 0.5) / scale - 0.5
        for y, x in itertools.product(range(-3, h + 3), range(-3, w + 3)):
            weight = kernel(v - y) * kernel(u - x)
            if weight:
                result[row, column] += weight * plane[min(max(y, 0), h - 1), min(max(x, 0), w - 1)]
    return result


@every_scale
def test_bicubic_is_keys_formula_with_replicated_edges(scale: int) -> None:
    lr = torch.rand(1, 3, 5, 4)
    sr = build(scale, "interpolation", kernel="bicubic")(lr)
    for c in range(3):
        assert sr[0, c].numpy() == pytest.approx(interpolated(lr[0, c].numpy(), scale, keys), abs=1e-5)


@every_scale
def test_bicubic_is_pillows_inside(scale: int) -> None:
    lr = crop(12, 14)
    sr = build(scale, "interpolation", kernel="bicubic")(lr)
    inner = slice(2 * scale, -2 * scale)  # Pillow drops what lies beyond the edges
    for c in range(3):
        image = Image.fromarray(lr[0, c].numpy())
        enlarged = np.asarray(image.resize((14 * scale, 12 * scale), Image.Resampling.BICUBIC))
        assert sr[0, c, inner, inner].numpy() == pytest.approx(enlarged[inner, inner], abs=1e-5)


@every_scale
def test_bilinear_and_nearest_are_torchs(scale: int) -> None:
    lr = torch.rand(2, 3, 6, 7)
    bilinear = F.interpolate(lr, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(build(scale, "interpolation", kernel="bilinear")(lr), bilinear)
    assert torch.equal(build(scale, "interpolation", kernel="nearest")(lr), nearest(lr, scale))


# -- plain -------------------------------------------------------------------------------------------------------


@every_scale
@pytest.mark.parametrize(
    "parameters",
    [
        {"architecture": "plain"},
        {"architecture": "plain", "channels": 8, "depth": 3},
        {"architecture": "plain-residual", "channels": 16, "blocks": 2},
        {"architecture": "span", "channels": 16, "blocks": 2},
    ],
    ids=lambda p: "-".join(map(str, p.values())),
)
def test_a_fresh_network_starts_as_nearest_neighbour(parameters: dict[str, object], scale: int) -> None:
    lr = crop(16, 20)
    with torch.no_grad():
        difference = build(scale, **parameters)(lr) - nearest(lr, scale)
    assert 0 < difference.abs().max() < 0.1
    assert difference.abs().mean() < 0.02


@pytest.mark.parametrize(("channels", "depth"), [(8, 3), (32, 8), (4, 2)])
def test_plain_is_so_many_convolutions(channels: int, depth: int) -> None:
    network = collapse(build(2, "plain", channels=channels, depth=depth))
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [*[channels] * (depth - 1), 12]
    assert all(layer.kernel_size == (3, 3) for layer in convolutions)


# -- re-parameterisation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs", "identity", "adds_input"),
    [(3, 8, True, False), (8, 8, True, True), (8, 8, False, False), (8, 5, True, False)],
)
def test_collapsible_convolution_is_expand_then_squeeze(
    inputs: int, outputs: int, identity: bool, adds_input: bool
) -> None:
    layer = CollapsibleConv(inputs, outputs, expansion=3, identity=identity)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, inputs, 7, 9)
    wide = F.conv2d(x, layer.expand, padding=1)
    assert wide.shape[1] == 3 * max(inputs, outputs)
    expected = F.conv2d(wide, layer.squeeze[:, :, None, None], layer.bias) + (x if adds_input else 0)
    assert layer.kernel().shape == (outputs, inputs, 3, 3)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(F.conv2d(x, layer.kernel(), layer.bias, padding=1), expected, rtol=1e-4, atol=1e-4)


def test_the_kernel_is_a_product_in_full_precision_also_under_autocast() -> None:
    layer = CollapsibleConv(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        kernel = layer.kernel()
    assert kernel.dtype == torch.float32
    assert torch.equal(kernel, layer.kernel())


def test_all_weights_learn_through_the_product() -> None:
    layer = CollapsibleConv(4, 4)
    layer(torch.randn(1, 4, 6, 6)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in layer.parameters())


@every_network
def test_collapse_keeps_the_outputs(parameters: dict[str, object]) -> None:
    network = build(3, **parameters).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    lr = crop(14, 11)
    with torch.no_grad():
        before = network(lr)
        after = collapse(network)(lr)
    assert not [module for module in network.modules() if isinstance(module, CollapsibleConv)]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


# -- espcn -------------------------------------------------------------------------------------------------------


every_variant = pytest.mark.parametrize("variant", ["paper", "wide"])


def ycc(rgb: Tensor) -> Tensor:
    return torch.einsum("yc,nchw->nyhw", rgb_to_ycbcr_matrix(), rgb)


def test_ycbcr_of_known_colours() -> None:
    """JFIF 1.02: white, red, green, blue; chroma of a pure colour reaches one half."""
    colours = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    expected = [[1, 0, 0], [0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]]
    assert (colours @ rgb_to_ycbcr_matrix().T).numpy() == pytest.approx(np.array(expected), abs=1e-6)


@every_variant
@every_scale
def test_espcn_enlarges_chroma_by_bicubic_and_luma_by_its_network(variant: str, scale: int) -> None:
    network = build(scale, "espcn", variant=variant)
    lr = crop(9, 11)
    with torch.no_grad():
        sr = ycc(network(lr))
        chroma = ycc(build(scale, "interpolation", kernel="bicubic")(lr))[:, 1:]
        luma = F.pixel_shuffle(network.luma_phases(ycc(lr)[:, :1]), scale)
    torch.testing.assert_close(sr[:, 1:], chroma, rtol=0, atol=1e-5)
    torch.testing.assert_close(sr[:, :1], luma, rtol=0, atol=1e-5)


@every_variant
def test_espcn_leaves_gray_gray(variant: str) -> None:
    gray = crop(10, 12)[:, :1].repeat(1, 3, 1, 1)
    with torch.no_grad():
        sr = build(3, "espcn", variant=variant)(gray)
    assert sr.std() > 0.01  # it is a picture
    assert (sr - sr[:, :1]).abs().max() < 0.1 / 255


def test_wide_espcn_starts_orthogonal() -> None:
    network = build(2, "espcn", variant="wide")
    for layer in network.hidden:
        weight = layer.weight.detach().flatten(1)
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(gram, 2 * torch.eye(len(gram)), rtol=0, atol=1e-4)
