"""QR codes: what is drawn says what it should, pairs follow from a seed, and the measure counts what is read."""

import dataclasses
import io
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
import zxingcpp
from PIL import Image

from app.images import barcodes as codes
from app.images.barcodes import header_value
from app.inference.zoo import load_zoo
from harness import MODELS
from harness.pictures import encode
from training.checkpoint import Folders
from training.data.qrcodes import (
    CodePairs,
    CodeRecipe,
    View,
    code_batches,
    make_code,
    pool_code,
    reduce_area,
    render_pair,
    whole_size,
    whole_view,
)
from training.recipe import DataRecipe, Recipe, Stage, load_recipe
from training.report import evaluate_qr
from training.report.evaluate import served_path
from training.report.evaluate_qr import READERS, Condition, bicubic, measure, samples, triptychs, wrong_contents
from training.train import train

SMALL = CodeRecipe(codes=30)
CLEAN = Condition("clean", (3.0, 3.0), 0.0, 0.0)


def read(image: np.ndarray) -> list[str]:
    return [code.text for code in zxingcpp.read_barcodes(np.ascontiguousarray(image))]


# -- drawing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 4, 7, 10])
@pytest.mark.parametrize("level", ["l", "h"])
def test_what_is_drawn_says_what_it_should(version: int, level: str) -> None:
    rng = np.random.default_rng(version)
    code = make_code(rng, version, level)
    assert code.modules.shape == (17 + 4 * version,) * 2
    _, hr = render_pair(code, whole_view(rng, code, 2.0, 0, 0), whole_size(code, 2.0), 4, rng)
    assert read(hr) == [code.content]


