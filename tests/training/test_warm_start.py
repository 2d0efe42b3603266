"""A run starts from another run, or from the network that was exported from it."""

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from training import warm_start as starting
from training.architectures import Generator, SubPixelGenerator, build
from training.architectures.collapsible import CollapsibleConv, collapse
from training.checkpoint import Average, Folders, load_trained, save
from training.export.face import attach_face
from training.export.graph import to_onnx
from training.recipe import DataRecipe, Recipe, Stage, load_recipe
from training.train import train
from training.warm_start import exported_weights, load_exported, start_from

LR = torch.rand(4, 3, 32, 28, generator=torch.Generator().manual_seed(3))
NETWORK = {"architecture": "plain", "channels": 8, "depth": 3}
RECIPE = Recipe(name="tiny", scale=3, network=NETWORK, summary="A recipe for tests.", precision="fp32")


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def keep(network: Generator, path: Path) -> None:
    path.parent.mkdir(parents=True)
    save(path, network, Average(network, 0.9), torch.optim.Adam(network.parameters()), 5)


def save_pictures(folders: Folders) -> None:
    for name in ("photos", "kodak"):
        (folders.data / name).mkdir(parents=True)
        Image.linear_gradient("L").convert("RGB").save(folders.data / name / "gradient.png")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "data", tmp_path / "runs", models=tmp_path / "models")


@pytest.fixture
def trunk(folders: Folders) -> dict[str, Tensor]:
    """The averaged weights in the checkpoint of a run ``other-x2``."""
    network = build(2, **NETWORK)
    keep(network, folders.run("other-x2") / "checkpoint.pt")
    return weights(network)


def test_the_trunk_is_copied_and_no_more(trunk: dict[str, Tensor], folders: Folders) -> None:
    network = build(3, **NETWORK)
    own = weights(network)
    start_from(network, "other-x2", folders, LR)
    for name, weight in weights(network).items():
        assert torch.equal(weight, own[name] if name.startswith("tail.") else trunk[name]), name
    assert not torch.equal(own["head.expand"], trunk["head.expand"])


