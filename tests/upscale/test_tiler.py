"""Properties of the geometry that the stitcher and the engine rely on, for any picture and tile."""

import doctest
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from app.inference.batching import LANES
from app.upscale import tiler
from app.upscale.tiler import (
    DEAR,
    FIRST_BAND,
    SMALLEST_CORE,
    Plan,
    Span,
    TileBudget,
    choose_tile,
    mirrored_beyond,
    plan_tiles,
    spans,
)

CONTEXTS = st.integers(0, 48)
BLENDS = st.integers(0, 9)


@st.composite
def axes(draw: st.DrawFn, longest: int = 5000) -> tuple[int, int, int, int]:
    """``length, largest, context, blend`` with a tile just or amply large enough."""
    context, blend = draw(CONTEXTS), draw(BLENDS)
    largest = 2 * context + blend + draw(st.integers(1, 300))
    return draw(st.integers(1, longest)), largest, context, blend


@given(axes())
@settings(max_examples=300)
def test_cores_cover_the_axis_and_neighbours_share_the_blend(axis: tuple[int, int, int, int]) -> None:
    length, _, _, blend = axis
    tiles = spans(*axis)
    assert tiles[0].core_start == 0
    assert tiles[-1].core_stop == length
    assert all(before.core_stop - after.core_start == blend for before, after in pairwise(tiles))
    assert all(before.core_start < after.core_start for before, after in pairwise(tiles))
    assert all(before.core_stop < after.core_stop for before, after in pairwise(tiles))


@given(axes())
@settings(max_examples=300)
def test_windows_reach_from_mirror_to_mirror_and_are_of_one_size_no_larger_than_asked(
    axis: tuple[int, int, int, int],
) -> None:
    length, largest, context, _ = axis
    tiles, beyond = spans(*axis), mirrored_beyond(context)
    sizes = {tile.stop - tile.start for tile in tiles}
    assert len(sizes) == 1
    assert sizes.pop() <= largest
    assert tiles[0].start == -beyond
    assert tiles[-1].stop == length + beyond
    assert all(-beyond <= tile.start < tile.stop <= length + beyond for tile in tiles)


@given(axes())
@settings(max_examples=300)
def test_a_core_has_its_context_or_all_the_mirror_there_is(axis: tuple[int, int, int, int]) -> None:
    length, _, context, _ = axis
    beyond = mirrored_beyond(context)
    assert beyond == context or 0 < beyond < context
    for tile in spans(*axis):
        assert tile.core_start - tile.start >= (context if tile.start > -beyond else beyond)
        assert tile.stop - tile.core_stop >= (context if tile.stop < length + beyond else beyond)
        assert tile.core_start < tile.core_stop


@given(axes(400))
@settings(max_examples=300)
def test_what_a_window_mirrors_lies_in_the_window(axis: tuple[int, int, int, int]) -> None:
    """Its source rows suffice for the mirror image: none that were let go are asked for again."""
    length, _, _, _ = axis
    for tile in spans(*axis):
        shown = range(max(0, tile.start), min(length, tile.stop))
        whole = len(shown) == length
        assert whole or -tile.start <= len(shown)
        assert whole or tile.stop - length <= len(shown)


@given(axes(), st.integers(2, 8))
@settings(max_examples=300)
def test_windows_are_whole_cells_from_one_mirror_to_the_other(axis: tuple[int, int, int, int], cell: int) -> None:
    length, largest, context, blend = axis
    largest += 4 * cell  # rounding up context and blend must not leave nothing
    beyond = mirrored_beyond(context, cell)
    assert beyond % cell == 0
    tiles = spans(length, largest, context, blend, cell)
    assert len({tile.stop - tile.start for tile in tiles}) == 1
    for tile in tiles:
        assert (tile.start + beyond) % cell == (tile.stop + beyond) % cell == 0
        assert tile.stop - tile.start <= largest
        assert tile.core_start - tile.start >= (context if tile.start > -beyond else beyond)
        assert tile.stop - tile.core_stop >= (context if tile.stop < length + beyond else beyond)
    assert (tiles[0].start, tiles[0].core_start, tiles[-1].core_stop) == (-beyond, 0, length)
    assert length + beyond <= tiles[-1].stop < length + beyond + cell
    assert all(before.core_stop - after.core_start == blend for before, after in pairwise(tiles))


