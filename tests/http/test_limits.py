"""Requests at a time, and bytes of bodies at a time: what is beyond gets 429, and nothing is kept of who has left."""

import select
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from harness.pictures import encode
from harness.server import BICUBIC, Server, head, quick_server
from harness.watched import LITTLE, TARGET, answer, ask, noise

SLOTS, BYTES = 2, 1_500_000


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    with quick_server(max_requests=str(SLOTS), max_upload_bytes=str(BYTES)) as server:
        yield server


@pytest.fixture(scope="module")
def small(photo: np.ndarray) -> bytes:
    return encode(photo[:20, :20])


def post(server: Server, image: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/upscale", content=image, params=BICUBIC, timeout=60)


def assert_free(server: Server, image: bytes) -> None:
    server.wait_until(lambda: post(server, image).status_code == 200)


def test_who_reads_slowly_holds_a_slot_until_he_leaves(narrow: Server, small: bytes) -> None:
    image = noise(1200, 600)  # more than the kernels hold between the two
    with ask(narrow, image, receive_buffer=LITTLE) as one, ask(narrow, image, receive_buffer=LITTLE) as two:
        assert [answer(each).status for each in (one, two)] == [200, 200]
        refused = post(narrow, small)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert (refused.json()["limit"], refused.json()["retryable"]) == (SLOTS, True)
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{narrow.url}/readyz").status_code == 200
    assert_free(narrow, small)


def test_who_sends_slowly_holds_none(narrow: Server, small: bytes) -> None:
    slow = [narrow.connect(head(len(small), TARGET) + small[:50]) for _ in range(3 * SLOTS)]
    assert post(narrow, small).status_code == 200
    for connection in slow[:SLOTS]:
        connection.sendall(small[50:])
        assert answer(connection).status == 200
    for connection in slow:
        connection.close()
    assert_free(narrow, small)


def test_bodies_share_their_bytes(narrow: Server, small: bytes) -> None:
    length = BYTES * 2 // 3
    half = bytes(length - 1)
    with narrow.connect(head(length, TARGET) + half) as one, narrow.connect(head(length, TARGET) + half) as other:
        answered, _, _ = select.select([one, other], [], [], 60)  # whichever's bytes came last
        refused = answer(answered[0])
        assert refused.status == 429
        assert b"Too many bytes" in refused.read()
    assert_free(narrow, small)
    for _ in range(10):  # nothing is left of them
        assert post(narrow, bytes(BYTES // 2)).status_code == 415


@pytest.fixture(scope="module")
def tight() -> Iterator[Server]:
    """Two slots of 28 MiB."""
    with quick_server(max_requests=str(SLOTS), band_bytes=str(2**20)) as server:
        yield server


def as_webp(server: Server, image: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/upscale", content=image, params=BICUBIC | {"format": "webp"}, timeout=60)


def test_a_picture_that_takes_the_memory_of_two_takes_two_slots(tight: Server, photo: np.ndarray) -> None:
    two_slots = encode(photo[:150, :200])  # 0.5 megapixels of WebP at 44 bytes, and what every request has
    with ask(tight, noise(1200, 600), receive_buffer=LITTLE) as other:
        assert answer(other).status == 200
        assert as_webp(tight, encode(photo[:20, :20])).status_code == 200, "one slot is free"
        refused = as_webp(tight, two_slots)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert post(tight, two_slots).status_code == 200, "as PNG it takes one"
    tight.wait_until(lambda: as_webp(tight, two_slots).status_code == 200)
    assert_free(tight, two_slots)


def test_a_picture_that_takes_more_memory_than_there_is_is_the_clients_to_change(
    tight: Server, photo: np.ndarray
) -> None:
    too_large = as_webp(tight, encode(photo[:300, :400]))
    assert (too_large.status_code, too_large.json()["code"]) == (422, "too_much_memory")
    assert too_large.json()["retryable"] is False
    assert too_large.json()["actual"] > too_large.json()["limit"] == SLOTS * 28 * 2**20
    assert_free(tight, encode(photo[:20, :20]))
