"""``model=auto`` over HTTP: a real server with real networks says what it took, and why."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from harness.files import saved
from harness.pictures import decoded, encode
from harness.server import Server, quick_server, running_server
from tests.http.test_jobs import PNG, wait
from tests.support.auto import drawing, noisy, page, photograph, png, spoiled
from tests.support.nearest import write_models

SMALL = photograph(96)
KINDS = {
    "a photograph as PNG": (png(SMALL), "balanced", "clean"),
    "a photograph as JPEG": (saved(SMALL, "JPEG", quality=60), "photo", "spoiled"),
    "a drawing": (png(drawing(120, 100)), "art", "drawn"),
    "a screenshot": (png(page(160, 120)), "art", "drawn"),
}


def enlarge(client: httpx.Client, data: bytes, **asked: object) -> httpx.Response:
    return client.post("/upscale", content=data, params={"format": "png", **asked})


@pytest.fixture(scope="module")
def quick() -> Iterator[Server]:
    with quick_server() as running:
        yield running


@pytest.fixture(scope="module")
def artful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With ``art``, which repeats pixels."""
    folder = write_models(tmp_path_factory.mktemp("artful"), "fast-x4", "espcn-x4", name="art", scale=4)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"default": "fast"}))
    with running_server(models=str(folder)) as running:
        yield running


@pytest.mark.parametrize("name", KINDS)
def test_it_is_the_default_and_tells_what_it_took(client: httpx.Client, name: str) -> None:
    data, model, kind = KINDS[name]
    answer = enlarge(client, data)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Enlarger-Model"] == f"{model}-x4"
    assert answer.headers["Enlarger-Choice"].startswith(f'{model};reason="')
    fitted = {"strength": value} if (value := answer.headers.get("Enlarger-Strength")) else {}
    assert bool(fitted) == (model == "photo")
    by_name = enlarge(client, data, model=model, **fitted)
    assert "Enlarger-Choice" not in by_name.headers
    np.testing.assert_array_equal(decoded(answer.content), decoded(by_name.content))
    estimate = client.post("/estimate", content=data).json()
    assert estimate["strength"] == (float(fitted["strength"]) if fitted else None)
    assert estimate["models"] == [f"{model}-x4"]
    assert (estimate["choice"]["model"], estimate["choice"]["kind"]) == (model, kind)
    assert answer.headers["Enlarger-Choice"] == f'{model};reason="{estimate["choice"]["reason"]}"'
    assert client.post("/estimate", content=data, params={"model": model}).json()["choice"] is None


@pytest.mark.parametrize("scale", [2, 3])
def test_a_scale_that_one_network_has_needs_no_look(client: httpx.Client, scale: int) -> None:
    answer = enlarge(client, spoiled(), scale=scale)
    taken = answer.headers["Enlarger-Model"].split("-")[0]
    assert f"{taken}-x{scale}" == answer.headers["Enlarger-Model"]
    scales = {
        model["name"]: {each["scale"] for each in model["scales"]} for model in client.get("/models").json()["models"]
    }
    assert taken == ("photo" if scale in scales["photo"] else "balanced")


def test_drawings_are_art_where_there_is_art(artful: Server) -> None:
    with artful.client() as client:
        for image in (drawing(120, 100), page(160, 120)):
            answer = enlarge(client, png(image))
            assert answer.headers["Enlarger-Model"] == "art-x4"
            repeated = np.asarray(image).repeat(4, 0).repeat(4, 1)
            np.testing.assert_array_equal(decoded(answer.content), repeated)
        assert enlarge(client, KINDS["a photograph as PNG"][0]).headers["Enlarger-Model"] == "fast-x4"
        told = enlarge(client, spoiled()).headers
        assert told["Enlarger-Model"] == "fast-x4"
        assert "photo is not available" in told["Enlarger-Choice"]
        takes = {each["kind"]: each["model"] for each in client.get("/models").json()["auto"]["takes"]}
        assert takes == {"clean": "fast", "spoiled": "fast", "drawn": "art"}


def test_a_folder_without_the_networks_serves_its_default(quick: Server) -> None:
    with quick.client() as client:
        assert client.get("/models").json()["default"] == "auto"
        for data, _, _ in KINDS.values():
            answer = enlarge(client, data)
            assert answer.headers["Enlarger-Model"] == "bicubic-x4"
            assert answer.headers["Enlarger-Choice"].startswith("bicubic;reason=")


