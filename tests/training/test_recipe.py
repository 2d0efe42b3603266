"""Recipes: the published ones are sound, and whatever is wrong in one is said clearly before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.architectures import build
from training.architectures.collapsible import collapse
from training.recipe import RECIPES, AdversaryRecipe, ContentRecipe, DataRecipe, Recipe, Stage, load_recipe

PUBLISHED = sorted(RECIPES.glob("*.toml"))

GOOD = """
name = "tiny"
scale = 3
summary = "A recipe for tests."
seed = 7

[network]
architecture = "plain"
channels = 8
depth = 3

[data]
pictures = "mine"
crop = 16

[[stage]]
steps = 30
rate = 2e-3

[[stage]]
steps = 12
loss = "mse"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


def plain_shapes(recipe: Recipe) -> dict[str, torch.Size]:
    state = collapse(build(recipe.scale, **recipe.network)).state_dict()
    return {name: tensor.shape for name, tensor in state.items()}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_recipe(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.title == path.stem  # its run and its model are called after it
    assert load_recipe(str(path)) == recipe
    assert recipe.summary.endswith(".")
    network = build(recipe.scale, **recipe.network)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8 * recipe.scale, 8 * recipe.scale)
    if recipe.start_from:
        source = load_recipe(recipe.start_from)
        own, other = (plain_shapes(each) for each in (recipe, source))
        shared = [name for name, shape in own.items() if other.get(name) == shape]
        assert len(shared) > min(len(own), len(other)) / 2, f"only {shared} of {recipe.start_from} fit"


def test_a_recipe_file_is_read_whole(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.title == "tiny-x3"
    assert recipe.steps == 42
    assert recipe.network == {"architecture": "plain", "channels": 8, "depth": 3}
    assert recipe.data == DataRecipe(pictures="mine", crop=16)
    assert recipe.stages == (Stage(steps=30, rate=2e-3), Stage(steps=12, loss="mse"))
    assert (recipe.seed, recipe.start_from, recipe.precision) == (7, None, "bf16")


GAME = """
[[stage]]
steps = 5
pixel_weight = 0.1
schedule = "drop"
content = { weight = 0.5, layers = [16] }

[stage.adversary]
weight = 5e-3
game = "relativistic"
discriminator = "patch"
"""


def test_a_recipe_based_on_another_says_only_what_differs(tmp_path: Path) -> None:
    base = load_recipe(write(tmp_path, GOOD))
    child = tmp_path / "child.toml"
    child.write_text(f'based_on = "{tmp_path / "tiny.toml"}"\nname = "child"\n[data]\nbatch = 3\n')
    expected = replace(base, name="child", data=replace(base.data, batch=3))
    assert load_recipe(str(child)) == expected
    grandchild = tmp_path / "grandchild.toml"
    grandchild.write_text(f'based_on = "{child}"\n[[stage]]\nsteps = 7\n')
    assert load_recipe(str(grandchild)) == replace(expected, stages=(Stage(steps=7),))


def test_a_recipe_is_not_based_on_itself(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(f'based_on = "{second}"\n')
    second.write_text(f'based_on = "{first}"\n')
    with pytest.raises(ValueError, match="first is based on itself"):
        load_recipe(str(first))
    first.write_text('based_on = "nowhere"\n')
    with pytest.raises(ValueError, match="no recipe 'nowhere'"):
        load_recipe(str(first))


def test_a_stage_with_content_and_adversary_is_read_whole(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, GOOD + GAME)).stages[2] == Stage(
        steps=5,
        pixel_weight=0.1,
        schedule="drop",
        content=ContentRecipe(weight=0.5, layers=(16,)),
        adversary=AdversaryRecipe(weight=5e-3, game="relativistic", discriminator="patch"),
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("layers = [16]", "lairs = [16]", ["'lairs'", "'layers'", "'weight'"]),
        ("layers = [16]", 'distance = "l3"', ["'l3'", "mse, l1"]),
        ("layers = [16]", "layers = [37]", ["layers = (37,)", "0 to 36"]),
        ("weight = 0.5", "weight = -0.5", ["[stage.content] weight = -0.5"]),
        ("weight = 5e-3", "waight = 5e-3", ["'waight'", "'rate_ratio'"]),
        ("weight = 5e-3", "weight = nan", ["[stage.adversary] weight = nan"]),
        ('game = "relativistic"', 'game = "poker"', ["'poker'", "standard, relativistic"]),
        ('discriminator = "patch"', 'discriminator = "critic"', ["'critic'", "dense, patch"]),
        ('schedule = "drop"', 'schedule = "step"', ["'step'", "cosine, drop"]),
        ("pixel_weight = 0.1", "pixel_weight = 'much'", ["pixel_weight = 'much'"]),
        ("content = { weight = 0.5, layers = [16] }", "", []),
    ],
)
def test_a_wrong_game_says_what_is_wrong(old: str, new: str, said: list[str], tmp_path: Path) -> None:
    assert GAME.count(old) == 1
    text = GOOD + GAME.replace(old, new)
    if not said:  # the loss that is left must tie SR to LR
        text, said = text.replace("pixel_weight = 0.1", "pixel_weight = 0"), ["neither a pixel nor a content loss"]
    with pytest.raises(ValueError, match=r"^tiny\.toml: ") as error:
        load_recipe(write(tmp_path, text))
    assert [words for words in said if words not in str(error.value)] == []


