"""Another client: asks ``/healthz`` and ``/estimate`` ten times a second until its standard input ends.

A process of its own, so that nothing but the service can keep it waiting. Prints the seconds of each answer as JSON.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.client import percentile
from harness.bodies import PICTURE
from harness.server import Server

INTERVAL = 0.1  # seconds


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> float:
    started = time.perf_counter()
    connection.request(method, path, body)
    answer = connection.getresponse()
    answer.read()
    if answer.status not in (200, 429):
        raise SystemExit(f"{path} answered {answer.status}")
    return time.perf_counter() - started


def main() -> None:
    host, port = sys.argv[1:]
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    seconds: dict[str, list[float]] = {"healthz": [], "estimate": []}
    due = time.monotonic()
    while not over.is_set():
        seconds["healthz"].append(ask(connection, "GET", "/healthz"))
        seconds["estimate"].append(ask(connection, "POST", "/estimate?model=bicubic", PICTURE))
        due = max(due + INTERVAL, time.monotonic())  # who was kept waiting does not catch up
        over.wait(due - time.monotonic())
    print(json.dumps(seconds))


class Waits:
    """How long another client waited, in milliseconds, once it is over."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def p99(self, path: str) -> float:
        return 1000 * percentile(self.seconds[path], 99)

    def longest(self, path: str) -> float:
        return 1000 * max(self.seconds[path])


@contextmanager
def bystander(server: Server) -> Iterator[Waits]:
    host, port = server.address
    command = [sys.executable, "-m", "benchmarks.torture.bystander", host, str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    waits = Waits()
    try:
        yield waits
        told, _ = process.communicate(timeout=60)
        waits.seconds = json.loads(told)
    finally:
        process.kill()


if __name__ == "__main__":
    main()