@given(st.integers(1, 3000), st.integers(1, 3000), CONTEXTS, st.sampled_from([2, 4, 8]), st.integers(1, 10**7))
@settings(max_examples=100)
def test_a_tile_in_cells_is_one_that_a_plan_can_be_made_of(h: int, w: int, context: int, cell: int, macs: int) -> None:
    tile = choose_tile((h, w), 4, macs, context, 2, TileBudget(), cell)
    plan = plan_tiles(h, w, tile, context, 2, cell)
    assert tile[0] % cell == tile[1] % cell == 0
    assert plan.tile_pixels <= tile[0] * tile[1]
    if cell == 2 and macs < 10**6 and min(h, w) >= 100:  # a cell more is little
        pixels = choose_tile((h, w), 4, macs, context, 2, TileBudget())
        unaligned = plan_tiles(h, w, pixels, context, 2)
        assert plan.computed_pixels <= 1.35 * unaligned.computed_pixels + 4000


@given(axes())
@settings(max_examples=300)
def test_no_fewer_and_no_smaller_windows_would_do(axis: tuple[int, int, int, int]) -> None:
    length, largest, context, blend = axis
    tiles, shown = spans(*axis), length + 2 * mirrored_beyond(context)
    count, size, lost = len(tiles), tiles[0].stop - tiles[0].start, 2 * context + blend
    assert covered(count - 1, largest, lost) < shown
    assert covered(count, size, lost) >= shown
    assert count == 1 or covered(count, size - 1, lost) < shown


def covered(count: int, size: int, lost: int) -> int:
    """The longest axis that so many windows reach across when neighbours overlap by ``lost``."""
    return count * size - (count - 1) * lost if count else 0


@given(st.integers(1, 400), st.integers(0, 200), CONTEXTS, BLENDS)
def test_a_picture_that_fits_is_one_tile_with_its_mirror(length: int, spare: int, context: int, blend: int) -> None:
    beyond = mirrored_beyond(context)
    assert spans(length, length + 2 * beyond + spare, context, blend) == (Span(-beyond, length + beyond, 0, length),)


@given(CONTEXTS, BLENDS, st.integers(0, 8), st.integers(1, 1000))
def test_a_tile_too_small_for_its_context_is_refused(context: int, blend: int, missing: int, further: int) -> None:
    largest = 2 * context + blend - missing
    assume(largest > 0)
    with pytest.raises(ValueError, match=f"a tile of {largest} pixels is too small for a context of {context}"):
        spans(largest + further, largest, context, blend)


@given(axes(400), axes(400))
def test_a_plan_is_the_product_of_its_axes(
    vertical: tuple[int, int, int, int], across: tuple[int, int, int, int]
) -> None:
    height, tile_height, context, blend = vertical
    width, tile_width = across[0], max(across[1], 2 * context + blend + 1)
    plan = plan_tiles(height, width, (tile_height, tile_width), context, blend)
    assert (plan.height, plan.width, plan.blend, plan.mirrored) == (height, width, blend, mirrored_beyond(context))
    assert plan.band_rows == max(row.core_stop - row.core_start for row in plan.rows)
    assert plan.rows == spans(height, tile_height, context, blend)
    assert plan.columns == spans(width, tile_width, context, blend)
    areas = [(r.stop - r.start) * (c.stop - c.start) for r in plan.rows for c in plan.columns]
    assert len(areas) == plan.tiles
    assert set(areas) == {plan.tile_pixels}
    assert sum(areas) == plan.computed_pixels >= (height + 2 * plan.mirrored) * (width + 2 * plan.mirrored)


def test_the_example_in_the_docstring_holds() -> None:
    results = doctest.testmod(tiler)
    assert results.attempted > 0
    assert results.failed == 0


def test_a_picture_within_the_budget_is_one_exact_tile() -> None:
    assert choose_tile((300, 301), 4, 1000, 8, 2, TileBudget()) == (316, 317)
    assert choose_tile((1, 1), 4, 1000, 48, 2, TileBudget()) == (33, 33)


@pytest.mark.parametrize("size", [(1024, 1024), (1500, 1000), (3000, 4000), (9000, 500)])
def test_no_band_is_more_than_a_quarter_of_a_large_picture(size: tuple[int, int]) -> None:
    rows, _ = choose_tile(size, 4, 70_000, 8, 2, TileBudget())
    assert rows <= size[0] * FIRST_BAND, f"{rows} of {size[0]}"