def test_the_default_may_be_a_networks_name() -> None:
    with quick_server(default_model="espcn") as running, running.client() as client:
        assert client.get("/models").json()["default"] == "espcn"
        assert not client.get("/models/auto").json()["default"]
        answer = enlarge(client, png(SMALL))
        assert (answer.headers["Enlarger-Model"], answer.headers.get("Enlarger-Choice")) == ("espcn-x4", None)
        assert enlarge(client, png(SMALL), model="auto").headers["Enlarger-Model"] == "bicubic-x4"


OTHER = {
    "16 bits": encode(np.asarray(SMALL.convert("L")).astype(np.uint16) * 257),
    "gray": encode(np.asarray(SMALL.convert("L"))),
    "alpha": encode(np.dstack([np.asarray(SMALL), np.full((96, 96), 200, np.uint8)])),
    "palette": png(drawing(120, 100).quantize(16)),
    "GIF": saved(drawing(120, 100), "GIF"),
    "TIFF": saved(SMALL, "TIFF"),
    "BMP": saved(SMALL, "BMP"),
    "WebP": saved(SMALL, "WEBP"),
    "AVIF": saved(SMALL, "AVIF"),
    "CMYK": saved(SMALL.convert("CMYK"), "JPEG"),
    "one pixel": encode(np.zeros((1, 1, 3), np.uint8)),
    "a panorama": encode(np.zeros((20, 6000, 3), np.uint8)),
    "a line": encode(np.zeros((1, 3000, 3), np.uint8)),
    "noise": noisy(),
}


@pytest.mark.parametrize("name", OTHER)
def test_the_estimate_is_of_what_is_then_taken(client: httpx.Client, name: str) -> None:
    answer = enlarge(client, OTHER[name])
    assert answer.status_code == 200, answer.text
    estimate = client.post("/estimate", content=OTHER[name], params={"format": "png"}).json()
    assert [answer.headers["Enlarger-Model"]] == estimate["models"]
    choice = estimate["choice"]
    assert answer.headers["Enlarger-Choice"] == f'{choice["model"]};reason="{choice["reason"]}"'
    assert answer.headers["Enlarger-Output-Size"] == f"{estimate['width']}x{estimate['height']}"


def test_what_is_damaged_has_the_same_error_as_ever(client: httpx.Client) -> None:
    whole = spoiled()
    for data in (whole[:-2000], b"", b"GIF89a", whole[:300], b"\x89PNG\r\n\x1a\n" + bytes(50)):
        by_name = enlarge(client, data, model="balanced").json()
        for answer in (enlarge(client, data), client.post("/estimate", content=data)):
            assert (answer.json()["code"], answer.json()["status"]) == (by_name["code"], by_name["status"])


def test_what_is_impossible_is_refused_with_auto_as_by_name(client: httpx.Client) -> None:
    for asked in ({"scale": 9}, {"depth": 16, "format": "jpeg"}, {"width": 3}, {"model": "autos"}):
        answer = enlarge(client, KINDS["a drawing"][0], **asked)
        by_name = enlarge(client, KINDS["a drawing"][0], **{"model": "balanced", **asked})
        assert answer.status_code >= 400, asked
        assert (answer.status_code, answer.json()["code"]) == (by_name.status_code, by_name.json()["code"])


def test_jobs_take_the_same_and_say_so(tmp_path: Path) -> None:
    models = write_models(tmp_path, "espcn-x4", name="photo", scale=4)
    manifest = json.loads((models / "manifest.json").read_text())
    (models / "manifest.json").write_text(json.dumps(manifest | {"default": "espcn"}))
    with running_server(models=str(models), jobs=str(tmp_path / "jobs")) as running, running.client() as client:
        for data, model in ((spoiled(), "photo"), (png(SMALL), "espcn")):
            job = client.post("/jobs", content=data, headers=PNG).json()
            assert (job["model"], job["choice"]) == (None, None)
            done = wait(client, job)
            assert (done["status"], done["model"]) == ("succeeded", f"{model}-x4")
            direct = client.post("/upscale", content=data)
            assert done["choice"] == direct.headers["Enlarger-Choice"]
            result = client.get(done["urls"]["result"])
            assert result.headers["Enlarger-Choice"] == done["choice"]
            assert result.content == direct.content
        named = client.post("/jobs", content=spoiled(), headers=PNG, params={"model": "espcn"}).json()
        assert wait(client, named)["choice"] is None
