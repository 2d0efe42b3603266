"""``--strength``: on this machine, by a service with and without jobs, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from app.upscale.parameters import UpscaleParameters
from app.upscale.upscaler import Upscaler
from harness.pictures import decoded, encode
from harness.server import running_server
from tests.support.adjustable import NAME, strength_in, write_adjustable

TIMES_2 = ("--scale", "2", "--format", "png")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adjustable(tmp_path_factory.mktemp("adjustable"))


@pytest.fixture
def folder(models: Path, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder of images, on a machine with these networks."""
    monkeypatch.setenv("ENLARGER_MODELS", str(models))
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a", "b")):
        (tmp_path / "in" / f"{name}.png").write_bytes(encode(pixels + number))
    return tmp_path


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(50, 200, (30, 40, 3)).astype(np.uint8)


def strengths(folder: Path, pixels: np.ndarray) -> list[float]:
    results = [decoded(path.read_bytes()) for path in sorted(folder.iterdir())]
    return [strength_in(pixels + number, result) for number, result in enumerate(results)]


@pytest.mark.parametrize(("given", "expected"), [(("--strength", "0.4"), 0.4), (("--strength", "0"), 0.0), ((), 1.0)])
def test_every_image_gets_it(folder: Path, pixels: np.ndarray, given: tuple[str, ...], expected: float) -> None:
    assert main([str(folder / "in"), "-o", str(folder / "out"), *TIMES_2, *given]) == 0
    assert strengths(folder / "out", pixels) == pytest.approx([expected] * 2, abs=0.02)


@pytest.mark.parametrize("keeps_jobs", [True, False])
def test_a_remote_service_gets_it(folder: Path, models: Path, pixels: np.ndarray, keeps_jobs: bool) -> None:
    jobs = {"jobs": str(folder / "jobs")} if keeps_jobs else {}
    with running_server(models=str(models), **jobs) as server:
        for strength in (0.25, 0.75):
            out = folder / f"out-{strength}"
            command = [str(folder / "in"), "-o", str(out), "--remote", server.url, "--strength", str(strength)]
            assert main([*command, *TIMES_2]) == 0
            assert strengths(out, pixels) == pytest.approx([strength] * 2, abs=0.02)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("1.5",), "strength: Input should be less than or equal to 1."),
        (("nan",), "strength: Input should be a finite number."),
        (("0.5", "--model", "nearest"), "strength: nearest-x2 has none; networks that have one: adjustable-x2."),
    ],
)
def test_what_is_refused_is_told_before_the_first_image(
    folder: Path, given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder / "in"), "-o", str(folder / "out"), "--strength", *given]) == 2
    assert capsys.readouterr().err.strip() == f"enlarger: {message}"
    assert not (folder / "out").exists()


def test_the_list_of_networks_tells_which_have_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert (lines[NAME][-6:], lines["nearest"][-1:], lines["model"][-8:]) == ("0 to 1", "-", "strength")


def test_python_users_give_it_as_a_parameter(models: Path, pixels: np.ndarray) -> None:
    with Upscaler.load(models, provider="cpu") as upscaler:
        image = upscaler.open(encode(pixels))
        for strength in (0.0, 0.5):
            plan = upscaler.plan(image, UpscaleParameters(scale=2, strength=strength, format="png"))
            assert (plan.strength, plan.has_strength) == (strength, True)
            result = decoded(b"".join(upscaler.run(upscaler.decode(image, plan))))
            assert strength_in(pixels, result) == pytest.approx(strength, abs=0.02)
