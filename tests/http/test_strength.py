"""``strength`` over HTTP: a real server with a network whose result tells how strong it was."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile

from harness.fakes import PATIENCE
from harness.pictures import decoded, encode
from harness.server import Server, running_server
from tests.support.adjustable import SCALE, adjusted, strength_in, write_adjustable

ASKED = {"scale": SCALE, "format": "png"}
PNG = {"content-type": "image/png"}
KNOWN = "networks that have one: adjustable-x2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adjustable(tmp_path_factory.mktemp("adjustable"))


@pytest.fixture(scope="module")
def adjustable(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It keeps jobs, and its tiles are small."""
    jobs = str(tmp_path_factory.mktemp("jobs"))
    with running_server(models=str(folder), jobs=jobs, tile_pixels="4096") as server:
        yield server


@pytest.fixture(scope="module")
def ours(adjustable: Server) -> Iterator[httpx.Client]:
    with adjustable.client() as client:
        yield client


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(50, 200, (150, 170, 3), np.uint8)


def upscale(client: httpx.Client, image: bytes, **parameters: object) -> httpx.Response:
    return client.post("/upscale", params={**ASKED, **parameters}, content=image)


# -- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0, 0.004, 0.3, 0.5, 1])
def test_the_result_has_it_in_every_tile(ours: httpx.Client, pixels: np.ndarray, strength: float) -> None:
    answer = upscale(ours, encode(pixels), strength=strength)
    assert answer.headers["enlarger-strength"] == f"{strength:g}"
    assert int(answer.headers["enlarger-tiles"]) > 4
    assert np.abs(decoded(answer.content).astype(int) - adjusted(pixels, strength)).max() <= 1


def test_left_out_or_blank_it_is_one(ours: httpx.Client, pixels: np.ndarray) -> None:
    whole = upscale(ours, encode(pixels), strength=1).content
    assert upscale(ours, encode(pixels)).content == whole
    answer = upscale(ours, encode(pixels), strength="")
    assert (answer.content, answer.headers["enlarger-strength"]) == (whole, "1")


def test_a_form_has_it_and_takes_precedence(ours: httpx.Client, pixels: np.ndarray) -> None:
    files = {"image": ("a.png", encode(pixels))}
    answer = ours.post("/upscale", params={**ASKED, "strength": 1}, data={"strength": "0.25"}, files=files)
    assert strength_in(pixels, decoded(answer.content)) == pytest.approx(0.25, abs=0.02)


def test_two_networks_in_sequence_have_the_same(ours: httpx.Client, pixels: np.ndarray) -> None:
    answer = upscale(ours, encode(pixels), scale=4, strength=0.25)
    assert answer.headers["enlarger-model"] == "adjustable-x2, adjustable-x2"
    between = adjusted(pixels, 0.25).astype(np.uint8)
    assert np.abs(decoded(answer.content).astype(int) - adjusted(between, 0.25)).max() <= 2


def test_transparency_and_16_bits_have_the_same(ours: httpx.Client, pixels: np.ndarray) -> None:
    alpha = np.where(np.arange(150)[:, None] < 75, 60, 180).repeat(170, 1).astype(np.uint8)[..., None]
    results = [
        decoded(upscale(ours, encode(np.concatenate([pixels, alpha], axis=2)), strength=strength).content)
        for strength in (0, 1)
    ]
    assert strength_in(pixels, results[1][..., :3]) == pytest.approx(1, abs=0.02)
    edge = slice(2 * 74, 2 * 76)  # elsewhere alpha has one level, which its surroundings clip it to
    assert (results[0][edge, :, 3] != results[1][edge, :, 3]).any()
    deep = tifffile.imread(io.BytesIO(upscale(ours, encode(pixels), strength=0.25, depth=16, format="tiff").content))
    assert deep.dtype == np.uint16
    assert strength_in(pixels, deep / 257) == pytest.approx(0.25, abs=0.01)


# -- what is refused, and what is told -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("-0.1", "strength: Input should be greater than or equal to 0"),
        ("1.01", "strength: Input should be less than or equal to 1"),
        ("nan", "strength: Input should be a finite number"),
        ("inf", "strength: Input should be a finite number"),
        ("much", "strength: Input should be a valid number"),
    ],
)
@pytest.mark.parametrize("route", ["/upscale", "/estimate", "/jobs"])
def test_what_is_no_strength_is_refused(
    ours: httpx.Client, pixels: np.ndarray, route: str, given: str, message: str
) -> None:
    for options in ({"params": {"strength": given}}, {"data": {"strength": given}}):
        answer = ours.post(route, files={"image": ("a.png", encode(pixels))}, **options)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "invalid_parameter"
        assert message in answer.json()["detail"]


@pytest.mark.parametrize("route", ["/upscale", "/estimate", "/jobs"])
def test_a_network_without_one_refuses_it_and_names_those_that_have_one(
    ours: httpx.Client, pixels: np.ndarray, route: str
) -> None:
    answer = ours.post(route, params={"model": "nearest", "strength": 0.5}, files={"image": ("a.png", encode(pixels))})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert answer.json()["detail"] == f"strength: nearest-x2 has none; {KNOWN}."
    answer = upscale(ours, encode(pixels), model="nearest")
    assert "enlarger-strength" not in answer.headers


def test_a_shipped_zoo_without_one_says_so(client: httpx.Client, pixels: np.ndarray) -> None:
    answer = client.post("/upscale", params={"model": "bicubic", "strength": 0}, content=encode(pixels))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("strength: bicubic-x4 has none; networks that have one: ")


