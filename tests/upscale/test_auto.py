"""``model=auto``: what it takes for which image, and what it does where a network is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import CorruptImageError, UnknownModelError, UnknownScaleError
from app.images.traits import NAMES, Traits
from app.inference.zoo import ModelSpec, Zoo, load_zoo
from app.upscale.auto import CANDIDATES, CLEAN, DRAWN, KINDS, SPOILED, candidates, choose, fitting_strength
from app.upscale.auto_tree import DRAWN_TREE, PHOTO, PHOTO_TREE
from app.upscale.memory import held_bytes
from app.upscale.parameters import UpscaleParameters
from app.upscale.tree import Split, Tree, as_code, steps_to
from app.upscale.upscaler import Upscaler
from harness.fakes import FakeEngine, make_spec, noise, running
from harness.files import saved
from harness.pictures import decoded, encode
from harness.zoo import small_zoo
from tests.support.auto import blurred, drawing, noisy, page, photograph, png, spoiled

AUTO = UpscaleParameters(model="auto", scale=2, format="png")
FILES = {
    "a clean PNG": (png(photograph()), CLEAN),
    "a JPEG of high quality": (spoiled(96), CLEAN),
    "a JPEG of the web": (spoiled(60), SPOILED),
    "noise": (noisy(), SPOILED),
    "blur": (blurred(), SPOILED),
    "a WebP of the web": (saved(photograph(), "WEBP", quality=60), SPOILED),
    "a drawing": (png(drawing()), DRAWN),
    "a drawing as JPEG": (saved(drawing(), "JPEG", quality=75), DRAWN),
    "a drawing as GIF": (saved(drawing(), "GIF"), DRAWN),
    "a drawing with a palette": (png(drawing().quantize(16)), DRAWN),
    "a page": (png(page()), DRAWN),
    "a page as JPEG": (saved(page(), "JPEG", quality=75), DRAWN),
}


def zoo_of(*specs: ModelSpec) -> Zoo:
    return Zoo(Path("."), specs[0].name, specs)


def named(name: str, scale: int = 2, macs: int = 100) -> ModelSpec:
    return replace(make_spec(), name=name, scale=scale, macs=macs)


ALL = zoo_of(named("balanced"), named("photo", macs=300), named("art", macs=200))


@pytest.mark.parametrize("name", FILES)
def test_each_image_gets_the_network_for_its_kind(name: str) -> None:
    data, kind = FILES[name]
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {})
        image = upscaler.open(data)
        plan = upscaler.plan(image, AUTO)
        chosen = upscaler.look(image, plan)
        work = upscaler.decode(image, plan)
        assert work.plan == chosen, "the estimate is that of the enlargement"
        assert chosen.choice is not None
        assert (chosen.choice.kind, chosen.specs[0].name) == (kind, CANDIDATES[kind] or "balanced"), chosen.choice
        assert chosen.choice.reason.startswith(KINDS[kind])
        assert chosen.choice.reason.isascii()
        assert not chosen.rivals
        assert (chosen.choice.strength is not None) == (kind == SPOILED)


def test_a_named_network_is_taken_without_a_look() -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {})
        image = upscaler.open(FILES["a drawing"][0])
        plan = upscaler.plan(image, UpscaleParameters(model="photo", scale=2))
        assert (plan.specs[0].name, plan.choice, plan.rivals) == ("photo", None, {})
        assert upscaler.decode(image, plan).plan is plan


def test_the_default_may_be_a_network() -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {}, default="art")
        image = upscaler.open(FILES["a JPEG of the web"][0])
        assert upscaler.plan(image, UpscaleParameters(scale=2)).specs[0].name == "art"
        assert upscaler.look(image, upscaler.plan(image, AUTO)).specs[0].name == "photo"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_network_is_replaced_by_the_default(kind: str) -> None:
    data = next(data for data, right in FILES.values() if right == kind)
    zoo = zoo_of(*(spec for spec in ALL if spec.name != CANDIDATES[kind]))
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(zoo, scheduler, {})
        image = upscaler.open(data)
        chosen = upscaler.look(image, upscaler.plan(image, AUTO))
        assert chosen.specs[0].name == "balanced"
        assert chosen.choice
        assert ("is not available" in chosen.choice.reason) == (CANDIDATES[kind] is not None)


@pytest.mark.parametrize("names", [("mine",), ("mine", "other"), ("photo",)])
def test_a_folder_of_other_networks_serves_its_default(names: tuple[str, ...]) -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(zoo_of(*map(named, names)), scheduler, {})
        image = upscaler.open(FILES["a JPEG of the web"][0])
        plan = upscaler.plan(image, AUTO)
        assert (plan.specs[0].name, plan.rivals) == (names[0], {})
        assert plan.choice
        assert plan.choice.kind is None


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3, 4, 6, 8])
def test_a_network_without_the_scale_is_not_taken(scale: float) -> None:
    zoo = zoo_of(*(named("balanced", each) for each in (2, 3, 4)), named("photo", 4), named("art", 2), named("art", 4))
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(zoo, scheduler, {})
        asked = UpscaleParameters(scale=scale, format="png")
        taken = {}
        for kind in KINDS:
            image = upscaler.open(next(data for data, right in FILES.values() if right == kind))
            chosen = upscaler.look(image, upscaler.plan(image, asked))
            taken[kind] = chosen.specs[0].name
            assert [spec.scale for spec in chosen.specs] == [spec.scale for spec in zoo.passes(None, scale, scale)]
        assert taken[CLEAN] == "balanced"
        assert taken[SPOILED] == ("photo" if scale == 4 else "balanced")
        assert taken[DRAWN] == ("balanced" if scale in (3, 6) else "art")


def test_until_it_has_looked_the_dearest_network_is_planned() -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {})
        plan = upscaler.plan(upscaler.open(FILES["a drawing"][0]), AUTO)
        assert set(plan.rivals) == set(KINDS)
        assert upscaler.seconds(plan) == max(upscaler.seconds(rival) for rival in plan.rivals.values())
        assert held_bytes(plan) == max(held_bytes(rival) for rival in plan.rivals.values())
        assert plan.choice is None


def test_a_job_has_the_load_of_what_was_taken() -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {})
        image = upscaler.open(FILES["a clean PNG"][0])
        plan = upscaler.plan(image, AUTO)
        with upscaler.admit(plan) as job:
            work = upscaler.decode(image, plan, job)
            assert +job.left == {spec.title: pixels for spec, pixels in work.plan.load}
            assert b"".join(upscaler.run(work, job)).startswith(b"\x89PNG")
            assert not +job.left
            assert not -job.left
        assert scheduler.jobs() == 0


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (700, 5), (16, 16)])
def test_the_smallest_images_are_enlarged_too(size: tuple[int, int]) -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {})
        image = upscaler.open(encode(noise(*size, 3)))
        work = upscaler.decode(image, upscaler.plan(image, AUTO))
        assert b"".join(upscaler.run(work)).startswith(b"\x89PNG")
        if min(size) < 16:
            assert work.plan.choice
            assert (work.plan.specs[0].name, work.plan.choice.kind) == ("balanced", CLEAN)


def test_what_can_be_refused_is_refused_before_it_looks() -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {})
        image = upscaler.open(FILES["a clean PNG"][0])
        with pytest.raises(UnknownScaleError):
            upscaler.plan(image, UpscaleParameters(scale=8))
        with pytest.raises(UnknownModelError):
            upscaler.plan(image, UpscaleParameters(model="automatic", scale=2))
        damaged = upscaler.open(FILES["a JPEG of the web"][0][:-2000])
        with pytest.raises(CorruptImageError):
            upscaler.look(damaged, upscaler.plan(damaged, AUTO))


def test_the_library_chooses_too() -> None:
    with Upscaler.load(small_zoo("fast", "photo"), provider="cpu") as upscaler:
        taken = []
        for data in (spoiled(), png(photograph())):
            image = upscaler.open(data)
            work = upscaler.decode(image, upscaler.plan(image, UpscaleParameters(width=300, format="png")))
            assert decoded(b"".join(upscaler.run(work))).shape == (300, 300, 3)
            taken.append(work.plan.specs[0].title)
        assert taken == ["fast-x2", "fast-x2"]
        image = upscaler.open(spoiled())
        work = upscaler.decode(image, upscaler.plan(image, UpscaleParameters(format="png")))
        assert decoded(b"".join(upscaler.run(work))).shape == (1024, 1024, 3)
        assert work.plan.specs[0].title == "photo-x4"


def test_an_image_turned_by_its_orientation_is_of_the_same_kind() -> None:
    with running(FakeEngine()) as scheduler:
        upscaler = Upscaler(ALL, scheduler, {})
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[274] = orientation
            for picture, kind in ((photograph(), SPOILED), (drawing(), DRAWN)):
                image = upscaler.open(saved(picture, "JPEG", quality=70, exif=exif))
                chosen = upscaler.look(image, upscaler.plan(image, AUTO))
                assert chosen.choice
                assert chosen.choice.kind == kind


# -- the choice --------------------------------------------------------------------------------------------------


def test_more_is_cleaned_where_more_is_wrong() -> None:
    for trait, values in {
        "quality": (90, 70, 50, 30, 10),
        "noise": (1, 3, 5, 7, 20),
        "acute": (0.7, 0.5, 0.4, 0.3, 0.1),
        "blocks": (1, 1.5, 2, 3, 9),
        "bits": (3, 2, 1, 0.5, 0.1),
    }.items():
        found = [fitting_strength(replace(Traits(), **{trait: value})) for value in values]
        assert found == sorted(found)
        assert (found[0], found[-1]) == (0.2, 1.0)


def test_the_candidates_of_the_shipped_networks_are_there() -> None:
    found = candidates(load_zoo(Path("models")))
    assert (found[CLEAN], found[SPOILED]) == ("balanced", "photo")
    assert found[DRAWN] in ("art", "balanced")


def test_the_header_is_a_structured_field() -> None:
    networks = dict.fromkeys(KINDS, "balanced")
    choice = choose(Traits(), networks)
    assert choice.header == f'balanced;reason="{choice.reason}"'
    assert not set('"\\') & set(choice.reason)
    assert choice.as_json() == {"model": "balanced", "kind": choice.kind, "reason": choice.reason}


# -- the trees ---------------------------------------------------------------------------------------------------


def questions(tree: Tree) -> list[Split]:
    return [tree, *questions(tree.below), *questions(tree.above)] if isinstance(tree, Split) else []


def leaves(tree: Tree) -> set[str]:
    return leaves(tree.below) | leaves(tree.above) if isinstance(tree, Split) else {tree}


def test_the_trees_are_small_and_ask_for_traits_that_exist() -> None:
    assert leaves(DRAWN_TREE) == {PHOTO, DRAWN}
    assert leaves(PHOTO_TREE) == {CLEAN, SPOILED}
    asked = questions(DRAWN_TREE) + questions(PHOTO_TREE)
    assert len(asked) <= 16
    assert {question.trait for question in asked} <= set(NAMES)


def test_a_tree_as_code_is_the_tree() -> None:
    for tree in (DRAWN_TREE, PHOTO_TREE):
        assert eval(as_code(tree), {"Split": Split}) == tree


def test_the_last_answer_about_a_trait_counts() -> None:
    tree = Split("noise", 5, Split("noise", 2, "a", "b"), "c")
    kind, steps = steps_to(replace(Traits(), noise=3), tree)
    assert (kind, [(step.trait, step.below) for step in steps]) == ("b", [("noise", False)])


def test_every_answer_has_its_words() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        values = dict(zip(NAMES, rng.random(len(NAMES)) * [100, 24, 1, 1, 1, 1, 1, 10, 1, 1, 3], strict=True))
        assert choose(Traits(**values), dict.fromkeys(KINDS, "balanced")).reason
