"""The papers' networks and discriminators: sizes as published, shapes, what they start as, training, export."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures import Generator, build
from training.architectures.base import rgb_to_ycbcr_matrix
from training.architectures.discriminators import DISCRIMINATORS
from training.architectures.edsr import DIV2K_MEAN
from training.architectures.rrdb import DenseBlock
from training.checkpoint import Average
from training.export import verify
from training.export.face import attach_face
from training.export.graph import to_onnx
from training.export.macs import multiply_accumulates
from training.export.verify import measure_context, parity
from training.losses.adversarial import ADVERSARIAL, accuracy
from training.recipe import load_recipe

# Small enough for a test; every part of the real ones is there.
TINY: dict[str, dict[str, Any]] = {
    "srcnn": {"architecture": "srcnn", "residual": True},
    "srresnet": {"architecture": "srresnet", "channels": 8, "blocks": 2},
    "edsr": {"architecture": "edsr", "channels": 8, "blocks": 2, "residual_scaling": 0.1},
    "rrdb": {"architecture": "rrdb", "channels": 8, "blocks": 1, "growth": 4},
}
WIDEST = 24  # LR pixels: the widest context that is tried here
DEEP = ("srresnet", "edsr", "rrdb")  # those with a tail


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def lr() -> Tensor:
    return torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def tiny(name: str, scale: int = 4, **parameters: Any) -> Generator:
    torch.manual_seed(0)
    return build(scale, **TINY[name], **parameters)


def used_normalisation(network: nn.Module) -> nn.Module:
    """Statistics as after training: fresh ones are so plain that a forgotten one would not show."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "scale", "published"),
    [
        ({"architecture": "srcnn"}, 4, 8_129),  # the paper's 8,032 weights and 97 biases
        ({"architecture": "srcnn", "middle": 5}, 4, 57_281),
        ({"architecture": "srresnet"}, 4, 1_548_547),  # "1.5 M"
        ({"architecture": "edsr"}, 4, 1_517_571),
        ({"architecture": "edsr"}, 2, 1_369_859),
        ({"architecture": "edsr", "channels": 256, "blocks": 32, "residual_scaling": 0.1}, 4, 43_089_923),
        ({"architecture": "rrdb"}, 4, 16_697_987),
    ],
)
def test_networks_have_the_published_size(network: dict[str, Any], scale: int, published: int) -> None:
    with torch.device("meta"):
        assert count(build(scale, **network)) == published


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("tail", ["subpixel", "nearest"])
@pytest.mark.parametrize("name", DEEP)
def test_tails_enlarge(name: str, tail: str, scale: int, lr: Tensor) -> None:
    assert tiny(name, scale, tail=tail)(lr).shape == (2, 3, 12 * scale, 10 * scale)


def test_unknown_tails_and_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown tail 'deconv'; known: subpixel, nearest"):
        tiny("edsr", tail="deconv")
    with pytest.raises(ValueError, match="product of 2s and 3s; 5 is left over"):
        tiny("edsr", scale=10)
    with pytest.raises(ValueError, match="middle must be 1, 3 or 5"):
        build(4, architecture="srcnn", middle=2)


@pytest.mark.parametrize("name", DEEP)
def test_input_residual_starts_as_the_enlarged_input(name: str, lr: Tensor) -> None:
    enlarged = build(4, architecture="interpolation", kernel="bilinear")(lr)
    difference = (tiny(name, input_residual=True).eval()(lr) - enlarged).abs().max().item()
    assert difference < 0.05
    assert (tiny(name).eval()(lr) - enlarged).abs().max().item() > 0.2, "the papers' networks have no such residual"


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_srcnn_changes_luma_alone(scale: int, lr: Tensor) -> None:
    bicubic = build(scale, architecture="interpolation", kernel="bicubic")(lr)
    torch.manual_seed(0)
    sr = build(scale, architecture="srcnn")(lr)
    to_ycc = rgb_to_ycbcr_matrix()[:, :, None, None]
    before, after = F.conv2d(bicubic, to_ycc), F.conv2d(sr, to_ycc)
    torch.testing.assert_close(after[:, 1:], before[:, 1:], atol=1e-5, rtol=0)
    assert (after[:, :1] - before[:, :1]).abs().max() > 0.1


def test_srcnn_without_residual_replaces_the_luma(lr: Tensor) -> None:
    network = build(4, architecture="srcnn")
    nn.init.zeros_(network.reconstruction.weight)
    nn.init.constant_(network.reconstruction.bias, 0.3)
    luma = F.conv2d(network(lr), rgb_to_ycbcr_matrix()[:1, :, None, None])
    torch.testing.assert_close(luma, torch.full_like(luma, 0.3))