def test_a_module_has_the_size_and_the_place_it_is_told() -> None:
    code = make_code(np.random.default_rng(0), 1, "l")
    lr, hr = render_pair(code, View(2.0, centre=(29.0, 29.0)), (58, 58), 4, np.random.default_rng(0))
    modules = np.pad(code.modules, 4)  # 29 modules of 2 px: 58 px
    assert (hr[..., 0] == 255 * (1 - modules).repeat(8, 0).repeat(8, 1)).all()
    assert (lr[..., 0] == 255 * (1 - modules).repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize("kind", ["gauss", "defocus", "motion"])
def test_every_blur_has_the_deviation_it_is_told(kind: str) -> None:
    """A one-pixel line's spread, against the turn of motion along it."""
    from training.data.qrcodes import BLURS

    line = np.zeros((81, 81, 3), np.float32)
    line[:, 40] = 1000
    spread = BLURS[kind](line, 4.0, 0.0)[40, :, 0]
    x = np.arange(81) - 40
    assert spread.sum() == pytest.approx(1000, rel=1e-3)
    assert np.sqrt((spread * x**2).sum() / spread.sum()) == pytest.approx(4.0, rel=0.05)


def test_lr_is_the_mean_of_hr_and_then_noise_jpeg_and_light_change_it() -> None:
    code = make_code(np.random.default_rng(0), 2, "m")
    view = View(1.7, centre=(30.3, 29.1), angle=13)
    lr, hr = render_pair(code, view, (60, 60), 4, np.random.default_rng(0))
    assert np.abs(lr - reduce_area(hr.astype(np.float32), 4)).max() <= 1
    for change in ({"noise": 8.0}, {"jpeg": 40}, {"blur": 1.0}):
        changed, same = render_pair(code, dataclasses.replace(view, **change), (60, 60), 4, np.random.default_rng(0))
        assert (same == hr).all()
        assert np.abs(changed.astype(int) - lr).mean() > 1, change
    lit, _ = render_pair(code, dataclasses.replace(view, light=(0.4, 0.0)), (60, 60), 4, np.random.default_rng(0))
    assert lit[:3].mean() < lr[:3].mean() - 30


# -- pairs -------------------------------------------------------------------------------------------------------


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    unbroken = list(code_batches(SMALL, 4, 16, 2, 5, 0, 4))
    resumed = list(code_batches(SMALL, 4, 16, 2, 5, 2, 4))
    for (lr, hr), (lr_unbroken, hr_unbroken) in zip(resumed, unbroken[2:], strict=True):
        assert (lr.shape, hr.shape, lr.dtype) == ((2, 16, 16, 3), (2, 64, 64, 3), np.uint8)
        assert (lr == lr_unbroken).all()
        assert (hr == hr_unbroken).all()
    assert (unbroken[0][0] != unbroken[1][0]).any()


def test_a_third_is_kept_for_validation_and_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: set[int] = set()

    def watched(number: int, versions: int, small_share: float) -> object:
        drawn.add(number)
        return pool_code(number, versions, small_share)

    monkeypatch.setattr("training.data.qrcodes.pool_code", watched)
    pairs = CodePairs(SMALL, 4, 16)
    list(code_batches(SMALL, 4, 16, 8, 1, 0, 12))
    trained = set(drawn)
    drawn.clear()
    first = [pairs.pair(index) for index in range(len(pairs))]
    assert len(pairs) == 10
    assert drawn == set(pairs.numbers)
    assert not trained & drawn
    assert len(trained) > 15
    assert all((lr == pairs.pair(i)[0]).all() for i, (lr, _) in enumerate(first))


@pytest.mark.parametrize(
    "change", [{"versions": 41}, {"codes": 2}, {"pixels_per_module": (2.0, 1.0)}, {"jpeg": 0}], ids=str
)
def test_a_wrong_recipe_of_codes_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        CodeRecipe(**change)  # type: ignore[arg-type]


def test_the_training_loop_learns_codes_without_any_folder(tmp_path: Path) -> None:
    shipped = load_recipe("qr-x4")
    assert shipped.data.codes is not None
    assert not shipped.data.codes.flip
    recipe = Recipe(
        name="tiny",
        scale=4,
        network={"architecture": "plain", "channels": 8, "depth": 3},
        summary="",
        data=DataRecipe(crop=16, batch=2, codes=SMALL),
        stages=(Stage(steps=3, warmup=1),),
    )
    train(recipe, Folders(tmp_path / "absent", tmp_path / "runs"))
    assert (tmp_path / "runs" / "tiny-x4" / "samples" / "0000003.png").exists()


# -- the measure -------------------------------------------------------------------------------------------------


def test_the_measure_counts_what_is_read_what_is_not_and_what_is_read_wrongly() -> None:
    other = make_code(np.random.default_rng(99), 1, "m")
    lie = render_pair(other, View(8.0, centre=(120, 120)), (240, 240), 1, np.random.default_rng(0))[1]
    methods = {"bicubic": bicubic, "blank": lambda lr: np.full_like(lr, 200), "liar": lambda lr: lie}
    reading = measure(CLEAN, 4, methods, ("zxing",))
    assert [reading.share(method, "zxing") for method in methods] == [1.0, 0.0, 0.0]
    assert reading.wrong["bicubic", "zxing"] == []
    assert [text for _, text in reading.wrong["liar", "zxing"]] == [other.content] * 4
    told = wrong_contents([reading], [("bicubic", "zxing"), ("liar", "zxing")])
    assert "bicubic, zxing: 0 of 4" in told
    assert "liar, zxing: 4 of 4" in told
    assert repr(other.content) in told


def test_the_manifest_tells_how_many_codes_are_read_on_the_served_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_qr, "JUDGED", 3)
    monkeypatch.setattr(evaluate_qr, "GOALS", (CLEAN, dataclasses.replace(CLEAN, blur=9.0)))
    zoo = load_zoo(MODELS)
    spec = zoo.find("bicubic", 4)
    with served_path(zoo, [spec]) as path:
        assert evaluate_qr.judge_codes(spec, path) == {
            "3 small codes": {"codes_read": 1.0, "codes_wrong": 0},
            "3 blurred codes": {"codes_read": 0.0, "codes_wrong": 0},
        }


def test_both_readers_read_a_plain_code() -> None:
    code, _, hr = next(samples(CLEAN, 1))
    assert all(reader(hr) == [code.content] for reader in READERS.values())


def test_a_condition_always_has_the_same_codes() -> None:
    few, many = list(samples(CLEAN, 2)), list(samples(CLEAN, 3))
    assert all((a[1] == b[1]).all() for a, b in zip(few, many, strict=False))
    sheet = triptychs(CLEAN, bicubic)
    assert sheet.shape[1] >= 3 * few[0][2].shape[1]


# -- decode=true -------------------------------------------------------------------------------------------------


