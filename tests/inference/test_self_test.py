"""Before the service is ready each network has enlarged a known tile; garbage is recognised."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.errors import SelfTestError
from app.inference.engine import Engine
from app.inference.self_test import MOST_DIFFERENCE, check_known_tile, known_tile
from harness import MODELS
from harness.fakes import nearest
from harness.pictures import encode
from harness.server import QUICK, running_server
from harness.startup import BROKEN
from harness.zoo import small_zoo

TILE = known_tile(64)


def test_every_shipped_network_gives_the_tile_back(engine: Engine) -> None:
    for network in engine.networks.values():
        side, scale = engine.known_tile_side(network.spec), network.spec.scale
        tile = known_tile(side)
        (upscaled,) = engine.run(network.spec, [tile])
        means = upscaled.reshape(side, scale, side, scale, 3).mean(axis=(1, 3))
        difference = np.abs(means - tile).mean()
        assert difference < MOST_DIFFERENCE / 3, f"{network.spec.title}: {difference:.2f}"


def test_pixels_repeated_are_a_picture() -> None:
    check_known_tile("nearest-x3", TILE, nearest(TILE, 3))


GARBAGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "black": np.zeros_like,
    "white": lambda hr: np.full_like(hr, 255),
    "noise": lambda hr: np.random.default_rng(0).integers(0, 256, hr.shape, np.uint8),
    "channels exchanged": lambda hr: hr[:, :, ::-1],
    "upside down": lambda hr: hr[::-1],
    "transposed": lambda hr: hr.transpose(1, 0, 2),
    "another tile": lambda hr: np.roll(hr, hr.shape[0] // 4, axis=0),
    "one tenth of it black": lambda hr: np.where(np.arange(len(hr))[:, None, None] < len(hr) // 10, 0, hr),
    "half as bright": lambda hr: hr // 2,
    "16 bits taken for 8": lambda hr: hr * 3,  # wraps around
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_recognised(kind: str) -> None:
    spoiled = GARBAGE[kind](nearest(TILE, 2)).astype(np.uint8)
    with pytest.raises(SelfTestError, match="nearest-x2: its output is not the image"):
        check_known_tile("nearest-x2", TILE, spoiled)


def test_a_shape_that_is_no_enlargement_is_recognised() -> None:
    with pytest.raises(SelfTestError, match="came out as"):
        check_known_tile("nearest-x2", TILE, nearest(TILE, 2)[:, :-1])


def test_a_provider_that_computes_garbage_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="did not start") as refused, running_server(("-c", BROKEN)):
        pytest.fail(f"it serves {MODELS}")
    assert "its output is not the image that it was given" in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_a_file_changed_under_the_running_service_is_not_run(tmp_path: Path, photo: np.ndarray) -> None:
    models, image = shutil.copytree(small_zoo(*QUICK), tmp_path / "models"), encode(photo[:40, :40])
    with running_server(models=str(models)) as server, server.client() as client:
        assert client.post("/upscale?model=fast&scale=2", content=image).status_code == 200
        for name in ("fast-x2.onnx", "bicubic-x2.onnx"):
            shutil.copy(models / "espcn-x2.onnx", models / name)
        answer = client.post("/upscale?model=bicubic&scale=2", content=image)
        assert (answer.status_code, answer.json()["code"]) == (503, "compute_failed")
        assert "The file of bicubic-x2 has changed since the service was started" in answer.text
        assert str(models) not in answer.text, "of no use to a stranger"
        assert re.search(r"bicubic-x2\.onnx: sha256 is \w+, the manifest says", server.log())
        assert client.post("/upscale?model=fast&scale=2", content=image).status_code == 200, "loaded before"
        assert client.post("/upscale?model=fast&scale=3", content=image).status_code == 200