def test_srcnn_residual_starts_as_bicubic(lr: Tensor) -> None:
    bicubic = build(4, architecture="interpolation", kernel="bicubic")(lr)
    assert (tiny("srcnn")(lr) - bicubic).abs().max() < 0.05


def test_srresnet_slopes_are_one_a_channel() -> None:
    slopes = [m.weight for m in tiny("srresnet").modules() if isinstance(m, nn.PReLU)]
    assert len(slopes) == 1 + 2 + 2  # head, blocks, steps of the tail
    for slope in slopes:
        torch.testing.assert_close(slope.data, torch.full((8,), 0.25))


def test_edsr_is_centred_on_div2k(lr: Tensor) -> None:
    """A network that knows nothing answers with the mean colour."""
    network = tiny("edsr")
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(network(lr).mean((0, 2, 3)), torch.tensor(DIV2K_MEAN))


def test_edsr_scales_its_residuals(lr: Tensor) -> None:
    block = tiny("edsr").trunk[0]
    x = torch.rand(1, 8, 6, 6)
    torch.testing.assert_close(block(x), x + 0.1 * block.second(F.relu(block.first(x))))


def test_dense_block_is_the_papers() -> None:
    torch.manual_seed(0)
    block, x = DenseBlock(channels=8, growth=4), torch.rand(1, 8, 6, 6)
    assert [layer.in_channels for layer in block.layers] == [8, 12, 16, 20, 24]
    spread = block.layers[4].weight.std().item()
    assert spread == pytest.approx(0.1 * math.sqrt(2 / (24 * 9)), rel=0.1), "MSRA initialisation times 0.1"
    first = F.leaky_relu(block.layers[0](x), 0.2)
    second = F.leaky_relu(block.layers[1](torch.cat([x, first], 1)), 0.2)
    third = F.leaky_relu(block.layers[2](torch.cat([x, first, second], 1)), 0.2)
    fourth = F.leaky_relu(block.layers[3](torch.cat([x, first, second, third], 1)), 0.2)
    last = block.layers[4](torch.cat([x, first, second, third, fourth], 1))
    torch.testing.assert_close(block(x), x + 0.2 * last)


