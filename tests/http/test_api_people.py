"""What people and front ends meet first: the menu, the document, the snippets, names of files, HEAD, OPTIONS, CORS."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.errors import EnlargerError
from app.http.negotiation import content_disposition
from app.http.openapi import kinds_of
from app.images.encoders import FORMATS
from app.jobs.remote import RemoteError
from harness import ROOT
from harness.pictures import encode
from harness.server import Server, quick_server
from tests.support.browser import Browser

PATHS = ("/", "/healthz", "/readyz", "/models", "/models/bicubic", "/docs", "/openapi.json")
PICTURE = np.full((12, 16, 3), (200, 90, 30), np.uint8)


# -- the menu ----------------------------------------------------------------------------------------------------


def test_the_menu_is_true(client: httpx.Client) -> None:
    """Whatever it offers is there, and what it rules out is refused."""
    menu = client.get("/models").json()
    assert [entry["name"] for entry in menu["formats"]] == list(FORMATS)
    for model in menu["models"]:
        for scale in (menu["scale"]["min"], model["max_scale"]):
            asked = {"model": model["name"], "scale": scale}
            assert client.post("/estimate", content=encode(PICTURE), params=asked).status_code == 200
        assert model["summary"]
        assert all(scale["metrics"] for scale in model["scales"])
    beyond = {"scale": menu["scale"]["max"] + 0.1}
    assert client.post("/estimate", content=encode(PICTURE), params=beyond).status_code == 422


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_of_the_menu_is_what_it_says(client: httpx.Client, name: str) -> None:
    told = next(entry for entry in client.get("/models").json()["formats"] if entry["name"] == name)
    asked = {"model": "bicubic", "scale": 2, "format": name}
    response = client.post("/upscale", content=encode(PICTURE), params=asked)
    assert response.headers["content-type"] == told["media_type"]
    assert response.headers["content-disposition"].endswith(f'-x2{told["extension"]}"')
    deep = client.post("/upscale", content=encode(PICTURE), params={**asked, "depth": 16})
    assert deep.status_code == (200 if told["max_depth"] == 16 else 422)
    lossless = client.post("/upscale", content=encode(PICTURE), params={**asked, "lossless": True})
    assert lossless.status_code == (200 if told["lossless"] else 422)
    if told["max_side"] and told["max_side"] < 100_000:
        wide = encode(np.zeros((1, told["max_side"] // 8 + 1), np.uint8))
        refused = client.post("/upscale", content=wide, params={**asked, "scale": 8}).json()
        assert (refused["code"], refused["limit"]) == ("output_too_large", told["max_side"])


# -- the document ------------------------------------------------------------------------------------------------


def test_every_error_is_in_the_document_with_an_example(client: httpx.Client) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/upscale"]["post"]["responses"]
    kinds = [kind for kind in kinds_of(EnlargerError) if kind is not RemoteError]  # a client's own, never sent
    for kind in [EnlargerError, *kinds]:
        examples = responses[str(kind.status)]["content"]["application/problem+json"]["examples"]
        assert examples[kind.code]["value"]["title"] == kind.title


def test_an_error_has_the_form_the_document_gives_it(client: httpx.Client) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/upscale"]["post"]["responses"]
    answer = client.post("/upscale", content=encode(PICTURE), params={"format": "gif"})
    schema = responses[str(answer.status_code)]["content"]["application/problem+json"]["schema"]
    assert set(schema["required"]) <= set(answer.json()) <= set(schema["properties"])


def test_the_pictures_media_types_and_headers_are_in_the_document(client: httpx.Client) -> None:
    told = client.get("/openapi.json").json()["paths"]["/upscale"]["post"]["responses"]["200"]
    assert set(told["content"]) >= {kind.media_type for kind in FORMATS.values()}
    asked = {"model": "auto", "scale": 2}
    response = client.post("/upscale", content=encode(PICTURE), params=asked)
    sometimes = {"enlarger-strength"}  # of networks that have one
    assert {name.lower() for name in told["headers"]} - sometimes <= set(response.headers)


# -- HEAD, OPTIONS, CORS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_a_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/models":  # whose estimates are measured anew
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/upscale", "POST, OPTIONS"), ("/estimate", "POST, OPTIONS"), ("/models", "GET, HEAD, OPTIONS")],
)
def test_options_tell_the_methods(client: httpx.Client, path: str, allowed: str) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    assert client.options("/nowhere").status_code == 404


def test_no_other_origin_is_let_in_by_default(client: httpx.Client) -> None:
    answer = client.get("/models", headers={"origin": "https://example.org"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_origins_of_the_setting_are_let_in() -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    with quick_server(cors_origins='["https://example.org"]') as server, server.client() as client:
        friend, stranger = {"origin": "https://example.org"}, {"origin": "https://example.com"}
        answer = client.options("/upscale", headers={**friend, **preflight})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == friend["origin"]
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert client.options("/upscale", headers={**stranger, **preflight}).status_code == 400
        asked = {"model": "bicubic", "scale": 2}
        picture = client.post("/upscale", content=encode(PICTURE), params=asked, headers=friend)
        assert picture.headers["access-control-allow-origin"] == friend["origin"]
        problem = client.post("/upscale", content=b"no picture", headers=friend)
        assert problem.headers["access-control-allow-origin"] == friend["origin"]
        assert "access-control-allow-origin" not in client.get("/models", headers=stranger).headers


# -- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upload", "expected"),
    [
        ("photo.jpg", 'inline; filename="photo-x4.png"'),
        ("C:\\pictures\\my photo.old.jpg", 'inline; filename="my photo.old-x4.png"'),
        ("../../etc/passwd", 'inline; filename="passwd-x4.png"'),
        (".hidden", 'inline; filename="hidden-x4.png"'),
        (None, 'inline; filename="picture-x4.png"'),
        ("...", 'inline; filename="picture-x4.png"'),
        ('a"b\r\nX: c.png', "inline; filename=\"a_bX: c-x4.png\"; filename*=UTF-8''a%22bX%3A%20c-x4.png"),
        ("Käse.png", "inline; filename=\"K_se-x4.png\"; filename*=UTF-8''K%C3%A4se-x4.png"),
        ("x" * 300 + ".png", f'inline; filename="{"x" * 100}-x4.png"'),
    ],
)  # fmt: skip
def test_the_result_is_named_after_the_upload(upload: str | None, expected: str) -> None:
    assert content_disposition(upload, "x4", "png") == expected


@pytest.mark.parametrize(
    ("asked", "name"),
    [({"scale": 2}, "cat-x2.jpg"), ({"scale": 1.5, "format": "webp"}, "cat-x1.5.webp"), ({"width": 40}, "cat-40x.jpg")],
)
def test_the_name_is_in_the_response(client: httpx.Client, asked: dict[str, object], name: str) -> None:
    files = {"image": ("cat.jpeg", encode(PICTURE, "JPEG"))}
    response = client.post("/upscale", files=files, params={"model": "bicubic", **asked})
    assert response.headers["content-disposition"] == f'inline; filename="{name}"'


# -- the README's snippets ---------------------------------------------------------------------------------------


def snippet(language: str) -> str:
    """The README's fenced block of that language."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found, f"README.md has no {language} snippet"
    return found[1]


