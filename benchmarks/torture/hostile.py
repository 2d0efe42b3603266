"""Promise 1: hostile inputs get a 4xx, soon, and nothing worse ever happens."""

import http.client
import json
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice

from app.errors import EnlargerError
from app.images.formats import DecodeLimits, read_container
from app.images.tone import far_curve
from app.settings import PREFIX, Settings, nested
from benchmarks.client import percentile
from benchmarks.torture import semantics
from benchmarks.torture.attacks import Attack, attacks
from benchmarks.torture.bystander import bystander
from benchmarks.torture.result import Result
from harness.server import Server, quick_server

CONNECTIONS = 4  # at a time, each kept alive: twice the cores of a small machine
PATIENCE = 30.0  # seconds, after which an answer is said to hang
MOST_SECONDS = 0.05  # p99 of a rejection
MOST_WAIT_MS, LONGEST_WAIT_MS = 100.0, 300.0  # another client's for /healthz: p99, and ever
MOST_HEADER_MS, MOST_HEADER_BYTES = 50.0, 32_000_000

# Small, so that what passes for a picture is computed soon and the formula leaves little.
SETTINGS = {
    "max_requests": 16,
    "max_upload_bytes": 64 * 2**20,
    "max_pixels": 4_000_000,
    "band_bytes": 4 * 2**20,
    "threads": 2,
}


@dataclass
class Tally:
    """``answers`` by status and code; ``seconds`` of rejections; ``worst`` tells what got no proper answer."""

    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    seconds: list[tuple[float, str]] = field(default_factory=list)
    worst: list[str] = field(default_factory=list)
    hangs: int = 0

    def add(self, attack: Attack, status: int, code: str, seconds: float) -> None:
        self.answers[status, code] += 1
        if status >= 500:
            self.worst.append(f"{status} {code}: {attack.kind}")
        if 400 <= status < 500:
            self.seconds.append((seconds, attack.kind))

    def count(self, hundreds: int) -> int:
        return sum(count for (status, _), count in self.answers.items() if status // 100 == hundreds)


def fire(server: Server, attack: Attack, connection: http.client.HTTPConnection, tally: Tally) -> None:
    """One request on a connection that is kept alive for as long as the server will."""
    started = time.perf_counter()
    try:
        with suppress(ConnectionError):  # refused, and closed, before all of it is sent
            connection.request("POST", attack.target, attack.body, attack.headers)
        answer = connection.getresponse()
        content = answer.read()
    except TimeoutError:
        tally.hangs += 1
        tally.worst.append(f"hang: {attack.kind}")
        connection.close()
    except (http.client.HTTPException, OSError) as error:
        tally.worst.append(f"{error!r}: {attack.kind}")
        connection.close()
    else:
        seconds = time.perf_counter() - started
        problem = answer.headers.get_content_type() == "application/problem+json"
        tally.add(attack, answer.status, json.loads(content)["code"] if problem else "", seconds)


def assault(server: Server, todo: Iterator[Attack]) -> Tally:
    """All of it, over ``CONNECTIONS`` connections at a time."""
    tally, taking = Tally(), threading.Lock()

    def one_client() -> None:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
        while True:
            with taking:
                attack = next(todo, None)
            if attack is None:
                return connection.close()
            fire(server, attack, connection, tally)

    threads = [threading.Thread(target=one_client) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def measure(inputs: int, seed: int = 1, most_seconds: float = MOST_SECONDS) -> Result:
    """``most_seconds``: p99 of a rejection; if infinite, nothing else that depends on the machine counts either."""
    settings = {name: str(value) for name, value in SETTINGS.items()}
    with quick_server(**settings) as server:
        started = time.perf_counter()
        with bystander(server) as waits:
            tally = assault(server, attacks(inputs, seed))
        elapsed = time.perf_counter() - started
        dead = server.process.poll() is not None
        peak = 0 if dead else server.peak_memory()
        bugs = server.log().count("Traceback")
    most = Settings(**nested({f"{PREFIX}{name.upper()}": value for name, value in settings.items()})).most_bytes
    slow = [seconds for seconds, _ in tally.seconds]
    p99, waited, longest = percentile(slow, 99), waits.p99("healthz"), waits.longest("healthz")
    without_bombs = percentile([s for s, kind in tally.seconds if kind.startswith(("cut", "mutated"))], 99)
    figure = (
        f"{inputs:,} inputs: {tally.count(5)} of 5xx, {dead:d} crashes, {bugs} tracebacks, {tally.hangs} hangs, "
        f"{len(tally.worst)} without a proper answer; rejection p50 {1000 * percentile(slow, 50):.1f} ms, "
        f"p99 {1000 * p99:.1f} ms at {CONNECTIONS} connections; another client's /healthz p99 {waited:.1f} ms, at most "
        f"{longest:.0f} ms; peak {peak / 1e6:.0f} MB of {most / 1e6:.0f} MB by the formula"
    )
    kept = not (dead or bugs or tally.worst) and sum(tally.answers.values()) == inputs and peak <= most
    if most_seconds < float("inf"):
        kept = kept and p99 < most_seconds and waited < MOST_WAIT_MS and longest < LONGEST_WAIT_MS
    details: dict[str, object] = {
        "answers": {f"{status} {code}".strip(): count for (status, code), count in tally.answers.most_common()},
        "p99_ms_of_cuts_and_mutations": round(1000 * without_bombs, 1),
        "estimate_ms": {"p99": round(waits.p99("estimate"), 1), "max": round(waits.longest("estimate"), 1)},
        "healthz_asked": len(waits.seconds["healthz"]),
        "slowest": [f"{1000 * s:.0f} ms {kind}" for s, kind in sorted(tally.seconds, reverse=True)[:10]],
        "worst": tally.worst[:20],
        "inputs_a_second": round(inputs / elapsed),
    }
    return Result(1, "hostile inputs: no 5xx, no crash, no hang; p99 of a rejection < 50 ms", figure, kept, details)


def measure_headers(lies: int, seed: int = 2, most_ms: float = MOST_HEADER_MS) -> Result:
    """The dearest header of the corpus and of so many lies more, read alone in this process: processor time, memory."""
    files = chain(semantics.corpus().items(), islice(semantics.lies(seed), lies))
    costs = [(*cost_of(data), kind) for kind, data in files]
    ms, slowest = max((ms, kind) for ms, _, kind in costs)
    size, largest = max((size, kind) for _, size, kind in costs)
    figure = (
        f"{len(costs):,} headers: the dearest takes {ms:.1f} ms of a core ({slowest}), the largest {size / 1e6:.1f} MB "
        f"({largest})"
    )
    kept = ms < most_ms and size < MOST_HEADER_BYTES
    dearest = [f"{ms:.1f} ms, {size / 1e6:.1f} MB: {kind}" for ms, size, kind in sorted(costs, reverse=True)[:10]]
    return Result(1, "the dearest header < 50 ms and < 32 MB", figure, kept, {"dearest": dearest})


def cost_of(data: bytes) -> tuple[float, int]:
    """Milliseconds of a core, the better of two, and the most bytes held, beside the file's own."""

    def read() -> None:  # all that is done with a header before an image is decoded
        with suppress(EnlargerError):
            far_curve(read_container(data, DecodeLimits()).icc_profile)

    seconds = []
    for _ in range(2):
        started = time.thread_time()
        read()
        seconds.append(time.thread_time() - started)
    tracemalloc.start()
    try:
        read()
        return 1000 * min(seconds), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
