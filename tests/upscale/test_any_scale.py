"""Any scale from 1 to 8, a size in place of it, and what it would take: through the real server."""

import httpx
import numpy as np
import pytest

from app.errors import InvalidParameterError, UnknownModelError, UnknownScaleError
from app.inference.zoo import load_zoo
from app.upscale.parameters import UpscaleParameters
from harness import MODELS
from harness.fakes import noise
from harness.pictures import decoded, encode

ZOO = load_zoo(MODELS)
PICTURE = noise(60, 90, 3)  # height 60, width 90


def post(client: httpx.Client, path: str = "/upscale", **parameters: object) -> httpx.Response:
    body, headers = encode(PICTURE), {"Content-Type": "image/png"}
    return client.post(path, params={"model": "bicubic", **parameters}, content=body, headers=headers)


@pytest.mark.parametrize(
    ("parameters", "size", "models"),
    [
        ({}, (240, 360), "bicubic-x4"),
        ({"scale": 1}, (60, 90), "bicubic-x2"),
        ({"scale": 1.5}, (90, 135), "bicubic-x2"),
        ({"scale": 2.37}, (142, 213), "bicubic-x3"),
        ({"scale": 5}, (300, 450), "bicubic-x2, bicubic-x3"),
        ({"scale": 8}, (480, 720), "bicubic-x2, bicubic-x4"),
        ({"width": 200}, (133, 200), "bicubic-x3"),
        ({"height": 240}, (240, 360), "bicubic-x4"),
        ({"width": 200, "height": 100}, (100, 150), "bicubic-x2"),
    ],
    ids=str,
)
def test_the_result_has_the_size_asked_for(
    client: httpx.Client, parameters: dict[str, object], size: tuple[int, int], models: str
) -> None:
    answer = post(client, **parameters)
    assert answer.status_code == 200, answer.text
    assert decoded(answer.content).shape == (*size, 3)
    assert answer.headers["Enlarger-Output-Size"] == f"{size[1]}x{size[0]}"
    assert answer.headers["Enlarger-Model"] == models


@pytest.mark.parametrize(
    "parameters",
    [{"scale": 0.5}, {"scale": 8.01}, {"scale": "nan"}, {"width": 50}, {"width": 2000}, {"scale": 2, "width": 180}],
    ids=str,
)
def test_what_is_no_enlargement_is_refused(client: httpx.Client, parameters: dict[str, object]) -> None:
    answer = post(client, **parameters)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter"), answer.text


def test_a_constant_picture_stays_what_it_is_at_every_scale(client: httpx.Client) -> None:
    gray = encode(np.full((33, 47), 77, np.uint8))
    for scale in (1.1, 2.5, 3.7, 6.2):
        parameters = {"model": "bicubic", "scale": scale}
        answer = client.post("/upscale", params=parameters, content=gray, headers={"Content-Type": "image/png"})
        result = decoded(answer.content)
        assert result.shape == (round(33 * scale), round(47 * scale))
        assert np.unique(result).tolist() == [77]


def test_an_estimate_tells_what_the_request_itself_would(client: httpx.Client) -> None:
    estimate = post(client, "/estimate", scale=6).json()
    answer = post(client, scale=6)
    assert f"{estimate['width']}x{estimate['height']}" == answer.headers["Enlarger-Output-Size"]
    assert ", ".join(estimate["models"]) == answer.headers["Enlarger-Model"]
    assert str(estimate["tiles"]) == answer.headers["Enlarger-Tiles"]
    assert str(estimate["overlap"]) == answer.headers["Enlarger-Overlap"]
    assert estimate["seconds"] > 0
    assert estimate["queue_seconds"] >= 0


def test_an_estimate_of_what_would_be_refused_is_refused(client: httpx.Client) -> None:
    assert post(client, "/estimate", scale=9).status_code == 422
    broken = client.post("/estimate", content=b"nothing of the kind", headers={"Content-Type": "image/png"})
    assert broken.status_code == 415


def test_the_nearest_network_that_reaches_is_taken_else_the_cheapest_two() -> None:
    titles = [spec.title for spec in ZOO.passes("bicubic", 1.2, 2.4)]
    assert titles == ["bicubic-x3"]
    pairs = {factor: [spec.scale for spec in ZOO.passes("bicubic", factor, 1)] for factor in (4.1, 6, 6.5, 9, 16)}
    assert pairs == {4.1: [2, 3], 6: [2, 3], 6.5: [2, 4], 9: [3, 3], 16: [4, 4]}


def test_what_no_two_networks_reach_or_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownScaleError) as refused:
        ZOO.passes("bicubic", 17, 1)
    assert refused.value.limit == 16
    with pytest.raises(UnknownModelError):
        ZOO.passes("nobody", 2, 2)


def test_a_size_is_rounded_and_never_less_than_a_pixel() -> None:
    assert UpscaleParameters(scale=1.5).result_size(3, 5) == (4, 8)
    assert UpscaleParameters(width=40).result_size(1, 10) == (4, 40)
    with pytest.raises(InvalidParameterError) as refused:
        UpscaleParameters(height=9).result_size(10, 10)
    assert (refused.value.limit, refused.value.actual) == (8, 0.9)
