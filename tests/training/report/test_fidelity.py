"""Fidelity: what is true to LR, and a grid that nobody asked for."""

import numpy as np
import pytest
import skimage.data

from training.data.degradations import area
from training.report.fidelity import fidelity, grid_level

HR = skimage.data.astronaut()[:256, :256]
LR = area(HR, 4)


def test_the_original_is_true_to_its_reduction() -> None:
    figures = fidelity(HR, LR, 4)
    assert figures["lr_psnr"] == float("inf")
    assert figures["lr_delta_e"] == 0
    assert figures["grid"] < 0.2


def test_a_cast_is_seen_in_colour_and_not_as_a_grid() -> None:
    tint = np.array([12, 0, -12])
    tinted = np.clip(HR.astype(int) + tint, 0, 255).astype(np.uint8)
    figures = fidelity(tinted, LR, 4)
    assert figures["lr_delta_e"] > 3
    assert figures["grid"] == pytest.approx(grid_level(HR), abs=0.05)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_faint_grid_is_seen_at_each_of_the_periods(period: int) -> None:
    dots = np.zeros(HR.shape[:2], int)
    dots[::period, ::period] = 6
    dotted = np.clip(HR.astype(int) + dots[..., None], 0, 255).astype(np.uint8)
    figures = fidelity(dotted, LR, 4)
    assert figures["grid"] > 3 * grid_level(HR)
    assert figures["lr_delta_e"] < 1.5


def test_noise_and_gradients_are_no_grid() -> None:
    noise = np.random.default_rng(1).normal(128, 8, (256, 256, 3))
    gradient = np.broadcast_to(np.arange(256)[None, :, None], (256, 256, 3))
    assert grid_level(np.clip(noise, 0, 255).astype(np.uint8)) < 0.3
    assert grid_level(gradient.astype(np.uint8)) < 0.1


def test_pictures_smaller_than_a_period_have_none() -> None:
    assert grid_level(HR[:5, :40]) == 0
