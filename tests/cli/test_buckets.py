"""``enlarger`` between buckets and folders, with a remote service, and shared among replicas that die."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.cli import main
from app.jobs.book import Book
from app.jobs.remote import Remote
from app.jobs.store import Store
from harness.pictures import encode
from harness.postgres import Postgres
from harness.s3 import S3
from harness.server import Server, quick_server
from harness.zoo import small_zoo

QUICK = ["--model", "bicubic", "--scale", "2", "--format", "png"]


def pictures(count: int) -> list[bytes]:
    random = np.random.default_rng(3)
    return [encode(random.integers(0, 256, (20 + n, 30, 3), np.uint8)) for n in range(count)]


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # whole, or an error
        return image.size


@pytest.fixture
def bucket(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new one; and the command on this machine has few networks to load."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENLARGER_MODELS", str(small_zoo("bicubic")))
    return s3.make_bucket("b" + str(abs(hash(tmp_path))))


@pytest.fixture(scope="module")
def jobs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with quick_server(jobs=str(tmp_path_factory.mktemp("jobs"))) as running:
        yield running


def test_a_bucket_is_enlarged_into_another_and_a_second_time_only_what_is_missing(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, sink = Store.open(f"{bucket}/in"), Store.open(f"{bucket}/out")
    for number, data in enumerate(pictures(3)):
        source.put(f"deep/{number}.png", data)
    source.put("deep/0.jpg", encode(np.zeros((9, 9, 3), np.uint8), "JPEG"))  # the name 0.png would be taken twice
    source.put("broken.png", b"no picture")
    source.put("notes.txt", b"no picture either")
    assert main([f"{bucket}/in", "-o", f"{bucket}/out", *QUICK]) == 1
    assert "broken.png" in capsys.readouterr().err
    found = {each.key: each for each in sink.list()}
    assert sorted(found) == ["deep/0.jpg.png", "deep/0.png.png", "deep/1.png", "deep/2.png"]
    assert size_of(sink.get("deep/1.png")) == (60, 42)
    sink.delete("deep/1.png")
    before = {key: each.etag for key, each in found.items()}
    sink.put("deep/2.png", b"somebody else's")
    assert main([f"{bucket}/in", "-o", f"{bucket}/out", *QUICK]) == 1
    assert "3 already exist" in capsys.readouterr().err
    assert sink.get("deep/2.png") == b"somebody else's"
    assert {each.key: each.etag for each in sink.list()}["deep/1.png"] == before["deep/1.png"]


def test_a_folder_into_a_bucket_and_one_object_into_a_folder(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(pictures(1)[0])
    assert main([str(tmp_path / "in"), "-o", f"{bucket}/out", *QUICK]) == 0
    assert main([f"{bucket}/out/a.png", "-o", str(tmp_path / "again"), *QUICK]) == 0
    assert size_of((tmp_path / "again" / "a.png").read_bytes()) == (120, 80)


@pytest.mark.parametrize("keeps_jobs", [True, False])
def test_a_remote_service_does_the_work(
    request: pytest.FixtureRequest, keeps_jobs: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server: Server = request.getfixturevalue("jobs_server" if keeps_jobs else "server")
    source, sink = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number, data in enumerate(pictures(3)):
        (source / f"{number}.png").write_bytes(data)
    (source / "broken.png").write_bytes(b"no picture")
    (source / "copy.png").write_bytes((source / "0.png").read_bytes())
    assert main([str(source), "-o", str(sink), "--remote", server.url, *QUICK]) == 1
    assert "broken.png" in capsys.readouterr().err
    assert sorted(each.name for each in sink.iterdir()) == ["0.png", "1.png", "2.png", "copy.png"]
    assert (sink / "copy.png").read_bytes() == (sink / "0.png").read_bytes()
    with server.client() as client:
        form = {"model": "bicubic", "scale": "2", "format": "png"}
        data = (source / "1.png").read_bytes()
        streamed = client.post("/upscale", params=form, content=data, headers={"content-type": "image/png"})
    assert (sink / "1.png").read_bytes() == streamed.content


def test_what_was_canceled_is_handed_in_again_by_the_same_command(jobs_server: Server) -> None:
    remote, large = Remote(jobs_server.url), encode(np.zeros((1500, 1500, 3), np.uint8))
    ids = []
    for _ in range(2):
        job = remote.submit(large, "a.png", {"model": "fast", "scale": "4", "format": "png"})
        assert job
        assert job["status"] in ("queued", "processing")
        ids.append(job["id"])
        httpx.delete(f"{jobs_server.url}{job['urls']['cancel']}", timeout=60)
    remote.close()
    assert ids[0] != ids[1]


def test_a_remote_service_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.jobs.remote.TRIES", 2)
    (tmp_path / "a.png").write_bytes(pictures(1)[0])
    assert main([str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--remote", "http://127.0.0.1:9"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--cluster", "here", "-o", "there"], ["s3://bucket/a"], ["nowhere", "-o", "s3://bucket/b"]]
)
def test_what_cannot_be_done_is_told_before_anything_is_begun(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("enlarger: ")


def test_replicas_that_die_and_a_database_that_restarts_lose_and_double_nothing(
    bucket: str, s3: S3, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three replicas; two are killed while the work goes on, the database crashes between, another one starts."""
    url, count = postgres.url(), 16
    source, sink = Store.open(f"{bucket}/in"), Store.open(f"{bucket}/out")
    data = pictures(count)
    for number, each in enumerate(data):
        source.put(f"{number:02}.png", each)
    settings = {"jobs": url, "jobs_store": f"{bucket}/jobs", **s3.environment}
    monkeypatch.setenv("ENLARGER_JOBS", url)
    with ExitStack() as stack:
        replicas = [stack.enter_context(quick_server(**settings)) for _ in range(3)]
        statuses: list[int] = []
        arguments = [f"{bucket}/in", "-o", f"{bucket}/out", "--cluster", *QUICK]
        command = threading.Thread(target=lambda: statuses.append(main(arguments)))
        command.start()
        wait_for(sink, 1, command.is_alive)
        replicas[0].process.kill()
        postgres.stop("immediate")
        postgres.start()
        replicas[1].process.kill()
        stack.enter_context(quick_server(**settings))
        command.join(240)
    assert statuses == [0]
    assert [size_of(sink.get(f"{n:02}.png")) for n in range(count)] == [(60, 2 * (20 + n)) for n in range(count)]
    assert len(list(sink.list())) == count
    book = Book(url)
    jobs, following = book.of_owner("cluster", 100)
    book.close()
    assert following is None
    assert [job.status for job in jobs] == ["succeeded"] * count


def wait_for(sink: Store, count: int, lives: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while len(list(sink.list())) < count:
        assert time.monotonic() < end
        assert lives()
        time.sleep(0.1)


def test_a_job_of_a_dead_replica_is_told_by_another(s3: S3, bucket: str, postgres: Postgres) -> None:
    """The client that has handed its picture to one replica follows and fetches from another."""
    settings = {"jobs": postgres.url(), "jobs_store": f"{bucket}/jobs", **s3.environment}
    with quick_server(**settings) as first, quick_server(**settings) as second:
        (data,) = pictures(1)
        params = {"model": "bicubic", "scale": "2"}
        headers = {"content-type": "image/png", "idempotency-key": "once"}
        job = httpx.post(f"{first.url}/jobs", params=params, content=data, headers=headers, timeout=60).json()
        first.process.kill()
        with second.client() as client:
            second.wait_until(lambda: client.get(job["urls"]["get"]).json()["status"] == "succeeded", seconds=120)
            assert size_of(client.get(job["urls"]["result"]).content) == (60, 40)
            again = client.post("/jobs", params=params, content=data, headers=headers)
            assert again.json()["id"] == job["id"]
