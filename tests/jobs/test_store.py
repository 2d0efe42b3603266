"""Where pictures lie: a folder and a real S3 server do the same."""

import io
from pathlib import Path

import pytest

from app.errors import ForbiddenUrlError, SourceError, StoreError
from app.jobs.egress import Egress
from app.jobs.locations import Locations
from app.jobs.store import CHUNK_BYTES, Store, split_object
from harness.s3 import S3


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return Store.open(str(tmp_path / "pictures"))
    s3: S3 = request.getfixturevalue("s3")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return Store.open(s3.make_bucket(f"bucket-{tmp_path.name.replace('_', '-').lower()[:40]}") + "/below")


def test_what_is_put_is_got_found_listed_and_deleted(store: Store) -> None:
    large = bytes(range(256)) * (CHUNK_BYTES // 256 + 5000)
    store.put("results/a/1", io.BytesIO(large))
    store.put("results/a/2", b"two")
    store.put("results/ab/3", b"three")
    assert store.get("results/a/1") == large
    assert b"".join(store.read("results/a/1", 100, len(large) - 7)) == large[100:-7]
    found = store.find("results/a/1")
    assert found
    assert (found.key, found.size) == ("results/a/1", len(large))
    assert [each.key for each in sorted(store.list("results/a/"), key=lambda each: each.key)] == [
        "results/a/1",
        "results/a/2",
    ]
    store.delete_below("results/a/")
    store.delete("results/a/1", "nowhere")
    assert [each.key for each in store.list()] == ["results/ab/3"]
    assert store.find("results/a/1") is None


def test_what_is_not_there_or_too_large_is_told(store: Store) -> None:
    with pytest.raises(SourceError):
        store.get("nothing")
    store.put("some", b"12345")
    with pytest.raises(SourceError, match="too large"):
        store.get("some", 4)
    assert store.get("some", 5) == b"12345"


def test_an_upload_that_breaks_off_leaves_nothing(store: Store) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > CHUNK_BYTES:
                raise OSError("the disk is gone")
            return super().read(size)

    with pytest.raises(StoreError):
        store.put("half", Breaking(bytes(3 * CHUNK_BYTES)))
    assert store.find("half") is None


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/../other/key",
        "s3://bucket/a/./b",
        "s3://bucket/a\\..\\b",
        "s3://key:secret@bucket/a",
        "s3://bucket:9000/a",
        "s3://bucket/a?versionId=1",
        "s3://bucket/a#b",
        "s3://bucket/%2e%2e/other",
        "s3:///a",
        "s3://bucket/",
        "s3://bucket/a/",
        "file:///etc/passwd",
        "memory://a/b",
        "http://bucket/a",
        "s3://bucket/a\nb",
    ],
)
def test_only_a_plain_path_in_a_bucket_is_an_object(url: str) -> None:
    with pytest.raises(SourceError):
        split_object(url)


def test_requests_name_objects_in_the_buckets_of_the_list_alone() -> None:
    locations = Locations(Egress(), ["s3://photos/in", "gs://whole"])
    for url in ("s3://photos/in/a.jpg", "s3://photos/in/deep/er.jpg", "gs://whole/a.jpg"):
        locations.check(url)
    for url in ("s3://photos/inner/a.jpg", "s3://photos/a.jpg", "s3://photos/in/../a.jpg", "s3://whole/a.jpg"):
        with pytest.raises((ForbiddenUrlError, SourceError)):
            locations.check(url)
    with pytest.raises(ForbiddenUrlError):
        locations.check("https://example.org/a.jpg")


def test_no_error_tells_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        split_object("s3://AKIAKEY:very-secret@bucket/a?X-Amz-Signature=abc")
    assert not {"secret", "Signature", "AKIA"} & set(refused.value.detail.replace("-", " ").split())
    assert "very-secret" not in refused.value.detail
