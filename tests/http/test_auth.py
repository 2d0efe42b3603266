"""Keys, and the headers of every answer."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from app.settings import Settings
from harness.pictures import encode
from harness.server import Server, quick_server

BICUBIC = {"model": "bicubic", "scale": "2", "format": "png"}
KEYS = ("first-key", "second-key-ü")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with quick_server(api_keys='["first-key", "second-key-ü"]', cors_origins='["https://example.org"]') as server:
        yield server


@pytest.fixture(scope="module")
def image() -> bytes:
    return encode(np.zeros((10, 10, 3), np.uint8))


def post(server: Server, image: bytes, headers: dict[str, str]) -> httpx.Response:
    raw = {name: value.encode() for name, value in headers.items()}
    return httpx.post(f"{server.url}/upscale", content=image, params=BICUBIC, headers=raw, timeout=60)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
def test_every_key_opens(guarded: Server, image: bytes, name: str, key: str) -> None:
    if not key.isascii():
        key = key.encode().decode("latin-1")  # header bytes are told to the application as Latin-1
    value = f"Bearer {key}" if name == "Authorization" else key
    response = httpx.post(
        f"{guarded.url}/upscale", content=image, params=BICUBIC, headers={name: value.encode("latin-1")}, timeout=60
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer first-ke"}, {"Authorization": "Basic first-key"}, {"X-API-Key": ""}],
    ids=["none", "nearly", "another scheme", "empty"],
)
def test_nothing_else_does(guarded: Server, image: bytes, headers: dict[str, str]) -> None:
    response = post(guarded, image, headers)
    assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
    assert (response.json()["code"], response.headers["www-authenticate"]) == ("unauthorized", "Bearer")
    assert response.json()["request_id"] == response.headers["x-request-id"]


OPEN = ("/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/", "/page/page.js", "/page/page.css")


def test_health_documents_and_pages_are_open(guarded: Server) -> None:
    for path in OPEN:
        assert httpx.get(f"{guarded.url}{path}", timeout=60).status_code == 200, path


def test_every_other_route_of_the_api_wants_a_key(guarded: Server) -> None:
    """Whatever routes there are, by the service's own list, and paths that are none."""
    told = httpx.get(f"{guarded.url}/openapi.json", timeout=60).json()["paths"]
    asked = [(method, path.replace("{name}", "fast")) for path, methods in told.items() for method in methods]
    assert len(asked) > 6
    others = [("get", "/nowhere"), ("put", "/page"), ("get", "/models/"), ("get", "/Healthz"), ("get", "/healthz/")]
    for method, path in [*asked, *others]:
        if path in OPEN:
            continue
        answer = httpx.request(method, f"{guarded.url}{path}", timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
    key = {"X-API-Key": "first-key"}
    for path in ("/models", "/models/fast", "/metrics"):
        assert httpx.get(f"{guarded.url}{path}", headers=key, timeout=60).status_code == 200, path


def test_keys_may_stand_with_commas_between(image: bytes) -> None:
    settings = Settings(api_keys="one,two")
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert Settings(api_keys='["a,b"]').api_keys[0].get_secret_value() == "a,b"


def test_a_refusal_is_readable_across_origins(guarded: Server, image: bytes) -> None:
    response = post(guarded, image, {"Origin": "https://example.org"})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == "https://example.org"


def test_every_answer_tells_browsers_to_be_careful(guarded: Server, image: bytes) -> None:
    key = {"X-API-Key": "first-key"}
    answers = [httpx.get(f"{guarded.url}/nowhere"), post(guarded, image, {}), post(guarded, image, key)]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_no_key_is_in_the_log(guarded: Server, image: bytes) -> None:
    post(guarded, image, {"X-API-Key": "first-key", "X-Request-Id": "with-a-key"})
    guarded.wait_until(lambda: "id=with-a-key" in guarded.log())
    assert "first-key" not in guarded.log()
