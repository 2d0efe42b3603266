"""Promises 5 and 6: under more load than it can bear, what it does take it finishes, each request once and in time."""

import http.client
import itertools
import json
import threading
import time
from argparse import Namespace
from collections import Counter
from statistics import fmean, median
from urllib.parse import urlencode

import httpx

from benchmarks.client import Answer, percentile, picture
from benchmarks.load import capacity, load
from benchmarks.torture.result import Result
from harness.pictures import crop
from harness.server import BICUBIC, Server, quick_server, running_server

FACTOR = 5
LEAST_GOODPUT = 0.9
QUEUE_SECONDS = 2.0
NETWORK = "fast"  # the lightest trained one: the more pictures a second, the more refusals are to be paid for
SIDE = 256  # LR pixels
LOOK = 0.5  # seconds

DEADLINE = 10.0  # seconds
LATE = 1.0  # seconds of grace: what was computed in time is still to be sent
CLIENTS = 24
LEAVES_EVERY = 20  # of so many clients' requests one is given up as soon as it is sent


class Watch:
    """The longest queue seen meanwhile, in estimated seconds. Ten looks a second took a tenth of the goodput."""

    def __init__(self, server: Server) -> None:
        self._url, self.longest, self._over = f"{server.url}/metrics", 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._over.wait(LOOK):
                (line,) = (
                    x for x in client.get(self._url).text.splitlines() if x.startswith("enlarger_queue_seconds ")
                )
                self.longest = max(self.longest, float(line.split()[1]))


def measure_goodput(
    seconds: float,
    rounds: int = 3,
    least: float = LEAST_GOODPUT,
    queue_seconds: float = QUEUE_SECONDS,
    most_queue: float = 2 * QUEUE_SECONDS,
) -> Result:
    """Peak and overload in turn, since the machine's own pace changes; the median of the rounds counts."""
    body = picture(SIDE, SIDE)
    options = Namespace(model=NETWORK, seconds=seconds)
    goodputs: list[float] = []
    answers: list[Answer] = []
    settings = {"max_queue_seconds": str(queue_seconds)}
    with running_server(networks=(NETWORK,), **settings) as server:
        peaks = [capacity(server, body, options)]
        with Watch(server) as watch:
            for _ in range(rounds):
                came, elapsed = load(server, body, FACTOR * peaks[-1], options)
                peaks.append(capacity(server, body, options))
                goodputs.append(sum(answer.whole for answer in came) / elapsed / fmean(peaks[-2:]))
                answers += came
    refused = [answer.seconds for answer in answers if answer.status == 429]
    others = sum(not answer.whole and answer.status != 429 for answer in answers)
    goodput = median(goodputs)
    figure = (
        f"{NETWORK} x4, {FACTOR} x {fmean(peaks):.1f} pictures/s: goodput {goodput:.0%} of what two clients get, "
        f"{len(refused)} of {len(answers)} refused (p50 {1000 * percentile(refused, 50):.0f} ms, "
        f"p99 {1000 * percentile(refused, 99):.0f} ms), {others} lost; "
        f"queue at most {watch.longest:.2f} s of {queue_seconds:g} s"
    )
    kept = goodput >= least and not others and bool(refused) and watch.longest < most_queue
    details: dict[str, object] = {"goodputs": goodputs, "peaks": peaks}
    return Result(5, "queue bounded; at 5 x load goodput >= 90 % of the peak", figure, kept, details)


class Crowd:
    """Clients who ask until enough was taken. ``seen``: by request id, the status, "left" or "lost"."""

    def __init__(self, server: Server, accepted: int) -> None:
        self._server, self._wanted = server, accepted
        self._body, self._target = crop(48, 48), f"/upscale?{urlencode(BICUBIC)}"
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self.seen: dict[str, str] = {}
        self.taken = 0

    def run(self) -> None:
        threads = [threading.Thread(target=self._one_client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _one_client(self) -> None:
        connection = http.client.HTTPConnection(*self._server.address, timeout=60)
        while self.taken < self._wanted:
            number = next(self._numbers)
            end = self._ask(connection, f"n{number}", leaves=number % LEAVES_EVERY == 0)
            with self._lock:
                self.seen[f"n{number}"] = end
                self.taken += end not in ("429", "left")
            if end in ("left", "lost"):
                connection.close()
            elif end == "429":
                time.sleep(0.1)  # in place of the second or more that it was told
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, told: str, leaves: bool) -> str:
        try:
            connection.request("POST", self._target, self._body, {"X-Request-Id": told})
            if leaves:
                return "left"
            answer = connection.getresponse()
            whole = answer.read().endswith(b"IEND\xaeB`\x82")
        except (http.client.HTTPException, OSError):
            return "lost"
        return str(answer.status) if answer.status != 200 or whole else "short"


def told(server: Server) -> dict[str, list[dict[str, object]]]:
    """The log's lines of requests, by id."""
    lines: dict[str, list[dict[str, object]]] = {}
    for text in server.log().split("\n")[:-1]:
        line = json.loads(text) if text.startswith("{") else {}
        if line.get("path") == "/upscale":
            lines.setdefault(str(line["request_id"]), []).append(line)
    return lines


def measure_outcomes(accepted: int, late: float = LATE) -> Result:
    settings = {"log_format": "json", "max_queue_seconds": "0.05", "request_deadline_seconds": str(DEADLINE)}
    with quick_server(**settings) as server:
        crowd = Crowd(server, accepted)
        crowd.run()
        server.wait_until(lambda: "enlarger_jobs 0.0" in httpx.get(f"{server.url}/metrics").text, 60)
        answered = {number for number, end in crowd.seen.items() if end.isdigit()}
        server.wait_until(lambda: answered <= set(told(server)), 60)  # a line is written after the answer
        lines = told(server)
    ends, wrong = Counter(crowd.seen.values()), []
    slowest = 0.0
    for number, end in crowd.seen.items():
        found = lines.get(number, [])
        slowest = max([slowest, *(float(str(line["seconds"])) for line in found)])
        if end == "left":
            wrong += [number] * (len(found) > 1)  # one that left before its headers were read leaves no line
        elif [str(line["status"]) for line in found] != [end]:
            wrong.append(number)
    figure = (
        f"{crowd.taken:,} accepted ({ends['429']:,} refused, {ends['left']} left): {ends['200']:,} whole, "
        f"{ends['lost'] + ends['short']} lost or short, {len(wrong)} without exactly one outcome; "
        f"slowest {slowest:.1f} s of {DEADLINE:.0f} s"
    )
    kept = not wrong and set(ends) <= {"200", "429", "left", "503", "504"} and slowest < DEADLINE + late
    details: dict[str, object] = {"ends": dict(ends), "wrong": wrong[:20], "logged": len(lines)}
    return Result(6, "accepted requests: exactly one outcome each, by the deadline", figure, kept, details)