@pytest.mark.parametrize("name", TINY)
def test_a_few_steps_lower_the_loss(name: str, lr: Tensor) -> None:
    """In bf16 and channels last, as the training loop has it; every parameter takes part."""
    hr = F.interpolate(lr, scale_factor=4, mode="bicubic")
    network = tiny(name).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            sr = network(lr.contiguous(memory_format=torch.channels_last))
        loss = F.l1_loss(sr.float(), hr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not idle, f"no finite gradient: {idle}"


def test_average_keeps_the_statistics_of_normalisation(lr: Tensor) -> None:
    network = tiny("srresnet").train()
    average = Average(network, decay=0.9)
    for _ in range(3):
        network(lr)
        average.update(network)
    kept = dict(average.network.named_buffers())
    assert any("running_var" in name for name in kept)
    for name, value in network.named_buffers():
        torch.testing.assert_close(kept[name], value, msg=name)
    assert not average.network.training


@pytest.mark.parametrize(
    ("name", "scale", "parameters", "macs"),
    [
        # SRCNN: filters of bicubic, luma, 9x9x64, 1x1x32, 5x5x1 at the HR size
        ("srcnn", 2, {}, 25 * 3 * 12 + 4 * (3 + 81 * 64 + 64 * 32 + 25 * 32)),
        # head, 2 blocks and their end, two steps to 4 * 8 channels, last
        ("srresnet", 4, {}, 81 * 3 * 8 + 9 * (5 * 8 * 8 + 8 * 32 + 4 * 8 * 32) + 16 * 81 * 8 * 3),
        ("edsr", 3, {"tail": "nearest", "input_residual": True}, 9 * (3 * 8 + 5 * 64 + 9 * 64 + 9 * 8 * 3)),
        ("rrdb", 2, {}, 9 * (3 * 8 + 3 * (8 + 12 + 16 + 20 + 2 * 24) * 4 + 64 + 4 * 64 + 4 * 64 + 4 * 8 * 3)),
    ],
)
def test_exported_graph_is_the_network(name: str, scale: int, parameters: dict[str, Any], macs: int) -> None:
    network = used_normalisation(tiny(name, scale, **parameters)).eval().requires_grad_(False)
    core = to_onnx(network)
    assert multiply_accumulates(core) == macs
    assert not [n.op_type for n in core.graph.node if "Normalization" in n.op_type], "folds into the convolutions"
    assert parity(network, attach_face(core, scale, phases=False)) <= 1


@pytest.mark.parametrize(
    ("name", "field"),
    [("srcnn", 4), ("srresnet", 4 + 5 + 2 + 1), ("edsr", 1 + 5 + 2 + 1), ("rrdb", 1 + 15 + 1 + 2 + 2)],
)
def test_context_lies_within_the_receptive_field(name: str, field: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MAX_CONTEXT", WIDEST)
    torch.manual_seed(1)
    network = used_normalisation(tiny(name)).eval()
    if name == "srcnn":  # fresh, it is bicubic and sees no more than bicubic does
        nn.init.normal_(network.reconstruction.weight, std=0.1)
    if name == "rrdb":  # fresh, all it gives is below black
        nn.init.constant_(network.last.bias, 0.5)
    assert 1 <= measure_context(network)[0] <= field < WIDEST


@pytest.mark.parametrize(
    "title", ["srcnn-x4", "srresnet-x4", "edsr-x4", *(f"{k}-x{s}" for k in ("nearest", "bilinear") for s in (2, 3, 4))]
)
def test_recipes_build(title: str, lr: Tensor) -> None:
    recipe = load_recipe(title)
    assert recipe.title == title
    with torch.no_grad():
        assert build(recipe.scale, **recipe.network).eval()(lr).shape[2:] == (12 * recipe.scale, 10 * recipe.scale)


HEADS: dict[str, dict[str, Any]] = {"dense": {"patch": 32}, "patch": {}}


def discriminator(head: str, **parameters: Any) -> nn.Module:
    torch.manual_seed(0)
    return DISCRIMINATORS[head](**HEADS[head], **({"channels": 4, "dense": 8} | parameters))


def test_discriminators_have_the_papers_layers() -> None:
    with torch.device("meta"):
        convolutions = sum(9 * i * o for i, o in itertools.pairwise((3, 64, 64, 128, 128, 256, 256, 512, 512)))
        biases = 64 + 64 + 2 * (128 + 256 + 512) + 2 * (64 + 2 * (128 + 256 + 512))  # and both numbers of each BN
        dense = 512 * 6 * 6 * 1024 + 1024 + 1024 + 1
        assert count(DISCRIMINATORS["dense"](patch=96)) == convolutions + biases + dense
        assert count(DISCRIMINATORS["patch"]()) == convolutions + biases + 512 * 1024 + 1024 + 1024 + 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("head", "shape"), [("dense", (2, 1)), ("patch", (2, 1, 2, 2))])
def test_discriminators_give_logits(head: str, shape: tuple[int, ...], after: bool) -> None:
    judge = discriminator(head, norm_after_activation=after)
    logits = judge(torch.rand(2, 3, 32, 32))
    assert logits.shape == shape
    logits.sum().backward()
    assert all(p.grad is not None for p in judge.parameters())
    with torch.no_grad():
        judge.head[-1].bias.fill_(7)  # not squeezed by a sigmoid
        assert judge.eval()(torch.rand(2, 3, 32, 32)).max() > 1


def test_normalisation_may_follow_the_activation() -> None:
    kinds = {after: [type(m) for m in discriminator("patch", norm_after_activation=after).features] for after in (0, 1)}
    block = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert kinds[0] == [nn.Conv2d, nn.LeakyReLU] + block * 7
    assert kinds[1] == [nn.Conv2d, nn.LeakyReLU] + [nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d] * 7


def test_patch_form_takes_any_size_and_judges_where_it_looks() -> None:
    judge = discriminator("patch").eval()
    image = torch.rand(1, 3, 160, 64)
    before = judge(image)
    assert before.shape == (1, 1, 10, 4)
    image[:, :, :16] = 0
    moved = (judge(image) - before).abs()
    assert moved[:, :, 0].min() > 0
    assert moved[:, :, 5:].max() == 0


def test_dense_form_is_for_one_size() -> None:
    with pytest.raises(ValueError, match="multiple of 16 HR pixels, not 100"):
        DISCRIMINATORS["dense"](patch=100)
    with pytest.raises(ValueError, match=r"patches of 32 px, not \(32, 48\)"):
        discriminator("dense")(torch.rand(1, 3, 32, 48))


@pytest.mark.parametrize("head", HEADS)
def test_discriminators_learn_to_tell_blur_from_detail(head: str) -> None:
    judge = discriminator(head)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(40):
        real = torch.rand(8, 3, 32, 32, generator=draw)
        made = F.avg_pool2d(real, 5, stride=1, padding=2)
        logits = judge(real), judge(made)
        optimizer.zero_grad()
        ADVERSARIAL["standard"].discriminator(*logits).backward()
        optimizer.step()
    known = [share.item() for share in accuracy(*logits)]
    assert min(known) > 0.9, known
