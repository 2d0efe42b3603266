"""The loss on a grid: what repeats itself is seen, what an image shows is not."""

import pytest
import torch

from training.losses.pixel import GRID_CELLS, GRID_PERIOD, grid

SIDE = 3 * GRID_PERIOD * GRID_CELLS + 5  # no multiple of the period


def error(seed: int) -> torch.Tensor:
    return 0.03 * torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("period", [2, 4, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_grid_is_seen_below_the_noise_that_hides_it(period: int, seed: int) -> None:
    hr = torch.rand(2, 3, SIDE, SIDE)
    noise = error(seed)
    dots = torch.zeros_like(hr)
    dots[:, :, ::period, ::period] = 0.05
    assert grid(hr + noise + dots, hr) > 1.5 * grid(hr + noise, hr)


def test_a_colour_cast_and_a_ramp_are_no_grid() -> None:
    hr = torch.rand(1, 3, SIDE, SIDE)
    assert grid(hr + 0.1, hr) < 1e-10
    assert grid(hr, hr) == 0


def test_a_window_anywhere_sees_the_same_grid() -> None:
    hr = torch.rand(1, 3, SIDE, SIDE)
    dots = torch.zeros_like(hr)
    dots[:, :, ::4, ::4] = 0.1
    seen = [float(grid((hr + dots)[:, :, y:, x:], hr[:, :, y:, x:])) for y, x in ((0, 0), (1, 2), (3, 3))]
    assert seen == pytest.approx([seen[0]] * 3, rel=1e-3)


def test_what_is_smaller_than_a_few_periods_tells_nothing() -> None:
    assert grid(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)) == 0
