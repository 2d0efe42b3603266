"""Promise 1: hostile inputs get a 4xx, soon, and nothing worse ever happens."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.client import percentile
from benchmarks.torture.attacks import Attack, attacks
from benchmarks.torture.result import Result
from harness.server import Server, quick_server

CONNECTIONS = 4  # at a time, each kept alive: twice the cores of a small machine
PATIENCE = 30.0  # seconds, after which an answer is said to hang
MOST_SECONDS = 0.05  # p99 of a rejection


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
    with quick_server() as server:
        started = time.perf_counter()
        tally = assault(server, attacks(inputs, seed))
        elapsed = time.perf_counter() - started
        dead = server.process.poll() is not None
        bugs = server.log().count("Traceback")
    slow = [seconds for seconds, _ in tally.seconds]
    p99 = percentile(slow, 99)
    without_bombs = percentile([s for s, kind in tally.seconds if not kind.startswith("bomb")], 99)
    figure = (
        f"{inputs:,} inputs: {tally.count(5)} of 5xx, {dead:d} crashes, {bugs} tracebacks, {tally.hangs} hangs, "
        f"{len(tally.worst)} without a proper answer; rejection p50 {1000 * percentile(slow, 50):.1f} ms, "
        f"p99 {1000 * p99:.1f} ms at {CONNECTIONS} connections"
    )
    kept = not (dead or bugs or tally.worst) and sum(tally.answers.values()) == inputs and p99 < most_seconds
    details: dict[str, object] = {
        "answers": {f"{status} {code}".strip(): count for (status, code), count in tally.answers.most_common()},
        "p99_ms_without_bombs": round(1000 * without_bombs, 1),
        "slowest": [f"{1000 * s:.0f} ms {kind}" for s, kind in sorted(tally.seconds, reverse=True)[:10]],
        "worst": tally.worst[:20],
        "inputs_a_second": round(inputs / elapsed),
    }
    return Result(1, "hostile inputs: no 5xx, no crash, no hang; p99 of a rejection < 50 ms", figure, kept, details)
