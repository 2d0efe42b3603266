"""The cards are what the manifest says, one for every model that is shipped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.inference.zoo import GeneratorSpec, ModelFile, ModelSpec, load_zoo
from harness import MODELS
from training.__main__ import main
from training.report.cards import card, duration
from training.report.evaluate_qr import zxing
from training.report.sample import CODE_CONTENT, sample_code

ZOO = load_zoo(MODELS)


@pytest.fixture
def spec() -> ModelSpec:
    return replace(
        ZOO.find("fast", 4),
        training={
            "steps": 32_000,
            "of_steps": 40_000,
            "seed": 7,
            "machines": ["2 cores of a CPU", "1 x a GPU"],
            "seconds": 4_830,
            "log": [{"step": 100, "loss": 0.04}, {"step": 32_000, "loss": 0.003, "psnr_y": 28.2}],
            "something_new": 1.5,
        },
        files={
            "fp32": ModelFile("fast-x4.onnx", "a" * 64, 12_345, {"Set5": {"psnr_y": 31.156, "ssim_y": 0.8788}}),
            "int8": ModelFile("fast-x4.int8.onnx", "b" * 64, 999, {"Set5": {"psnr_y": 31.1}, "B100": {"psnr_y": 27.2}}),
        },
    )


@pytest.mark.parametrize("shipped", [*ZOO.models, *ZOO.generators], ids=lambda spec: spec.title)
def test_every_shipped_model_has_its_card_as_the_manifest_is_now(shipped: ModelSpec | GeneratorSpec) -> None:
    path = MODELS / "cards" / f"{shipped.title}.md"
    assert path.read_text(encoding="utf-8") == card(shipped, f"{shipped.title}.webp"), (
        f"python -m training card {shipped.title}"
    )
    picture = path.with_suffix(".webp")
    assert picture.stat().st_size < 60_000
    with Image.open(picture) as image:
        assert image.width > 300


def test_no_card_is_left_of_a_model_that_is_gone() -> None:
    assert {path.stem for path in (MODELS / "cards").iterdir()} == {spec.title for spec in (*ZOO, *ZOO.generators)}


def test_a_card_tells_every_fact_of_the_manifest(spec: ModelSpec) -> None:
    lines = card(spec, "fast-x4.webp").splitlines()
    for line in (
        "# fast-x4",
        spec.summary,
        "| parameters | 70,256 |",
        "| recipe | [fast-x4.toml](../../training/recipes/fast-x4.toml) |",
        "| licence of the weights | Apache-2.0 |",
        f"| fp32 | `fast-x4.onnx` | 12,345 | `{'a' * 64}` |",
        f"| int8 | `fast-x4.int8.onnx` | 999 | `{'b' * 64}` |",
        "| fp32 | 31.16 / 0.8788 | - |",
        "| int8 | 31.10 / - | 27.20 / - |",
        "| steps | 32,000 of 40,000 |",
        "| seed | 7 |",
        "| time | 1 h 20 min |",
        "| machine | 2 cores of a CPU, 1 x a GPU |",
        "| something new | 1.5 |",
        "| 100 | 0.04 |  |",
        "| 32,000 | 0.003 | 28.2 |",
    ):
        assert line in lines, line
    assert (MODELS / "cards" / "../../training/recipes/fast-x4.toml").resolve().is_file()


def test_a_card_leaves_out_what_is_not_known(spec: ModelSpec) -> None:
    files = {"fp32": replace(spec.files["fp32"], metrics={})}
    text = card(replace(spec, files=files, training={}, recipe="import-model"), "fast-x4.webp")
    assert "## Quality" not in text
    assert "## Training" not in text
    assert "| recipe | import-model |" in text
    assert "Not trained" in card(replace(spec, training={"steps": 0}), "fast-x4.webp")


def test_a_generators_card_tells_what_it_draws_and_what_the_judge_says() -> None:
    judged = {"samples": 10_000, "sure": 0.9412, "rarest_class": 0.0712, "frechet": 3.25, "judge_accuracy": 0.9931}
    spec = GeneratorSpec(
        name="digits",
        architecture="gan-conv",
        latent=100,
        height=28,
        width=28,
        channels=1,
        parameters=1_234_567,
        macs=14_726_656,
        summary="Digits.",
        licence="Apache-2.0",
        recipe="training/digits/recipes/digits-dcgan.toml",
        training={"steps": 10_000, "of_steps": 10_000, "seed": 1},
        files={"fp32": ModelFile("digits.onnx", "c" * 64, 777, {"test digits": judged})},
    )
    lines = card(spec, "digits.webp").splitlines()
    for line in (
        "# digits",
        "![what digits draws](digits.webp)",
        "| picture | 28 x 28 x 1 |",
        "| latent numbers | 100 |",
        "| multiply-accumulates per picture | 14,726,656 |",
        "| recipe | [digits-dcgan.toml](../../training/digits/recipes/digits-dcgan.toml) |",
        "| share that the judge classes with a confidence over 0.9 | 0.9412 |",
        "| share of the rarest class | 0.0712 |",
        "| steps | 10,000 of 10,000 |",
    ):
        assert line in lines, line


def test_the_card_of_a_network_for_codes_shows_a_code_and_how_many_are_read(spec: ModelSpec) -> None:
    read = {"500 small codes": {"codes_read": 0.996, "codes_wrong": 0}}
    files = {"fp32": replace(spec.files["fp32"], metrics=read)}
    coded = replace(spec, name="qr", training={"steps": 10, "degradation": "codes"}, files=files)
    text = card(coded, "qr-x4.webp")
    assert "![LR, bicubic, qr and the original, a QR code](qr-x4.webp)" in text
    assert "| fp32 | 0.996 / 0 |" in text
    assert "bicubic LR" not in text
    lr, hr = sample_code(4)
    assert hr.shape == (4 * lr.shape[0], 4 * lr.shape[1], 3)
    assert zxing(hr) == [CODE_CONTENT]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 0 s"), (144, "2 min 24 s"), (7_260, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_command_writes_the_cards_of_the_models_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((MODELS / "manifest.json").read_text())
    manifest["models"] = [entry for entry in manifest["models"] if entry["name"] == "espcn"]
    manifest["generators"] = []
    manifest["default"] = "espcn"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "espcn-x4.onnx").write_bytes((MODELS / "espcn-x4.onnx").read_bytes())
    assert main(["card", "espcn-x4", "--models", str(tmp_path)]) == 0
    written = tmp_path / "cards" / "espcn-x4.md"
    assert capsys.readouterr().out == f"{written}\n"
    assert written.read_text(encoding="utf-8") == card(ZOO.find("espcn", 4), "espcn-x4.webp")
    assert main(["card", "nonsense", "--models", str(tmp_path)]) == 2
    assert "no model is called nonsense" in capsys.readouterr().err