def test_the_catalogue_and_the_estimate_tell_it(ours: httpx.Client, pixels: np.ndarray) -> None:
    menu = {each["name"]: each for each in ours.get("/models").json()["models"]}
    assert menu["adjustable"]["strength"] == {"min": 0, "max": 1, "default": 1}
    assert menu["nearest"]["strength"] is None
    assert [scale["strength"] for name in ("adjustable", "nearest") for scale in menu[name]["scales"]] == [True, False]

    def told(**parameters: object) -> object:
        return ours.post("/estimate", params={**ASKED, **parameters}, content=encode(pixels)).json()["strength"]

    assert [told(strength=0.4), told(), told(model="nearest")] == [0.4, 1, None]


def test_the_openapi_document_has_it(ours: httpx.Client) -> None:
    document = ours.get("/openapi.json").json()
    for route in ("/upscale", "/estimate"):
        (parameter,) = [each for each in document["paths"][route]["post"]["parameters"] if each["name"] == "strength"]
        kinds = {kind["type"]: kind for kind in parameter["schema"]["anyOf"]}
        assert (kinds["number"]["minimum"], kinds["number"]["maximum"]) == (0, 1)
    assert "Enlarger-Strength" in document["paths"]["/upscale"]["post"]["responses"]["200"]["headers"]


# -- together ----------------------------------------------------------------------------------------------------------


def test_jobs_of_one_batch_have_each_their_own(adjustable: Server, ours: httpx.Client, pixels: np.ndarray) -> None:
    strengths = (0.0, 0.2, 0.7, 1.0)
    jobs = [
        ours.post("/jobs", params={**ASKED, "strength": strength}, headers=PNG, content=encode(pixels)).json()
        for strength in strengths
    ]
    for job, strength in zip(jobs, strengths, strict=True):
        server_side = partial(ours.get, job["urls"]["get"])
        adjustable.wait_until(lambda get=server_side: get().json()["status"] == "succeeded", seconds=PATIENCE)
        answer = ours.get(job["urls"]["result"])
        assert answer.headers["enlarger-strength"] == f"{strength:g}"
        assert strength_in(pixels, decoded(answer.content)) == pytest.approx(strength, abs=0.02)


def test_a_request_with_another_strength_is_another_one(ours: httpx.Client) -> None:
    def ask(strength: float) -> httpx.Response:
        headers = {**PNG, "idempotency-key": "adjustable"}
        image = encode(np.full((8, 8, 3), 120, np.uint8))
        return ours.post("/jobs", params={**ASKED, "strength": strength}, headers=headers, content=image)

    first = ask(0.3)
    assert (first.status_code, ask(0.3).json()["id"]) == (202, first.json()["id"])
    other = ask(0.4)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_deferred_request_keeps_it(ours: httpx.Client, pixels: np.ndarray) -> None:
    parameters = {**ASKED, "strength": 0.3}
    headers = {**PNG, "prefer": "respond-async, wait=60"}
    answer = ours.post("/upscale", params=parameters, headers=headers, content=encode(pixels))
    assert answer.status_code == 200
    assert strength_in(pixels, decoded(answer.content)) == pytest.approx(0.3, abs=0.02)


# The service on one lane and with a GPU's batches; a window whose last pixel is (1, 2, 3) is held until the gate opens.
BATCHING = """
import sys, time
from pathlib import Path
from app.inference.engine import Engine
from app.inference.turns import Turns
from app.main import serve
from app.settings import Settings

gate, load, run, queue = Path(sys.argv[1]), Engine._load, Engine.run, Turns.queue

def batching(engine):
    engine.batch_macs, engine.shares_cores = 10**12, False
    return load(engine)

def say(line):
    sys.stdout.write(line + "\\n")  # one call, for several threads
    sys.stdout.flush()

def told(turns, entry, now):
    queue(turns, entry, now)
    say("queued")

def held(engine, spec, windows, strengths):
    say(f"batch {sorted(strengths)}")
    while tuple(windows[0][-1, -1].tolist()) == (1, 2, 3) and not gate.exists():
        time.sleep(0.01)
    return run(engine, spec, windows, strengths)

Engine._load, Engine.run, Turns.queue = batching, held, told
serve(Settings(port=0))
"""


def test_two_requests_of_different_strengths_share_a_batch(folder: Path, tmp_path: Path) -> None:
    gate, small = tmp_path / "gate", np.full((20, 20, 3), 120, np.uint8)
    with (
        running_server(("-c", BATCHING, str(gate)), models=str(folder)) as server,
        server.client() as client,
        ThreadPoolExecutor(3) as pool,
    ):
        holding = pool.submit(upscale, client, encode(np.full((20, 30, 3), (1, 2, 3), np.uint8)), strength=0.5)
        server.wait_until(lambda: "batch [0.5]" in server.log(), seconds=PATIENCE)
        asked = [pool.submit(upscale, client, encode(small), strength=strength) for strength in (0.2, 0.8)]
        server.wait_until(lambda: server.log().count("queued\n") == 3, seconds=PATIENCE)
        gate.touch()
        results = [decoded(each.result().content) for each in asked]
        assert holding.result().status_code == 200
        assert "batch [0.2, 0.8]" in server.log()
    assert [round(strength_in(small, result), 1) for result in results] == [0.2, 0.8]
