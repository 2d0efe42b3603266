"""The HTTP contract, against a real server: pictures in, larger pictures out, and every refusal a problem document."""

import asyncio
import hashlib
import io
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPResponse

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image, ImageCms

from app.http.health import router
from app.http.protocol import MAX_HEAD_BYTES, MAX_PIPELINED
from app.http.service import Service
from app.inference.scheduler import Scheduler
from app.inference.zoo import load_zoo
from app.settings import Settings
from app.upscale.upscaler import Upscaler
from harness import MODELS
from harness.bodies import BODIES, BOUNDARY, FILE, FOREIGN, PARAMETERS, PICTURE, mutated, part
from harness.pictures import decoded, encode
from harness.server import Server, head, quick_server

ZOO = load_zoo(MODELS)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
BICUBIC = {"model": "bicubic"}
LARGE_BODY = 1_000_000  # bytes the strict server takes
PATIENCE = 1.0  # seconds the strict server waits for a body


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server with little patience."""
    limits = {"max_body_bytes": str(LARGE_BODY), "body_seconds": str(PATIENCE)}
    with quick_server(**limits) as running:
        yield running


def post(client: httpx.Client, image: bytes, **options: object) -> httpx.Response:
    """The raw body way; ``options`` go into the query, ``headers`` aside."""
    headers = options.pop("headers", {})
    return client.post("/upscale", content=image, params={**BICUBIC, **options}, headers=headers)


def enlarged(client: httpx.Client, image: bytes, **options: object) -> Image.Image:
    response = post(client, image, **options)
    assert response.status_code == 200, response.text
    picture = Image.open(io.BytesIO(response.content))
    picture.load()
    assert response.headers["content-type"] == f"image/{picture.format.lower()}"
    return picture


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The members every problem has (RFC 9457, and the request's id); returns the document."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    body = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank"), body
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"] != ""
    return body


# -- pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_multipart_and_raw_body_give_the_same_enlarged_picture(
    client: httpx.Client, photo: np.ndarray, scale: int
) -> None:
    raw = enlarged(client, encode(photo), scale=scale, format="png")
    fields = {**BICUBIC, "scale": str(scale), "format": "png"}
    form = client.post("/upscale", files={"image": ("cat.png", encode(photo))}, data=fields)
    assert form.headers["content-type"] == "image/png"
    assert np.array_equal(decoded(form.content), np.asarray(raw))
    assert (raw.format, raw.mode, raw.size) == ("PNG", "RGB", (451 * scale, 300 * scale))
    expected = np.asarray(Image.fromarray(photo).resize(raw.size, Image.Resampling.BICUBIC))
    assert np.abs(np.asarray(raw).astype(int) - expected).max() <= 2  # Pillow rounds between its two passes


def test_parameters_may_stand_in_the_query_and_in_the_form(client: httpx.Client, photo: np.ndarray) -> None:
    files = {"image": ("cat.png", encode(photo))}
    response = client.post("/upscale", files=files, params={**BICUBIC, "scale": 2}, data={"format": "jpeg"})
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["enlarger-output-size"] == "902x600"


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "IMAGE/X-ANY", "application/octet-stream", ""])
def test_a_raw_body_is_known_by_its_content(client: httpx.Client, photo: np.ndarray, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert enlarged(client, encode(photo[:20, :20]), headers=headers).format == "PNG"


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 700), (700, 1), (257, 129), (3, 512)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_odd_sizes_come_out_exact(client: httpx.Client, size: tuple[int, int], scale: int) -> None:
    width, height = size
    pixels = np.full((height, width, 3), (10, 200, 90), np.uint8)
    result = np.asarray(enlarged(client, encode(pixels), scale=scale))
    assert result.shape == (height * scale, width * scale, 3)
    assert (result == (10, 200, 90)).all()


@pytest.mark.parametrize(
    ("own", "options", "expected"),
    [
        ("JPEG", {}, "JPEG"),
        ("PNG", {}, "PNG"),
        ("WEBP", {}, "WEBP"),
        ("GIF", {}, "PNG"),
        ("TIFF", {}, "TIFF"),
        ("AVIF", {}, "AVIF"),
        ("JPEG", {"accept": "image/png"}, "PNG"),
        ("PNG", {"accept": "IMAGE/WEBP"}, "WEBP"),
        ("JPEG", {"accept": "image/webp;q=0.5, image/png;q=0.7"}, "PNG"),
        ("JPEG", {"accept": "text/html, image/webp;q=0.9, */*;q=0.1"}, "WEBP"),
        ("JPEG", {"accept": "image/*;q=0.9, image/png;q=0.2"}, "JPEG"),
        ("JPEG", {"accept": "image/avif, text/html"}, "AVIF"),
        ("PNG", {"accept": "image/tiff"}, "TIFF"),
        ("JPEG", {"accept": "image/png;q=nonsense, ;,;;q=, */*"}, "JPEG"),
        ("JPEG", {"accept": "image/jpeg;q=0, */*"}, "PNG"),
        ("JPEG", {"accept": "image/png", "format": "webp"}, "WEBP"),
        ("PNG", {"format": "jpg"}, "JPEG"),
        ("PNG", {"format": "JPEG"}, "JPEG"),
        ("JPEG", {"format": "Png"}, "PNG"),
    ],
)
def test_the_result_has_the_format_asked_for_else_its_own(
    client: httpx.Client, photo: np.ndarray, own: str, options: dict[str, str], expected: str
) -> None:
    headers = {"accept": options["accept"]} if "accept" in options else {}
    asked = {"format": options["format"]} if "format" in options else {}
    assert enlarged(client, encode(photo[:40, :50], own), scale=2, headers=headers, **asked).format == expected


@pytest.mark.parametrize("format_name", ["jpeg", "webp"])
def test_quality_trades_size(client: httpx.Client, photo: np.ndarray, format_name: str) -> None:
    responses = [post(client, encode(photo), scale=2, format=format_name, quality=q) for q in (1, 50, 100)]
    sizes = [len(response.content) for response in responses]
    assert sizes[0] * 2 < sizes[1] < sizes[2] / 2, sizes


@pytest.mark.parametrize(
    ("mode", "format_name", "expected"),
    [
        ("L", "png", "L"),
        ("L", "jpeg", "L"),
        ("LA", "png", "LA"),
        ("RGBA", "png", "RGBA"),
        ("RGBA", "webp", "RGBA"),
        ("RGBA", "jpeg", "RGB"),
        ("LA", "jpeg", "L"),
    ],
)
def test_the_channels_come_out_as_they_came_in(
    client: httpx.Client, photo: np.ndarray, mode: str, format_name: str, expected: str
) -> None:
    source = Image.fromarray(photo[:60, :80]).convert(mode)
    if "A" in mode:
        source.putalpha(Image.linear_gradient("L").resize(source.size))
    result = enlarged(client, encode(np.asarray(source)), scale=2, format=format_name)
    assert result.mode == expected
    wanted = np.asarray(source.resize(result.size, Image.Resampling.BICUBIC).convert("RGBA").getchannel("A"))
    if result.mode in ("LA", "RGBA"):
        assert np.abs(np.asarray(result.getchannel("A")).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("asked", "colour"),
    [({}, (255, 255, 255)), ({"background": "#c02010"}, (192, 32, 16)), ({"background": "0000FF"}, (0, 0, 255))],
)
def test_transparency_lies_on_the_background_in_a_jpeg(
    client: httpx.Client, asked: dict[str, str], colour: tuple[int, int, int]
) -> None:
    pixels = np.full((16, 32, 4), (0, 255, 0, 255), np.uint8)
    pixels[:, :16, 3] = 0
    result = np.asarray(enlarged(client, encode(pixels), scale=2, format="jpeg", quality=100, **asked)).astype(int)
    assert np.abs(result[:, :24] - colour).max() <= 3
    assert np.abs(result[:, 40:] - (0, 255, 0)).max() <= 3


@pytest.mark.parametrize("format_name", ["jpeg", "png", "webp"])
def test_metadata_is_kept_or_stripped(client: httpx.Client, photo: np.ndarray, format_name: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a cat"  # ImageDescription
    image = encode(photo[:40, :40], "JPEG", exif=exif, dpi=(300, 300), icc_profile=PROFILE)
    kept = enlarged(client, image, format=format_name)
    stripped = enlarged(client, image, format=format_name, metadata="strip")
    assert kept.getexif()[0x010E] == "a cat"
    assert not stripped.getexif()
    if format_name != "webp":  # it has no field for the resolution
        assert kept.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert "dpi" not in stripped.info
    assert kept.info["icc_profile"] == stripped.info["icc_profile"] == PROFILE
    assert np.array_equal(np.asarray(kept), np.asarray(stripped))


def test_requests_at_the_same_time_get_their_own_pictures(client: httpx.Client, photo: np.ndarray) -> None:
    images = [encode(np.roll(photo, 37 * turn, axis=turn % 2)[:150, :200]) for turn in range(8)]
    alone = [decoded(post(client, image, scale=2).content) for image in images]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda image: decoded(post(client, image, scale=2).content), images))
    assert [np.array_equal(*pair) for pair in zip(alone, together, strict=True)] == [True] * 8


# -- headers -----------------------------------------------------------------------------------------------------


def test_headers_tell_what_was_done(client: httpx.Client, photo: np.ndarray) -> None:
    headers = post(client, encode(photo), scale=3).headers
    assert headers["enlarger-model"] == "bicubic-x3"
    assert headers["enlarger-model-sha256"] == ZOO.find("bicubic", 3).files["fp32"].sha256
    assert headers["enlarger-provider"].endswith("ExecutionProvider")
    assert headers["enlarger-output-size"] == "1353x900"
    assert headers["enlarger-precision"] == "fp32"
    assert int(headers["enlarger-tiles"]) >= 1
    assert 0 <= float(headers["enlarger-overlap"]) < 1
    assert float(headers["enlarger-estimated-seconds"]) > 0
    assert headers["cache-control"] == "no-store"
    assert headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("asked", [{}, {"model": ""}])
def test_the_default_model_is_the_manifests(client: httpx.Client, photo: np.ndarray, asked: dict[str, str]) -> None:
    response = client.post("/upscale", content=encode(photo[:32, :32]), params=asked)
    assert response.headers["enlarger-model"] == ", ".join(spec.title for spec in ZOO.passes(ZOO.default, 4, 4))
    assert decoded(response.content).shape == (128, 128, 3)


@pytest.mark.parametrize("told", ["a", "Order-66_b.7", "x" * 64])
def test_a_sane_request_id_is_echoed(client: httpx.Client, told: str) -> None:
    for path in ("/healthz", "/nowhere"):
        assert client.get(path, headers={"X-Request-Id": told}).headers.get_list("x-request-id") == [told]


@pytest.mark.parametrize("told", ["", "x" * 65, "two words", "<b>", "a\tb", "é"])
def test_another_request_id_is_replaced(client: httpx.Client, server: Server, told: str) -> None:
    response = client.get("/nowhere", headers={"X-Request-Id": told.encode()})
    given = assert_problem(response, 404, "not_found")["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", given)
    server.wait_until(lambda: re.search(f"GET /nowhere 404 .* id={given}", server.log()))


# -- the other routes --------------------------------------------------------------------------------------------


def test_models_are_those_of_the_manifest(client: httpx.Client) -> None:
    body = client.get("/models").json()
    assert body["default"] == "auto"
    assert client.get("/models/auto").json() == body["auto"]
    assert [model["name"] for model in body["models"]] == list(ZOO.names)
    assert [model["name"] for model in body["models"] if model["default"]] == [ZOO.default]
    for model in body["models"]:
        assert client.get(f"/models/{model['name']}").json() == model
        assert tuple(entry["scale"] for entry in model["scales"]) == ZOO.scales(model["name"])
        assert all(entry["seconds_per_megapixel"] > 0 for entry in model["scales"])


def test_interpolations_are_told_apart_from_networks(client: httpx.Client) -> None:
    models = client.get("/models").json()["models"]
    baselines = {spec.name for spec in ZOO if spec.architecture == "interpolation"}
    assert "bicubic" in baselines
    assert {model["name"] for model in models if model["baseline"]} == baselines


def test_a_model_names_the_file_it_is(client: httpx.Client) -> None:
    model = client.get("/models/bicubic").json()
    assert (model["name"], model["licence"]) == ("bicubic", "Apache-2.0")
    for entry in model["scales"]:
        data = (MODELS / f"bicubic-x{entry['scale']}.onnx").read_bytes()
        told = entry["files"]["fp32"]
        assert (told["sha256"], told["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))


def test_the_service_lives_and_is_ready(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["models"] == sorted(spec.title for spec in ZOO)


@pytest.mark.parametrize(
    ("life", "answer"),
    [
        ({}, (503, "starting")),
        ({"ready": True}, (200, "ready")),
        ({"ready": True, "draining": True}, (503, "draining")),
    ],
)
def test_readiness_follows_the_services_life(life: dict[str, bool], answer: tuple[int, str]) -> None:
    scheduler = Scheduler(
        run_batch=lambda spec, windows, strengths: windows, seconds_per_pixel=lambda spec: 1.0, max_seconds=1
    )
    app = FastAPI()
    app.include_router(router)
    app.state.service = Service(Settings(), Upscaler(ZOO, scheduler, {}), **life)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/readyz")

    response = asyncio.run(ask())
    scheduler.close()
    assert (response.status_code, response.json()["status"]) == answer


def test_pages_are_served(client: httpx.Client) -> None:
    assert "openapi.json" in client.get("/docs").text
    assert {"/upscale", "/models", "/models/{name}", "/healthz", "/readyz"} <= set(
        client.get("/openapi.json").json()["paths"]
    )
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/models/bicubic/x2", 404, "not_found"),
        ("GET", "/models/nope", 404, "unknown_model"),
        ("GET", "/upscale", 405, "method_not_allowed"),
        ("PUT", "/models", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_a_wrong_route_is_a_problem(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    assert_problem(client.request(method, path), status, code)


def test_a_wrong_method_names_the_right_one(client: httpx.Client) -> None:
    assert client.get("/upscale").headers["allow"] == "POST, OPTIONS"
    assert client.put("/models").headers["allow"] == "GET, HEAD, OPTIONS"


# -- what is wrong with the body ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_without_one_image_is_refused(client: httpx.Client, kind: str) -> None:
    headers, body, code = BODIES[kind]
    problem = assert_problem(client.post("/upscale", content=body, headers=headers), 400, code)
    assert problem["retryable"] is False
    assert (problem.get("limit"), problem.get("actual")) == ((1, 2) if code == "too_many_images" else (None, None))
    if "no file name" in kind:
        assert "file name" in problem["detail"]


def first_answer(connection: socket.socket) -> httpx.Response:
    """The first response on a bare connection, which is then closed."""
    with connection:
        response = HTTPResponse(connection)
        response.begin()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=xx"])
def test_a_body_told_too_large_is_refused_before_it_is_sent(strict: Server, content_type: str) -> None:
    sent = head(LARGE_BODY + 1, **{"Content-Type": content_type})
    response = first_answer(strict.connect(sent))
    problem = assert_problem(response, 413, "body_too_large")
    assert (problem["limit"], problem["actual"]) == (LARGE_BODY, LARGE_BODY + 1)
    assert response.headers["connection"] == "close"


def test_a_client_that_sends_too_much_all_the_same_can_read_why(strict: Server) -> None:
    with strict.client() as client:
        assert_problem(client.post("/upscale", content=bytes(5 * LARGE_BODY)), 413, "body_too_large")


@pytest.mark.parametrize("headers", [{}, BOUNDARY], ids=["raw", "multipart"])
def test_a_body_of_unknown_length_is_cut_at_the_limit(strict: Server, headers: dict[str, str]) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield part(FILE, b"", end=b"") if headers else b""
        while sent < 100 * LARGE_BODY:
            sent += 50_000
            yield bytes(50_000)

    with strict.client() as client:
        problem = assert_problem(client.post("/upscale", content=endless(), headers=headers), 413, "body_too_large")
    assert problem["limit"] == LARGE_BODY < problem["actual"]
    assert sent < 20 * LARGE_BODY  # what the kernels hold between the two


def test_a_body_longer_than_it_was_told_is_not_read_on(strict: Server) -> None:
    length = len(PICTURE) - 20
    with strict.connect(head(length) + PICTURE) as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")  # what follows the body is no request
    assert b"HTTP/1.1 200" not in answer


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\0\x01\0", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\0" * 100])
def test_what_is_no_http_is_a_problem_too(strict: Server, sent: bytes) -> None:
    problem = assert_problem(first_answer(strict.connect(sent)), 400, "bad_request")
    assert problem["detail"]


OVERHEAD = {
    "a header": [b"GET /healthz HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n"],
    "headers": [b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 40_000 + b"\r\n"],
    "a query": [b"GET /healthz?" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n"],
    "a header without end": [b"GET /healthz HTTP/1.1\r\nX: ", *[b"a" * 4096] * 100],
    "headers without end": [b"GET /healthz HTTP/1.1\r\n", *[b"a: b\r\n" * 1000] * 100],
    "trailers": [head(None) + b"0\r\n", *[b"a: b\r\n" * 1000] * 100],
    "a chunk's extension": [head(None) + b"1;", *[b"a" * 4096] * 100],
    "requests before an answer": [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000],
}


@pytest.mark.parametrize("pieces", OVERHEAD.values(), ids=OVERHEAD)
def test_what_is_no_body_is_bounded(strict: Server, pieces: list[bytes]) -> None:
    with strict.connect(b"") as connection:
        with suppress(ConnectionError):  # closed before all of it is sent
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.001)
        answers = b""
        with suppress(ConnectionError):
            answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answers.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 200 ")) or not answers
    assert answers.count(b"HTTP/1.1 200 ") <= MAX_PIPELINED + 1


def test_what_stays_within_the_bounds_is_answered(strict: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    for pieces in (
        [request + b"X: " + b"a" * 60_000 + b"\r\n\r\n"],
        [request + b"X: ", *[b"a" * 3000] * 20, b"\r\n\r\n"],
        [request + b"\r\n" + (request + b"\r\n") * 50],
    ):
        with strict.connect(b"") as connection:
            for piece in pieces:
                connection.sendall(piece)
            assert connection.recv(12) == b"HTTP/1.1 200"
    sent = head(None, **{"Content-Type": "image/png"}) + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
    assert_problem(first_answer(strict.connect(sent)), 415, "unsupported_format")


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=xx"])
@pytest.mark.parametrize("pause", [None, 0.1], ids=["stalled", "dripping"])
def test_a_slow_body_is_given_up(strict: Server, content_type: str, pause: float | None) -> None:
    body = part(FILE, PICTURE)
    connection = strict.connect(head(len(body), **{"Content-Type": content_type}) + body[:60])
    with dripping(connection.send, pause):
        response = first_answer(connection)
    problem = assert_problem(response, 408, "body_too_slow")
    assert (problem["limit"], problem["retryable"]) == (PATIENCE, True)
    assert response.headers["connection"] == "close"


HALF_A_HEAD = b"POST /upscale HTTP/1.1\r\nX-Slow: "


@pytest.mark.parametrize(
    ("sent", "pause"), [(b"", None), (HALF_A_HEAD, None), (HALF_A_HEAD, 0.1)], ids=["silent", "stalled", "dripping"]
)
def test_slow_headers_are_given_up(strict: Server, sent: bytes, pause: float | None) -> None:
    with strict.connect(sent) as connection, dripping(connection.send, pause):
        assert was_cut(connection)


def test_slow_headers_of_a_second_request_are_given_up(strict: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: test\r\n"
    with strict.connect(request + b"\r\n") as connection:
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.read() == b'{"status":"alive"}'
        time.sleep(1.5 * PATIENCE)  # silence between two requests is allowed for longer
        connection.sendall(request)
        assert was_cut(connection)


def was_cut(connection: socket.socket) -> bool:
    """Whether the server ends the connection without an answer; a timeout where it does not."""
    connection.settimeout(20 * PATIENCE)
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


@contextmanager
def dripping(send: Callable[[bytes], object], pause: float | None) -> Iterator[None]:
    """Meanwhile, in a thread: one byte after each ``pause`` (None: nothing), until the other side hangs up."""
    over = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            while pause is not None and not over.wait(pause):
                send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    over.set()
    thread.join()


def test_a_client_that_leaves_while_sending_leaves_nothing_behind(strict: Server) -> None:
    open_files, left = strict.open_files(), strict.log().count("POST /upscale 499")
    for _ in range(5):
        strict.connect(head(1000) + PICTURE[:30]).close()
    strict.wait_until(lambda: strict.log().count("POST /upscale 499") == left + 5)
    strict.wait_until(lambda: strict.open_files() == open_files)


# -- what is wrong with the picture ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_format_is_refused(client: httpx.Client, kind: str) -> None:
    response = client.post("/upscale", files={"image": ("photo.png", FOREIGN[kind], "image/png")})
    assert "PNG, JPEG, WEBP" in assert_problem(response, 415, "unsupported_format")["detail"]


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_truncated_picture_is_refused(
    client: httpx.Client, photo: np.ndarray, format_name: str, share: float
) -> None:
    image = encode(photo, format_name)
    assert_problem(post(client, image[: int(len(image) * share)]), 422, "corrupt_image")


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header tells this size; there are no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def gif_of(width: int, height: int) -> bytes:
    """A GIF of one pixel whose frame was made larger than its canvas."""
    image = bytearray(encode(np.zeros((1, 1), np.uint8), "GIF"))
    struct.pack_into("<HH", image, image.index(b",\0\0\0\0") + 5, width, height)
    return bytes(image)


@pytest.mark.parametrize(
    ("image", "limit", "actual"),
    [
        (png_of(30_000, 30_000), Settings().max_pixels, 30_000**2),
        (gif_of(30_000, 30_000), Settings().max_pixels, 30_000**2),
        (png_of(65_535, 65_535), Settings().max_pixels, 65_535**2),
        (png_of(1, 2**31 - 1), Settings().max_pixels, 2**31 - 1),
        (png_of(1000, 33_000), Settings().advanced.max_side, 33_000),
        (encode(np.zeros((1, 40_000), np.uint8)), Settings().advanced.max_side, 40_000),
    ],
    ids=["PNG", "GIF", "65535", "2^31", "high", "1 x N"],
)
def test_too_many_pixels_are_told_from_the_header(client: httpx.Client, image: bytes, limit: int, actual: int) -> None:
    problem = assert_problem(post(client, image), 422, "too_many_pixels")
    assert (problem["limit"], problem["actual"]) == (limit, actual)


@pytest.mark.parametrize(
    ("width", "format_name", "limit"), [(5000, "webp", 16_383), (20_000, "jpeg", 65_500)], ids=["webp", "jpeg"]
)
def test_a_result_too_large_for_its_format_is_refused(
    client: httpx.Client, width: int, format_name: str, limit: int
) -> None:
    image = encode(np.zeros((2, width), np.uint8))
    problem = assert_problem(post(client, image, scale=4, format=format_name), 422, "output_too_large")
    assert (problem["limit"], problem["actual"]) == (limit, 4 * width)
    assert enlarged(client, image, scale=2, format="png").size == (2 * width, 4)


# -- what is wrong with the parameters ---------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["params", "data"])
@pytest.mark.parametrize(("name", "value", "status", "code", "allowed"), PARAMETERS)
def test_a_wrong_parameter_is_refused_by_what_is_allowed(
    client: httpx.Client, place: str, name: str, value: str, status: int, code: str, allowed: str
) -> None:
    files = {"image": ("a.png", PICTURE)}
    values = {**({} if name == "model" else BICUBIC), name: value}
    problem = assert_problem(client.post("/upscale", files=files, **{place: values}), status, code)
    assert allowed in problem["detail"]
    assert name in problem["detail"]
    if bound := re.search(r"equal to (\d+)$", allowed):
        assert problem["limit"] == int(bound.group(1))


@pytest.mark.parametrize("place", ["params", "data"])
@pytest.mark.parametrize(
    ("asked", "limit", "actual"),
    [
        ({"width": "65"}, 8, 8.125),
        ({"height": "2147483648"}, 8, 2**28),
        ({"width": "4", "height": "64"}, 8, 0.5),
        ({"scale": "2", "width": "16"}, None, None),
    ],
    ids=["wide", "high", "smaller", "both"],
)
def test_an_impossible_size_is_refused(
    client: httpx.Client, place: str, asked: dict[str, str], limit: int | None, actual: float | None
) -> None:
    response = client.post("/upscale", files={"image": ("a.png", PICTURE)}, **{place: {**BICUBIC, **asked}})
    problem = assert_problem(response, 422, "invalid_parameter")
    assert (problem.get("limit"), problem.get("actual")) == (limit, actual)
    assert ("1 to 8 times" if limit else "not both") in problem["detail"]


# -- anything at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_damaged_file_is_enlarged_or_refused(server: Server, photo: np.ndarray, format_name: str) -> None:
    random = np.random.default_rng(20261121)
    image = encode(photo[100:124, 100:132], format_name)
    with server.client() as client:
        for number in range(80):
            data = mutated(image, random)
            response = post(client, data, scale=2)
            if response.status_code == 200:
                width, height = map(int, response.headers["enlarger-output-size"].split("x"))
                assert decoded(response.content).shape[:2] == (height, width), number
            else:
                assert response.status_code in (415, 422), (number, response.text, data)
                assert_problem(response, response.status_code, response.json()["code"])
        assert np.array_equal(decoded(post(client, PICTURE, scale=2).content), np.zeros((16, 16, 3), np.uint8))
    assert server.process.poll() is None
