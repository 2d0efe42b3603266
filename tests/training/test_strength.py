"""A network that takes a strength: what it learns from, what it starts from, and the file it becomes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from app.inference.providers import create_session
from app.inference.zoo import load_zoo
from app.threads import usable_cores
from training import strength
from training.architectures import Generator, build
from training.checkpoint import Average, Folders, save
from training.export.face import attach_face
from training.export.graph import to_onnx
from training.export.macs import multiply_accumulates
from training.export.manifest import read_manifest
from training.export.publish import export
from training.export.shortcut import with_broadcast_shortcut
from training.export.verify import measure_context, parity
from training.recipe import DataRecipe, Int8Recipe, Recipe, Stage, StrengthRecipe
from training.report.evaluate import png, served_path
from training.strength import Strengths, strengths
from training.train import train
from training.warm_start import start_from

SCALE = 2
PLAIN = {"architecture": "half-size", "channels": 16, "blocks": 1, "detail": 8}
STEERED = {**PLAIN, "strength": True}
FAITHFUL = Recipe(name="exact", scale=SCALE, network={"architecture": "interpolation"}, summary="A recipe for tests.")
RECIPE = Recipe(
    name="steered",
    scale=SCALE,
    network=STEERED,
    summary="A recipe for tests.",
    data=DataRecipe(pictures="pictures", validation="pictures", crop=16, batch=4),
    strength=StrengthRecipe("exact-x2", full=0.4, none=0.4),
    stages=(Stage(steps=150, rate=2e-3, warmup=5),),
    precision="fp32",
    ema=0.9,
)
LR = torch.rand(3, 3, 12, 15, generator=torch.Generator().manual_seed(3))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network() -> Generator:
    torch.manual_seed(5)
    network = build(SCALE, **STEERED).eval().requires_grad_(False)
    torch.nn.init.normal_(network.tail.weight, std=0.05)
    return network


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    Image.fromarray(skimage.data.astronaut()[:128, :128]).save(tmp_path / "data" / "pictures" / "a.png")
    return Folders(tmp_path / "data", tmp_path / "runs", models=tmp_path / "models")


class Gray(Generator):
    """Its images are gray: not to be taken for anything else."""

    scale = SCALE

    def forward(self, lr: Tensor, *strength: Tensor) -> Tensor:
        return torch.full((len(lr), 3, lr.shape[2] * SCALE, lr.shape[3] * SCALE), 0.5)


def test_strength_is_felt_image_by_image(network: Generator) -> None:
    given = torch.tensor([0.0, 0.4, 1.0])
    together = network(LR, given)
    for index, value in enumerate(given):
        alone = network(LR[index : index + 1], value[None])
        assert torch.allclose(together[index], alone[0], atol=1e-5)
    assert torch.equal(network(LR), network(LR, torch.ones(3))), "1 is the default"
    assert (network(LR, torch.zeros(3)) - network(LR)).abs().mean() > 1e-3


def test_targets_lie_between_the_faithful_image_and_the_own_target() -> None:
    steering = Strengths(StrengthRecipe("exact-x2", full=0.3, none=0.3), Gray())
    hr = torch.rand(400, 3, 24, 30)
    values, target = steering.steer(LR[:1].expand(400, -1, -1, -1), hr, np.random.default_rng(0))
    expected = 0.5 + values[:, None, None, None] * (hr - 0.5)
    assert torch.allclose(target, expected, atol=1e-6)
    assert 80 < int((values == 0).sum()) < 160
    assert 80 < int((values == 1).sum()) < 160
    assert len(values.unique()) > 120


def test_a_network_that_takes_a_strength_starts_as_the_one_without(folders: Folders) -> None:
    torch.manual_seed(0)
    other, steered = build(SCALE, **PLAIN), build(SCALE, **STEERED)
    torch.nn.init.normal_(other.tail.weight, std=0.05)
    folders.run("other-x2").mkdir(parents=True)
    path = folders.run("other-x2") / "checkpoint.pt"
    save(path, other, Average(other, 0.9), torch.optim.Adam(other.parameters()), 5)
    start_from(steered, "other-x2", folders, LR)
    with torch.no_grad():
        assert torch.allclose(steered(LR, torch.tensor([0.0, 0.5, 1.0])), other(LR), atol=1e-5)


def test_a_network_without_one_starts_from_full_strength(network: Generator, folders: Folders) -> None:
    folders.run("other-x2").mkdir(parents=True)
    path = folders.run("other-x2") / "checkpoint.pt"
    save(path, network, Average(network, 0.9), torch.optim.Adam(network.parameters()), 5)
    plain = build(SCALE, **PLAIN)
    start_from(plain, "other-x2", folders, LR)
    inner = (slice(None), slice(None), slice(48, -48), slice(48, -48))  # borders are padded with zeros, strength's too
    wide = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(plain(wide)[inner], network(wide)[inner], atol=1e-5)


def test_the_file_takes_strength_as_the_network_does(network: Generator) -> None:
    core = to_onnx(network)
    model = attach_face(with_broadcast_shortcut(core), SCALE, phases=True)
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.input] == ["image", "strength"]
    assert parity(network, model) <= 1
    plain = multiply_accumulates(to_onnx(build(SCALE, **PLAIN)))
    added = 16 * 36 // 4 + 8 * 9  # head and skip read one plane more
    assert multiply_accumulates(core) == plain + added
    session = create_session(model.SerializeToString(), "candidate", "cpu", usable_cores())
    image = LR.permute(0, 2, 3, 1).numpy()
    given = np.array([0, 0.5, 1], np.float32)
    together = session.run(["upscaled16"], {"image": image, "strength": given})[0]
    for index in range(3):
        chosen = slice(index, index + 1)
        alone = session.run(["upscaled16"], {"image": image[chosen], "strength": given[chosen]})[0]
        assert np.abs(together[index].astype(int) - alone[0]).max() <= 1


def test_context_holds_at_both_ends(network: Generator) -> None:
    """At full strength this network looks at one pixel, at none at its neighbours."""

    class OnlyAtNone(Generator):
        scale, takes_strength = SCALE, True

        def forward(self, lr: Tensor, strength: Tensor | None = None) -> Tensor:
            full = lr.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)
            shifted = torch.roll(full, 3 * SCALE, 3)
            share = (torch.ones(len(lr)) if strength is None else strength)[:, None, None, None]
            return share * full + (1 - share) * shifted

    assert measure_context(OnlyAtNone()) == (3, 0.0)


def test_it_learns_what_its_strength_means(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faithful is gray and the target is the photograph, so that strength decides between them."""
    monkeypatch.setattr("training.train.strengths", lambda recipe, *_: Strengths(recipe.strength, Gray()))
    trained = train(RECIPE, folders)
    lr = torch.from_numpy(skimage.data.astronaut()[:64:2, :64:2].copy()).permute(2, 0, 1)[None].float() / 255
    spreads = [trained(lr, torch.tensor([value])).std().item() for value in (0.0, 0.5, 1.0)]
    assert spreads[0] < 0.6 * spreads[1] < 0.6 * spreads[2], spreads
    export(RECIPE, folders, folders.models)
    (entry,) = read_manifest(folders.models)["models"]
    assert entry["strength"] is True
    (spec,) = load_zoo(folders.models)
    with served_path(load_zoo(folders.models), [spec]) as path:
        assert path.upscale(spec, png(skimage.data.astronaut()[:40, :40])).shape == (80, 80, 3)


def test_the_faithful_network_is_the_exported_one(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    assert strengths(FAITHFUL, folders, torch.device("cpu")) is None
    plain = {"architecture": "plain", "channels": 8, "depth": 3}
    exact = replace(FAITHFUL, network=plain, data=RECIPE.data, stages=(Stage(steps=3),), precision="fp32")
    expected = train(exact, folders)(LR)
    export(exact, folders, folders.models)
    monkeypatch.setattr(strength, "load_recipe", lambda _: exact)
    steering = strengths(RECIPE, folders, torch.device("cpu"))
    assert steering
    assert torch.allclose(steering.faithful(LR), expected, atol=1e-4)
    entry = read_manifest(folders.models)["models"][0]
    assert "strength" not in entry, "a network without one says nothing of it"


def test_recipes_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match="belong together"):
        replace(RECIPE, strength=None)
    with pytest.raises(ValueError, match="belong together"):
        replace(RECIPE, network=PLAIN)
    with pytest.raises(ValueError, match="no shares"):
        StrengthRecipe("exact-x2", full=0.8, none=0.4)
    with pytest.raises(ValueError, match="no int8 file"):
        replace(RECIPE, int8=Int8Recipe())
