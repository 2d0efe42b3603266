"""Digits from noise: files of MNIST's format, both GANs' loops, the judge, the export, and POST /generate served."""

import csv
import gzip
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from app.errors import ModelFileError, UnknownModelError
from app.inference.engine import Engine
from app.inference.generator import GAP, grid, latent_vectors
from app.inference.zoo import load_zoo
from app.threads import usable_cores
from harness import MODELS
from harness.server import running_server
from training.digits.data import Labelled, load_split, read_idx
from training.digits.export import export_digits
from training.digits.judge import Classifier, frechet_distance, judge, load_judge
from training.digits.networks import GANS, classes_of, to_pixels, to_tensor
from training.digits.recipe import RECIPES, DigitsRecipe, load_digits_recipe
from training.digits.train import draw_progress, train_digits

TINY = {"channels": 8, "latent": 12, "steps": 6, "batch": 4}


def bars(count: int, seed: int = 0) -> Labelled:
    """Ten classes that anybody can tell, wherever they are moved to: by the number of bright bars, on noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    pictures = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[3 : 5 + 2 * int(label) : 2, 4:24] = 250
    return Labelled(pictures, labels)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_split(folder: Path, split: str, data: Labelled) -> None:
    (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(data.pictures)))
    (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(data.labels))


# -- data --------------------------------------------------------------------------------------------------------


def test_files_are_read_packed_or_plain(tmp_path: Path) -> None:
    data = bars(7)
    write_split(tmp_path, "train", data)
    found = load_split(tmp_path, "train")
    assert (found.pictures == data.pictures).all()
    assert (found.labels == data.labels).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no idx file"),
        (b"\x89PNG....", "no idx file"),
        (bytes([0, 0, 9, 1]) + bytes(4), "no idx file"),
        (bytes([0, 0, 8, 3, 0]), "within its header"),
        (idx(np.zeros((2, 28, 28), np.uint8))[:-1], "1567 bytes after its header, not 1568"),
    ],
)
def test_what_is_no_such_file_is_told(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "x")


def test_wrong_shapes_and_classes_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no train-images"):
        load_split(tmp_path, "train")
    for data, message in [
        (Labelled(np.zeros((2, 20, 20), np.uint8), np.zeros(2, np.uint8)), r"\(2, 20, 20\), not"),
        (Labelled(np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8)), r"labels of shape \(3,\)"),
        (Labelled(np.zeros((2, 28, 28), np.uint8), np.full(2, 10, np.uint8)), "the class 10"),
    ]:
        write_split(tmp_path, "train", data)
        with pytest.raises(ValueError, match=message):
            load_split(tmp_path, "train")


def test_pixels_survive_the_networks_range() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(784).reshape(256, 28, 28)
    assert (to_pixels(to_tensor(levels)).numpy() == levels).all()


# -- recipes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_read_and_named_as_its_file(path: Path) -> None:
    assert load_digits_recipe(path.stem).title == path.stem


def test_the_sources_gan_is_the_one_it_tells() -> None:
    recipe = load_digits_recipe("digits-dense-sgd")
    assert (recipe.latent, recipe.steps, recipe.batch, recipe.optimizer) == (100, 10_000, 32, "sgd")
    generator = GANS["dense"].generator(recipe.latent, recipe.channels)
    widths = [layer.out_features for layer in generator if isinstance(layer, torch.nn.Linear)]
    assert widths == [256, 512, 1024, 784]
    discriminator = GANS["dense"].discriminator(recipe.channels)
    assert [layer.out_features for layer in discriminator if isinstance(layer, torch.nn.Linear)] == [512, 256, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "a"\nsummary = ""\ngan = "x"\nchannels = 8', "unknown gan 'x'; known: dense, conv, classes"),
        ('title = "a"\nsummary = ""\ngan = "conv"\nchannels = 8\nrat = 1', r"unknown keys \['rat'\]"),
        ('title = "a"\nsummary = ""\ngan = "conv"\nchannels = 8\nbatch = 1', "batch must be 2 or more"),
        ('title = "a"\nsummary = ""\ngan = "conv"\nchannels = 8\noptimizer = "lion"', "known: adam, sgd"),
        ('title = "a"', "missing"),
    ],
)
def test_a_wrong_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_digits_recipe(str(tmp_path / "r.toml"))


# -- training ----------------------------------------------------------------------------------------------------


def tiny(gan: str, **changes: object) -> DigitsRecipe:
    return DigitsRecipe(title=f"tiny-{gan}", summary="a test's", gan=gan, **{**TINY, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gan", "optimizer"), [("dense", "sgd"), ("dense", "adam"), ("conv", "adam"), ("classes", "adam")]
)
def test_a_resumed_run_ends_as_an_unbroken_one(gan: str, optimizer: str, tmp_path: Path) -> None:
    data = bars(40)
    recipe = tiny(gan, optimizer=optimizer, ema=0.9)
    unbroken = train_digits(recipe, data, tmp_path / "a").state_dict()
    train_digits(tiny(gan, optimizer=optimizer, ema=0.9, steps=2), data, tmp_path / "b")
    resumed = train_digits(recipe, data, tmp_path / "b").state_dict()
    for name, tensor in unbroken.items():
        torch.testing.assert_close(resumed[name], tensor)
    assert any((unbroken[name] != tensor).any() for name, tensor in start(recipe).items())
    with open(tmp_path / "b" / recipe.title / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "6"]


def start(recipe: DigitsRecipe) -> dict[str, torch.Tensor]:
    torch.manual_seed(recipe.seed)
    return GANS[recipe.gan].generator(recipe.latent, recipe.channels).state_dict()


def test_the_class_is_told_by_the_largest_of_the_first_ten_numbers() -> None:
    torch.manual_seed(0)
    latents = torch.randn(5_000, 12)
    classes = classes_of(latents)
    assert (classes == latents[:, :10].argmax(1)).all()
    shares = torch.bincount(classes, minlength=10) / len(classes)
    assert shares.min() > 0.08
    generator = GANS["classes"].generator(12, 8).eval()
    told = []
    generator.draw.register_forward_hook(lambda layer, inputs, output: told.append(inputs[0]))
    generator(latents[:20])
    assert (told[0][:, :12] == latents[:20]).all()
    assert (told[0][:, 12:] == torch.eye(10)[classes[:20]]).all()
    with pytest.raises(ValueError, match="latent = 6"):
        GANS["classes"].generator(6, 8)


def test_the_discriminator_learns_which_class_a_picture_should_be_of() -> None:
    torch.manual_seed(0)
    pictures, classes = torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 3])
    discriminator = GANS["classes"].discriminator(8).eval()
    torch.testing.assert_close(discriminator(pictures, classes), discriminator(pictures, classes.flip(0)))  # at first
    torch.nn.init.normal_(discriminator.of_class.weight)
    assert (discriminator(pictures, classes) != discriminator(pictures, classes.flip(0))).all()
    indifferent = GANS["conv"].discriminator(8).eval()
    assert (indifferent(pictures, classes) == indifferent(pictures, classes.flip(0))).all()


def test_progress_is_shown_from_the_first_step_on(tmp_path: Path) -> None:
    recipe = tiny("dense")
    with pytest.raises(ValueError, match=r"has not drawn 000000\.png yet"):
        draw_progress(recipe, tmp_path)
    train_digits(recipe, bars(20), tmp_path)
    side = 5 * (28 + GAP) + GAP
    with Image.open(draw_progress(recipe, tmp_path)) as progress:
        assert progress.size == (side, side)
    assert sorted(p.name for p in (tmp_path / recipe.title / "samples").iterdir()) == ["000000.png", "000006.png"]


# -- the judge ---------------------------------------------------------------------------------------------------


def test_the_judge_learns_to_tell_classes_and_says_how_samples_lie(tmp_path: Path) -> None:
    train, test = bars(2_000), bars(300, seed=1)
    classifier, accuracy = load_judge(train, test, tmp_path / "judge.pt")
    assert accuracy > 0.95
    again, same = load_judge(train, test, tmp_path / "judge.pt")  # read, not trained
    assert same == accuracy
    real = again.features(to_tensor(test.pictures)).double().numpy()
    of_real = judge(classifier, to_tensor(bars(300, seed=2).pictures), real)
    one_class = judge(classifier, to_tensor(test.pictures[test.labels == 3]), real)
    noise = judge(classifier, torch.rand(300, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1, real)
    assert of_real.sure > noise.sure  # of 2,000 pictures a judge learns to be right, not to be sure
    assert min(of_real.classes) > 0.04
    assert one_class.classes[3] > 0.9
    assert of_real.frechet < one_class.frechet
    assert of_real.frechet < noise.frechet


def test_the_frechet_distance_of_gaussians_is_the_formulas() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 2))
    b = a * [2, 3] + [1, -2]  # means 1 and -2 apart; deviations 1, 1 and 2, 3
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 1) ** 2, rel=0.02)


# -- export and service ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with bicubic and a generator that has learned next to nothing."""
    folder = tmp_path_factory.mktemp("models")
    manifest = json.loads((MODELS / "manifest.json").read_text())
    kept = [entry for entry in manifest["models"] if (entry["name"], entry["scale"]) == ("bicubic", 4)]
    (folder / "manifest.json").write_text(
        json.dumps({**manifest, "default": "bicubic", "models": kept, "generators": []})
    )
    (folder / "bicubic-x4.onnx").write_bytes((MODELS / "bicubic-x4.onnx").read_bytes())
    train_digits(tiny("classes"), bars(40), folder / "runs")
    export_digits(tiny("classes"), folder / "runs", folder, (Classifier().eval(), 0.5), bars(40))
    return folder


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[httpx.Client]:
    with running_server(models=str(models)) as server, server.client() as client:
        yield client