def test_a_plain_network_starts_from_a_collapsible_one(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {"architecture": "plain-residual", "channels": 8, "blocks": 2}
    other = build(2, **wide)
    keep(other, folders.run("wide-x2") / "checkpoint.pt")
    monkeypatch.setattr(starting, "load_recipe", lambda title: replace(RECIPE, name="wide", scale=2, network=wide))
    network = build(2, architecture="edsr", channels=8, blocks=2)
    own = weights(network)
    start_from(network, "wide-x2", folders, LR)
    plain = weights(collapse(other))
    for name, weight in weights(network).items():
        from_other = name.startswith(("trunk.0", "trunk.1", "head"))
        assert torch.equal(weight, plain[name] if from_other else own[name]), name


@pytest.mark.parametrize("training", [True, False], ids=["training", "judged"])
def test_a_normalised_network_computes_what_the_plain_one_does(folders: Folders, training: bool) -> None:
    """SRResNet, by its batches' statistics and by its running ones, against EDSR's blocks."""
    other = build(4, architecture="edsr", channels=8, blocks=2, input_residual=True)
    torch.nn.init.normal_(other.head.bias)
    torch.nn.init.normal_(other.last.weight, std=0.1)
    keep(other, folders.run("edsr-x4") / "checkpoint.pt")
    network = build(4, architecture="srresnet", channels=8, blocks=2, input_residual=True)
    start_from(network, "edsr-x4", folders, LR)
    assert network.training
    with torch.no_grad():
        inner = (network.train(training)(LR) - other(LR))[..., 36:-36, 36:-36]  # the edge is padded with other colours
    assert inner.abs().max() < 1e-4


@pytest.mark.parametrize("name", ["edsr", "srresnet", "espcn"])
def test_an_exported_network_is_read_back_whole(name: str, tmp_path: Path) -> None:
    """What is no longer there as a run: normalisations and slopes too, by their layers' names."""
    small = {} if name == "espcn" else {"channels": 8, "blocks": 2}
    network = build(4, **load_recipe(f"{name}-x4").network | small)
    with torch.no_grad():
        for _ in range(3):
            network(LR)
        for parameter in network.parameters():  # the exporter leaves out what is 0 and keeps once what is equal
            parameter.add_(torch.randn_like(parameter) / 50)
    collapse(network.eval().requires_grad_(False))
    path = tmp_path / f"{name}-x4.onnx"
    onnx.save(attach_face(to_onnx(network), 4, isinstance(network, SubPixelGenerator)), path)
    again = collapse(build(4, **load_recipe(f"{name}-x4").network | small))
    load_exported(again, path)
    assert torch.allclose(again.eval()(LR), network(LR), atol=1e-4)
    other = build(4, architecture="rrdb", channels=8, blocks=1)
    with pytest.raises(ValueError, match=rf"{name}-x4\.onnx lacks .*refine\.bias"):
        load_exported(other, path)


def test_a_normalised_network_keeps_its_own_kinds_statistics(folders: Folders) -> None:
    other = build(2, architecture="srresnet", channels=8, blocks=1)
    other(LR)
    keep(other, folders.run("srresnet-x2") / "checkpoint.pt")
    network = build(3, architecture="srresnet", channels=8, blocks=1)
    start_from(network, "srresnet-x2", folders, LR)
    for name, weight in weights(network.trunk).items():
        assert torch.equal(weight, weights(other.trunk)[name]), name


def test_training_starts_from_the_run_that_the_recipe_names(trunk: dict[str, Tensor], folders: Folders) -> None:
    save_pictures(folders)
    standing = (Stage(steps=1, rate=0.0, final_rate=0.0, warmup=0),)
    recipe = replace(RECIPE, start_from="other-x2", stages=standing, data=DataRecipe(crop=16, batch=2))
    network = weights(train(recipe, folders))
    for name in ("head.expand", "head.squeeze", "trunk.0.expand", "trunk.0.squeeze", "trunk.0.bias"):
        assert torch.equal(network[name], trunk[name]), name


def test_a_run_goes_on_without_what_it_started_from(trunk: dict[str, Tensor], folders: Folders) -> None:
    save_pictures(folders)
    recipe = replace(RECIPE, start_from="other-x2", data=DataRecipe(crop=16, batch=2))
    train(replace(recipe, stages=(Stage(steps=1),)), folders)
    shutil.rmtree(folders.run("other-x2"))
    longer = replace(recipe, stages=(Stage(steps=2),))
    train(longer, folders)
    assert load_trained(longer, folders)[1] == 2
    shutil.rmtree(folders.data)
    train(longer, folders)  # a finished run reads no pictures


def test_without_a_run_the_exported_network_is_started_from(tmp_path: Path) -> None:
    """The shipped ``fast`` is plain; a recipe's network is collapsible, and has to compute the same."""
    recipe = load_recipe("fast-x4")
    network = build(recipe.scale, **recipe.network).eval()
    start_from(network, "fast-x4", Folders(tmp_path, tmp_path), LR)
    exported = exported_weights(Folders(tmp_path, tmp_path).models / "fast-x4.onnx")
    exported = {name: weight for name, weight in exported.items() if "." in name}
    collapsed = weights(collapse(network))
    assert set(collapsed) == set(exported)
    for name, weight in exported.items():
        assert torch.allclose(collapsed[name], weight, atol=1e-5), name


def test_a_run_goes_before_the_exported_network(folders: Folders) -> None:
    network = build(4, **load_recipe("fast-x4").network)
    keep(network, folders.run("fast-x4") / "checkpoint.pt")
    other = build(4, **load_recipe("fast-x4").network)
    start_from(other, "fast-x4", replace(folders, models=Folders(folders.data, folders.runs).models), LR)
    assert torch.equal(other.head.expand, network.head.expand)


@pytest.mark.parametrize("identity", [True, False])
def test_factors_of_a_kernel_give_it_again_and_are_of_one_size(identity: bool) -> None:
    layer = CollapsibleConv(8, 8, expansion=2, identity=identity)
    kernel = torch.randn(8, 8, 3, 3)
    expand, squeeze = layer.factors(kernel)
    layer.load_state_dict({"expand": expand, "squeeze": squeeze, "bias": layer.bias.data})
    assert torch.allclose(layer.kernel(), kernel, atol=1e-5)
    assert expand.square().mean().item() == pytest.approx(squeeze.square().mean().item(), rel=1e-3)


def test_weights_that_do_not_fit_at_all_are_refused(folders: Folders) -> None:
    keep(build(2, architecture="espcn"), folders.run("espcn-x2") / "checkpoint.pt")
    with pytest.raises(ValueError, match="no weight of espcn-x2 fits"):
        start_from(build(2, **NETWORK), "espcn-x2", folders, LR)


def test_neither_run_nor_model(folders: Folders) -> None:
    with pytest.raises(ValueError, match="train other-x2 first"):
        start_from(build(2, **NETWORK), "other-x2", folders, LR)
