"""Who may take part in a study, and what its pictures take of the service."""

import asyncio
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.http.auth import Authentication
from harness.pictures import encode
from harness.server import Server, head, quick_server
from harness.watched import LITTLE, TARGET, noise

KEY, INVITATION = {"X-API-Key": "a-key"}, {"X-Invitation": "come-in"}
WRONG = {"X-API-Key": "come-in", "X-Invitation": "a-key"}
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of one picture, an AVIF; one request at a time."""
    folder = tmp_path_factory.mktemp("study")
    Image.fromarray(skimage.data.chelsea()[60:124, 100:164]).save(folder / "cat.avif", quality=95)
    (folder / "notes.txt").write_text("no picture")
    settings = {"api_keys": "a-key", "study_invitation": "come-in", "max_requests": "1", "study": str(folder)}
    with quick_server(**settings) as server:
        yield server


def begin(server: Server, headers: dict[str, str]) -> list[str]:
    """The paths of a new participant's trials."""
    answer = httpx.post(f"{server.url}/study/participants", headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    session = answer.json()
    return [f"/study/participants/{session['participant']}/{trial['id']}" for trial in session["trials"]]


@pytest.mark.parametrize("headers", [{}, WRONG, {"X-Invitation": ""}, {"Authorization": "Bearer come"}])
def test_without_key_and_invitation_nobody_takes_part(study: Server, headers: dict[str, str]) -> None:
    trial = begin(study, KEY)[0]
    participant = trial.rsplit("/", 1)[0]
    with study.client() as client:
        answers = [
            client.post("/study/participants", headers=headers),
            client.get(participant, headers=headers),
            client.get(f"{trial}.png", headers=headers),
            client.head(f"{trial}.png", headers=headers),
            client.put(trial, json={"score": 5}, headers=headers),
            client.get("/study/results", headers=headers),
            client.get("/study/../study/results", headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [401] * len(answers)
        assert [trial["score"] for trial in client.get(participant, headers=KEY).json()["trials"]].count(None) > 1
        for path in ("/study", "/study/results"):  # the pages, which hold nothing
            assert "<html" in client.get(path, headers=headers | HTML).text


def test_an_invitation_is_enough_to_take_part_and_for_nothing_else(study: Server) -> None:
    trial = begin(study, INVITATION)[0]
    with study.client() as client:
        assert client.get(f"{trial}.png", headers=INVITATION).headers["content-type"] == "image/png"
        assert client.put(trial, json={"score": 4}, headers=INVITATION).status_code == 204
        assert client.get("/study/results", headers=INVITATION).status_code == 401
        image = encode(np.zeros((8, 8, 3), np.uint8))
        for path in ("/upscale", "/estimate", "/study/../upscale"):
            assert client.post(path, content=image, headers=INVITATION).status_code == 401
        assert client.get("/models", headers=INVITATION).status_code == 401
        assert client.get("/study/results", headers=KEY).json()["ratings"] >= 1


def test_a_picture_that_is_made_takes_a_slot_and_one_that_is_there_none(study: Server) -> None:
    trials = begin(study, KEY)
    made = f"{study.url}{trials[0]}.png"
    assert httpx.get(made, headers=KEY, timeout=60).status_code == 200
    large = noise(1200, 600)  # takes the only slot until its result is read
    with study.connect(head(len(large), TARGET, **KEY) + large, receive_buffer=LITTLE):
        study.wait_until(lambda: httpx.put(f"{study.url}/nowhere", headers=KEY, timeout=60).status_code == 429, 60)
        assert httpx.get(made, headers=KEY, timeout=60).status_code == 200
        answers = [httpx.get(f"{study.url}{trial}.png", headers=KEY, timeout=60) for trial in trials[1:]]
        assert {answer.status_code for answer in answers} <= {200, 429}
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused, "none of the versions needed computing"
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    study.wait_until(lambda: httpx.get(str(refused[0].url), headers=KEY, timeout=60).status_code == 200, 60)


@pytest.mark.parametrize(
    ("keys", "invitation", "path", "headers", "status"),
    [
        ((), None, "/study/results", {}, 200),
        ((), "i", "/study/results", {}, 401),
        ((), "i", "/study/results", {"X-Invitation": "i"}, 200),
        ((), "i", "/study/results", HTML, 200),
        ((), "i", "/study/participants", {}, 401),
        ((), "i", "/study/participants", {"X-Invitation": "i"}, 200),
        ((), "i", "/upscale", {}, 200),
        (("k",), None, "/study/participants", {"X-Invitation": ""}, 401),
        (("k",), None, "/study/participants", {"X-API-Key": "k"}, 200),
        (("k",), "i", "/study/participants", {"Authorization": "Bearer k"}, 200),
        (("k",), "i", "/studying", {"X-Invitation": "i"}, 401),
        (("k",), "i", "/metrics", {"X-Invitation": "i"}, 401),
        (("k", "l"), "i", "/metrics", {"X-API-Key": "l"}, 200),
    ],
)
def test_who_is_admitted(
    keys: tuple[str, ...], invitation: str | None, path: str, headers: dict[str, str], status: int
) -> None:
    async def refuse(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 401)

    async def answer(request: Request) -> Response:
        return PlainTextResponse("here")

    inner = Starlette(routes=[Route("/{rest:path}", answer)])
    secret = None if invitation is None else SecretStr(invitation)
    app = Authentication(inner, [SecretStr(key) for key in keys], refuse, secret)

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path, headers=headers)

    assert asyncio.run(get()).status_code == status