def test_the_export_is_listed_proven_and_drawn_with(models: Path) -> None:
    zoo = load_zoo(models)
    spec = zoo.generator("digits")
    assert (spec.latent, spec.height, spec.width, spec.channels) == (12, 28, 28, 1)
    assert spec.files["fp32"].metrics["test digits"]["samples"] == 10_000
    generator = Engine(zoo, "cpu", usable_cores()).generators["digits"]
    few, many = (generator.run(latent_vectors(7, count, 12)) for count in (3, 20))
    assert (few.dtype, few.shape) == (np.uint8, (3, 28, 28, 1))
    assert (many[:3] == few).all()
    with pytest.raises(UnknownModelError, match="known: digits"):
        zoo.generator("bicubic")


def test_a_generator_with_another_face_stops_the_start(models: Path, tmp_path: Path) -> None:
    for path in models.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["generators"][0]["latent"] = 7
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError, match=r"not .*latents.*7"):
        Engine(load_zoo(tmp_path), "cpu", usable_cores())


def picture(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_the_same_seed_draws_the_same_picture(client: httpx.Client, models: Path) -> None:
    first = client.post("/generate", params={"model": "digits", "count": 7, "seed": 42, "columns": 3})
    again = client.post("/generate", data={"model": "digits", "count": "7", "seed": "42", "columns": "3"})
    assert first.content == again.content
    generator = Engine(load_zoo(models), "cpu", usable_cores()).generators["digits"]
    expected = grid(generator.run(latent_vectors(42, 7, 12)), 3)[..., 0]
    assert np.abs(picture(first).astype(int) - expected).max() <= 1
    assert first.headers["enlarger-seed"] == "42"
    assert first.headers["enlarger-output-size"] == f"{expected.shape[1]}x{expected.shape[0]}"
    other = client.post("/generate", params={"count": 7, "seed": 43, "columns": 3})
    assert other.content != first.content


def test_without_a_seed_any_is_taken_and_told(client: httpx.Client) -> None:
    first, second = (client.post("/generate", params={"count": 4}) for _ in range(2))
    assert first.headers["enlarger-seed"] != second.headers["enlarger-seed"]
    same = client.post("/generate", params={"count": 4, "seed": first.headers["enlarger-seed"]})
    assert same.content == first.content
    assert picture(first).shape == (2 * (28 + GAP) + GAP,) * 2


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"model": "bicubic"}, 404, "unknown_model"),
        ({"count": 0}, 422, "invalid_parameter"),
        ({"count": 401}, 422, "invalid_parameter"),
        ({"seed": -1}, 422, "invalid_parameter"),
        ({"seed": 2**53}, 422, "invalid_parameter"),
        ({"columns": 0}, 422, "invalid_parameter"),
        ({"rows": 3}, 422, "invalid_parameter"),
        ({"count": "many"}, 422, "invalid_parameter"),
    ],
)
def test_what_cannot_be_drawn_is_a_problem(
    client: httpx.Client, params: dict[str, str], status: int, code: str
) -> None:
    for response in (client.post("/generate", params=params), client.post("/generate", data=params)):
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert next(iter(params)) in response.json()["detail"] or status == 404


def test_a_body_that_is_no_small_form_is_refused(client: httpx.Client) -> None:
    assert client.post("/generate", json={"count": 3}).json()["code"] == "invalid_parameter"
    assert client.post("/generate", data={"model": "d" * 5000}).json()["code"] == "body_too_large"


def test_models_tell_of_the_generator(client: httpx.Client) -> None:
    told = client.get("/models").json()
    assert [model["name"] for model in told["models"]] == ["bicubic"]
    assert [(each["name"], each["kind"]) for each in told["generators"]] == [("digits", "generator")]
    assert client.get("/models/digits").json() == told["generators"][0]
    assert client.post("/upscale", params={"model": "digits"}, files={"image": b"x"}).status_code in (404, 415)