def small_code() -> tuple[str, bytes]:
    code, lr, _ = next(samples(CLEAN, 1))
    return code.content, encode(lr)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_codes_are_told_before_and_after(client: httpx.Client, format: str) -> None:
    content, data = small_code()
    params = {"model": "bicubic", "decode": "true", "format": format}
    response = client.post("/upscale", params=params, files={"image": data})
    assert response.status_code == 200, response.text
    told = header_value([content])
    assert (response.headers["enlarger-codes-before"], response.headers["enlarger-codes-after"]) == (told, told)
    plain = client.post("/upscale", params={**params, "decode": "false"}, files={"image": data})
    assert plain.content == response.content
    assert "enlarger-codes-after" not in plain.headers


def test_a_picture_without_codes_tells_none(client: httpx.Client, photo: np.ndarray) -> None:
    params = {"model": "bicubic", "decode": "true"}
    response = client.post("/upscale", params=params, files={"image": encode(photo[:50, :60])})
    assert (response.headers["enlarger-codes-before"], response.headers["enlarger-codes-after"]) == ("", "")


def test_a_result_too_large_to_be_read_first_is_refused(client: httpx.Client) -> None:
    data = encode(np.zeros((600, 600, 3), np.uint8))
    response = client.post("/upscale", params={"model": "bicubic", "decode": "true"}, files={"image": data})
    assert (response.status_code, response.json()["code"]) == (422, "too_many_pixels")
    assert (response.json()["limit"], response.json()["actual"]) == (4_000_000, 2400 * 2400)


def test_without_a_reader_decoding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "AVAILABLE", False)
    with pytest.raises(codes.CodesUnavailableError, match=r"enlarger\[codes\]"):
        codes.check_readable(10, 10)


def test_any_text_fits_into_a_header() -> None:
    assert header_value(["a, b", "ü\n"]) == "a%2C%20b, %C3%BC%0A"
    assert header_value([]) == ""


@pytest.mark.parametrize(
    "found",
    [["x" * 5000] * 20, ["ü" * 5000], ["ab"] * 500, ["x" * 630, "y" * 9], ["😀" * 3 + "x" * 590, "y" * 50]],
    ids=["long", "long when encoded", "many", "at the limit", "cut in a character"],
)
def test_more_than_fits_is_cut_between_characters(found: list[str]) -> None:
    value = header_value(found)
    assert codes.MAX_HEADER - 40 < len(value) <= codes.MAX_HEADER
    told = [unquote(text, errors="strict") for text in value.split(", ")]
    assert told[-1].endswith("…")
    whole, last = told[:-1], told[-1].removesuffix("…")
    assert whole == found[: len(whole)]
    assert found[len(whole)].startswith(last) or last == found[len(whole)]


def test_what_fits_exactly_is_not_cut() -> None:
    for text in ("x" * (codes.MAX_HEADER - 9), "ü" * 105):
        assert unquote(header_value([text])) == text


def test_the_headers_of_a_picture_fit_the_buffer_of_a_proxy(client: httpx.Client) -> None:
    """nginx takes a page of memory for all of them together, by default 4 KiB: the most codes, the longest name."""
    code = zxingcpp.create_barcode("\x01ü" * 900, zxingcpp.BarcodeFormat.QRCode)
    pixels = np.asarray(zxingcpp.write_barcode_to_image(code, scale=4))
    files = {"image": ("\U0001f600" * 300 + ".png", encode(pixels))}
    params = {"model": "bicubic", "scale": "2", "decode": "true", "format": "png"}
    response = client.post("/upscale", params=params, files=files)
    assert response.status_code == 200, response.text
    assert len(response.headers["enlarger-codes-before"]) > 600
    assert len(response.headers["enlarger-codes-after"]) > 600
    assert sum(len(name) + len(value) + 4 for name, value in response.headers.raw) < 4000


@pytest.mark.parametrize(("depth", "gray"), [(16, True), (16, False), (8, True)])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_codes_are_read_at_every_depth(client: httpx.Client, depth: int, gray: bool, format: str) -> None:
    """The result is of that depth, and read in it as in one of 8 bits."""
    content, data = small_code()
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("L" if gray else "RGB"))
    params = {"model": "bicubic", "decode": "true", "format": format, "depth": str(depth)}
    response = client.post("/upscale", params=params, files={"image": encode(pixels)})
    assert response.status_code == 200, response.text
    assert response.headers["enlarger-codes-after"] == response.headers["enlarger-codes-before"]
    assert response.headers["enlarger-codes-after"] == header_value([content])