@pytest.mark.parametrize("size", [(512, 768), (1024, 1024), (1000, 1500), (1500, 1000), (3000, 4000), (9000, 500)])
@pytest.mark.parametrize("macs", [70_000, 354_000])
def test_the_first_band_takes_a_quarter_of_the_time_on_two_lanes(size: tuple[int, int], macs: int) -> None:
    plan = plan_tiles(*size, choose_tile(size, 4, macs, 8, 2, TileBudget()), 8, 2)
    until_then = -(-len(plan.columns) // LANES) * LANES  # the windows that are done with its last one
    assert until_then <= FIRST_BAND * plan.tiles, f"{until_then} of {plan.tiles}"


@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 12), st.integers(4_000, 60_000))
@example(555, 739, 0, 4_000)  # where more windows are fewer pixels, because less is rounded up
@settings(max_examples=60)
def test_no_tile_within_the_budget_computes_much_less(height: int, width: int, context: int, pixels: int) -> None:
    """Half a tile less at most: so much is given for smaller tiles, whose last ones keep a lane waiting for less."""
    least = 2 * context + 2 + SMALLEST_CORE
    area = max(least**2, pixels)

    def computed(tile: tuple[int, int]) -> int:
        return plan_tiles(height, width, tile, context, 2).computed_pixels

    chosen = choose_tile((height, width), 1, 1, context, 2, TileBudget(pixels=pixels))
    shown = height + 2 * mirrored_beyond(context), width + 2 * mirrored_beyond(context)
    if shown[0] * shown[1] <= area:
        assert chosen == shown
        return
    tallest = min(max(2 * least, int(height * FIRST_BAND)), area // least)
    assert chosen[0] * chosen[1] <= area
    assert chosen[0] <= tallest
    assert computed(chosen) <= area / 2 + min(computed((rows, area // rows)) for rows in range(least, tallest + 1))


@pytest.mark.parametrize(
    ("size", "overlap"), [((512, 512), 0.26), ((1024, 1024), 0.15), ((1500, 2048), 0.14), ((3000, 4000), 0.2)]
)
def test_little_is_computed_beside_the_picture(size: tuple[int, int], overlap: float) -> None:
    plan = plan_tiles(*size, choose_tile(size, 4, 70_000, 8, 2, TileBudget()), 8, 2)
    assert plan.computed_pixels / (size[0] * size[1]) - 1 < overlap


def test_a_flat_picture_is_not_cut_along_its_middle() -> None:
    assert choose_tile((60, 9000), 4, 70_000, 8, 2, TileBudget())[0] == 76


# -- dear networks with a wide context, such as Real-ESRGAN's -----------------------------------------------------

REAL_ESRGAN = {"macs": 17_900_000, "context": 48, "pixel_bytes": 12_300}


def dear_plan(size: tuple[int, int], budget: TileBudget, macs: int, context: int, pixel_bytes: int) -> Plan:
    tile = choose_tile(size, 4, macs, context, 2, budget, pixel_bytes=pixel_bytes)
    return plan_tiles(*size, tile, context, 2, macs=macs)


@pytest.mark.parametrize(
    ("size", "times"),
    [
        ((256, 384), 1.2),
        ((512, 512), 1.6),
        ((768, 1024), 1.6),
        ((1024, 768), 1.6),
        ((1000, 1000), 1.6),
        ((500, 1500), 1.6),
    ],
)
def test_tiles_of_a_dear_network_grow_until_little_is_computed_twice(size: tuple[int, int], times: float) -> None:
    plan = dear_plan(size, TileBudget(), **REAL_ESRGAN)
    assert plan.computed_pixels <= times * size[0] * size[1]
    assert plan.tile_pixels * REAL_ESRGAN["pixel_bytes"] <= TileBudget().tile_bytes


def test_a_whole_picture_is_one_tile_where_that_is_cheaper() -> None:
    assert dear_plan((256, 384), TileBudget(), **REAL_ESRGAN).tiles == 1


@given(st.integers(1, 1200), st.integers(1, 1200), st.integers(0, 48), st.integers(200, 20_000), st.integers(1, 30))
@settings(max_examples=60)
def test_no_tile_takes_more_memory_than_it_may(
    height: int, width: int, context: int, pixel_bytes: int, millions: int
) -> None:
    """But for the least windows that a context needs. More memory never means more pixels computed."""
    macs, least = millions * 1_000_000, (2 * context + 2 + SMALLEST_CORE) ** 2
    computed = []
    for megabytes in (200, 800, 3200):
        budget = TileBudget(tile_bytes=megabytes * 10**6)
        plan = dear_plan((height, width), budget, macs, context, pixel_bytes)
        assert plan.tile_pixels <= max(least, budget.tile_bytes // pixel_bytes)
        computed.append(plan.computed_pixels)
    if macs > DEAR:
        assert computed == sorted(computed, reverse=True)


@pytest.mark.parametrize("macs", [29_000, 354_000, 1_209_000, 2_218_000])
@pytest.mark.parametrize("size", [(256, 384), (1024, 1024), (3000, 4000)])
def test_tiles_of_the_networks_trained_here_are_what_they_were(macs: int, size: tuple[int, int]) -> None:
    tiles = {choose_tile(size, 4, macs, 24, 2, TileBudget(tile_bytes=limit)) for limit in (1, 10**12)}
    assert len(tiles) == 1
