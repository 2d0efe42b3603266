"""What every route asks of a request: HTTP/1.1 for images, no content coding, known parameters; blank is absent."""

import gzip
import json
import zlib

import httpx
import numpy as np
import pytest

from harness.pictures import decoded, encode
from harness.server import Server, head

IMAGE = encode(np.full((6, 8, 3), 99, np.uint8))
BICUBIC = {"model": "bicubic", "scale": "2"}
TELLING = ["/", "/models", "/models/fast", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/page/page.js"]


def answered(server: Server, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body as the bytes that came until the end of the connection, undone by no client."""
    with server.connect(request) as connection:
        raw = b"".join(iter(lambda: connection.recv(65536), b""))
    start, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = start.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(status.split()[1]), headers, body


# -- HTTP/1.0 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TELLING)
def test_http_1_0_gets_a_whole_answer_of_told_length(server: Server, path: str) -> None:
    status, headers, body = answered(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert status == 200
    assert "transfer-encoding" not in headers
    assert int(headers["content-length"]) == len(body) > 0


@pytest.mark.parametrize("more", [{}, {"Connection": "keep-alive"}, {"Accept": "image/png"}], ids=str)
@pytest.mark.parametrize("target", ["/upscale", "/upscale?scale=2&format=png", "/upscale?decode=true"])
def test_http_1_0_gets_no_image_but_the_reason(server: Server, target: str, more: dict[str, str]) -> None:
    request = head(len(IMAGE), target, version="1.0", **{"Content-Type": "image/png", **more}) + IMAGE
    status, headers, body = answered(server, request)
    assert status == 426
    assert headers["upgrade"] == "HTTP/1.1"
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(body)
    assert json.loads(body)["code"] == "http_1_1_required"


@pytest.mark.parametrize("target", ["/estimate", "/generate?count=1"])
def test_http_1_0_gets_what_has_a_length(server: Server, target: str) -> None:
    content = IMAGE if target == "/estimate" else b""
    status, headers, body = answered(server, head(len(content), target, version="1.0") + content)
    assert status == 200, body
    assert "transfer-encoding" not in headers
    assert int(headers["content-length"]) == len(body)


# -- content codings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "aes128gcm"])
@pytest.mark.parametrize("path", ["/upscale", "/estimate", "/generate"])
def test_a_content_coding_is_refused_by_its_name(client: httpx.Client, path: str, coding: str) -> None:
    data = {"gzip": gzip.compress(IMAGE), "deflate": zlib.compress(IMAGE)}.get(coding.lower(), IMAGE)
    answer = client.post(path, content=data, headers={"content-encoding": coding, "content-type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")
    assert answer.headers["accept-encoding"] == "identity"
    assert repr(coding) in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["identity", "", "Identity , identity"])
def test_no_content_coding_by_another_name_is_taken(client: httpx.Client, coding: str) -> None:
    answer = client.post("/upscale", content=IMAGE, params=BICUBIC, headers={"content-encoding": coding})
    assert decoded(answer.content).shape == (12, 16, 3)


@pytest.mark.parametrize(
    ("name", "coding", "status"),
    [
        ("Content-Encoding", "gzip", 415),
        ("content-transfer-encoding", "base64", 415),
        ("Content-Transfer-Encoding", "quoted-printable", 415),
        ("Content-Transfer-Encoding", "binary", 200),
        ("Content-Transfer-Encoding", "8BIT", 200),
    ],
)
def test_a_part_is_taken_as_it_is(client: httpx.Client, name: str, coding: str, status: int) -> None:
    part = f'--xx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n{name}: {coding}\r\n\r\n'
    body = part.encode() + IMAGE + b"\r\n--xx--\r\n"
    answer = client.post(
        "/upscale", content=body, params=BICUBIC, headers={"content-type": "multipart/form-data; boundary=xx"}
    )
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.json()["code"] == "unsupported_encoding"
        assert repr(coding) in answer.json()["detail"]


# -- blank -------------------------------------------------------------------------------------------------------

BLANKS = ["strength", "scale", "width", "height", "format", "quality", "subsampling", "lossless", "depth"]
BLANKS += ["background", "metadata"]


@pytest.mark.parametrize("blank", ["", " ", "\t"], ids=repr)
@pytest.mark.parametrize("where", ["query", "form"])
def test_blank_is_absent(client: httpx.Client, where: str, blank: str) -> None:
    fields = {**dict.fromkeys([*BLANKS, "decode"], blank), "model": "bicubic"}
    sent = {"params": fields} if where == "query" else {"data": fields}
    answer = client.post("/upscale", files={"image": ("a.png", IMAGE)}, **sent)
    assert answer.status_code == 200, answer.text
    assert decoded(answer.content).shape == (24, 32, 3)


def test_a_blank_field_leaves_what_the_query_says(client: httpx.Client) -> None:
    form = {"scale": "", "model": " "}
    answer = client.post("/upscale", files={"image": ("a.png", IMAGE)}, params=BICUBIC, data=form)
    assert answer.headers["enlarger-model"] == "bicubic-x2"


@pytest.mark.parametrize("where", ["query", "form"])
def test_blank_is_absent_when_images_are_generated(client: httpx.Client, where: str) -> None:
    fields = {"model": "", "count": " ", "seed": "", "columns": ""}
    answer = client.post("/generate", **({"params": fields} if where == "query" else {"data": fields}))
    assert answer.status_code == 200, answer.text


# -- unknown -----------------------------------------------------------------------------------------------------

TYPOS = {"sacle": "scale", "Scale": "scale", "qualty": "quality", "meta": "metadata", "back_ground": "background"}
ELSEWHERE = [
    ("GET", "/models", "name", "this route has none"),
    ("GET", "/models/fast", "scale", "this route has none"),
    ("HEAD", "/models", "verbose", ""),
    ("GET", "/healthz", "x", "this route has none"),
    ("GET", "/readyz", "wait", "this route has none"),
    ("GET", "/metrics", "name", "this route has none"),
    ("POST", "/generate", "sede", "did you mean 'seed'? Known: model, count, seed, columns"),
    ("POST", "/generate", "zzz", "known: model, count, seed, columns"),
]


@pytest.mark.parametrize("path", ["/upscale", "/estimate"])
@pytest.mark.parametrize("where", ["query", "form"])
@pytest.mark.parametrize(("typo", "meant"), TYPOS.items())
def test_a_typo_is_told_with_what_was_meant(client: httpx.Client, path: str, where: str, typo: str, meant: str) -> None:
    sent = {"params": {typo: "2"}} if where == "query" else {"data": {typo: "2"}}
    answer = client.post(path, files={"image": ("a.png", IMAGE)}, **sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert (
        f"Unknown parameter {typo!r}; did you mean {meant!r}? Known: model, strength, scale" in answer.json()["detail"]
    )


@pytest.mark.parametrize(("method", "path", "name", "told"), ELSEWHERE)
def test_a_parameter_that_a_route_does_not_have(
    client: httpx.Client, method: str, path: str, name: str, told: str
) -> None:
    answer = client.request(method, path, params={name: "1"})
    assert answer.status_code == 422
    if told:
        assert answer.json()["code"] == "invalid_parameter"
        assert answer.json()["detail"].rstrip(".").endswith(told)


def test_a_form_of_another_route_too(client: httpx.Client) -> None:
    answer = client.post("/generate", data={"cuont": "3"})
    assert answer.status_code == 422
    assert "did you mean 'count'?" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/?utm_source=mail", "/page/page.js?v=3", "/openapi.json?x=1"])
def test_addresses_that_are_no_question_may_carry_anything(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200