def test_an_adversary_needs_crops_that_its_strides_divide(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 16 px, not 54"):
        load_recipe(write(tmp_path, GOOD.replace("crop = 16", "crop = 18") + GAME))


@pytest.mark.parametrize(("line", "said"), [("blend = 1.5", "share from 0 to 1"), ("blend = 0.5", "names none")])
def test_a_blend_is_a_share_between_two_networks(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        load_recipe(write(tmp_path, f"{line}\n{GOOD}"))


@pytest.mark.parametrize(
    ("crop", "shift", "said"),
    [(18, 6, ""), (16, 4, "multiple of 16 px, not 44"), (16, 48, "nothing is left"), (16, -1, "not a number")],
)
def test_what_an_adversary_sees_is_the_crop_less_the_shift(crop: int, shift: int, said: str, tmp_path: Path) -> None:
    game = GAME.replace("pixel_weight = 0.1", f"pixel_weight = 0.1\nshift = {shift}")
    path = write(tmp_path, GOOD.replace("crop = 16", f"crop = {crop}") + game)
    if said:
        with pytest.raises(ValueError, match=said):
            load_recipe(path)
    else:
        recipe = load_recipe(path)
        assert recipe.seen(recipe.stages[-1]) == 48


def test_a_recipe_without_stages_trains_nothing() -> None:
    assert load_recipe("bicubic-x4").steps == 0


@pytest.mark.parametrize("name", ["nonsense", "nonsense.toml", "../recipes/nonsense"])
def test_an_unknown_recipe_names_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="no recipe") as error:
        load_recipe(name)
    assert repr(name) in str(error.value)
    assert all(path.stem in str(error.value) for path in PUBLISHED)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 7", "sead = 7", ["'sead'", "'seed'", "'start_from'"]),
        ("seed = 7", "stages = 7", ["'stages'", "'seed'"]),
        ("crop = 16", "corp = 16", ["'corp'", "'crop'", "'sampling'"]),
        ("rate = 2e-3", "lr = 2e-3", ["'lr'", "'rate'", "'warmup'"]),
        ("crop = 16", 'degradation = "jpeg"', ["'jpeg'", "bicubic", "area"]),
        ("crop = 16", "reductions = [1, 0.5]", ["(1, 0.5)"]),
        ("crop = 16", "reductions = 2", ["reductions = 2"]),
        ("crop = 16", 'sampling = "best"', ["'best'", "uniform", "detail"]),
        ("crop = 16", "mix = [{ pictures = 'b', share = 1.5 }]", ["1.5"]),
        ("crop = 16", "mix = [{ pictures = 'b', share = 0.6 }, { pictures = 'c', share = 0.6 }]", ["more than 1"]),
        ("crop = 16", "mix = [{ pictures = 'b', share = 0.1, degradation = 'jpg' }]", ["'jpg'", "drawn"]),
        ("crop = 16", "mix = [{ pictures = 'b', part = 0.1 }]", ["'part'", "'share'"]),
        ('loss = "mse"', 'loss = "l3"', ["'l3'", "l1", "mse", "charbonnier"]),
        ("seed = 7", 'precision = "fp16"', ["'fp16'", "bf16", "fp32"]),
        ('architecture = "plain"', "", ["no architecture"]),
        ('summary = "A recipe for tests."', "", ["summary"]),
        ("scale = 3", "scale = ", ["line 3"]),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong_and_what_would_be_right(
    old: str, new: str, said: list[str], tmp_path: Path
) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ValueError, match=r"^tiny\.toml: ") as error:
        load_recipe(write(tmp_path, GOOD.replace(old, new)))
    assert [words for words in said if words not in str(error.value)] == []


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"architecture": "unet"}, ["'unet'", "plain", "espcn", "interpolation"]),
        ({"architecture": "plain", "chanels": 8}, ["'chanels'", "'plain'", "known: channels, depth"]),
        ({"architecture": "plain", "scale": 2}, ["'scale'", "known: channels, depth"]),
        ({"architecture": "espcn", "variant": "huge"}, ["'huge'", "paper", "wide"]),
        ({"architecture": "interpolation", "kernel": "lanczos"}, ["'lanczos'", "nearest", "bilinear", "bicubic"]),
        ({"architecture": "interpolation"}, ["'interpolation'", "kernel"]),
    ],
)
def test_a_wrong_network_says_what_is_wrong_and_what_would_be_right(
    network: dict[str, object], said: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"architecture|unknown|known") as error:
        build(4, **network)
    assert [words for words in said if words not in str(error.value)] == []