@pytest.mark.parametrize(
    ("language", "command"),
    [("sh", ["sh", "-e", "-c"]), ("python", [sys.executable, "-c"]), ("js", ["node", "--input-type=module", "-e"])],
)
def test_a_snippet_does_what_it_says(server: Server, tmp_path: Path, language: str, command: list[str]) -> None:
    if shutil.which(command[0]) is None or (language == "sh" and shutil.which("curl") is None):
        pytest.skip(f"{command[0]} or curl is not installed")
    (tmp_path / "photo.jpg").write_bytes(encode(PICTURE, "JPEG"))
    code = snippet(language).replace("http://127.0.0.1:8000", server.url)
    assert server.url in code
    done = subprocess.run([*command, code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "big.png") as image:
        assert (image.format, image.size) == ("PNG", (64, 48))


IN_A_BROWSER = """
const readFile = async () => Uint8Array.from(given[0]);
const writeFile = async (name, data) => (window.written = [name, ...data]);
const Buffer = { from: (data) => new Uint8Array(data) };
"""


def test_the_javascript_snippet_runs_in_a_browser_too(server: Server, browser: Browser) -> None:
    """Only its first line, which imports Node's files, is replaced: it is run even where there is no Node."""
    first, code = snippet("js").replace("http://127.0.0.1:8000", server.url).split("\n", 1)
    assert first.startswith("import { readFile, writeFile }")
    browser.open(server.url)
    name, *data = browser.run(f"{IN_A_BROWSER}{code}; return window.written;", list(encode(PICTURE, "JPEG")))
    assert name == "big.png"
    with Image.open(io.BytesIO(bytes(data))) as image:
        assert (image.format, image.size) == ("PNG", (64, 48))
