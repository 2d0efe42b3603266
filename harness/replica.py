"""Replicas without networks: each takes jobs from a database, works on each for a while, notes in a file that it did.

A replica is forked off a process that has imported all it needs, since that takes longer than its work.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from app.jobs.book import Book
from app.jobs.records import Job, JobSpec, Result
from app.jobs.replica import Replica
from app.jobs.running import Running
from harness import ROOT

SILENCE = 2.5  # seconds after which one is thought dead


@dataclass(frozen=True)
class Order:
    """``seconds``: of work on each job that says nothing else by its parameter ``work``."""

    url: str
    notes: str
    seconds: float


class Fork:
    """A replica as a process; ``kill`` it, ``stop`` it for a while, or ``close`` it as a service does."""

    def __init__(self, pid: int, order: Order) -> None:
        self._order, self.pid, self._end = order, pid, os.pidfd_open(pid)

    def signal(self, number: signal.Signals) -> None:
        if self.lives:
            signal.pidfd_send_signal(self._end, number)

    @property
    def lives(self) -> bool:
        return not select.select([self._end], [], [], 0)[0]

    def has_noted(self, event: str) -> bool:
        return any((note["event"], note["by"]) == (event, self.pid) for note in notes_in(self._order.notes))

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait(60)

    def close(self, patience: float) -> None:
        self.signal(signal.SIGTERM)
        self.wait(patience)
        assert self.has_noted("closed")

    def wait(self, patience: float) -> None:
        assert select.select([self._end], [], [], patience)[0], "it does not end"


class Nursery:
    """The process that replicas are forked off."""

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "harness.replica"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("")

    def fork(self, order: Order) -> Fork:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return Fork(int(self._process.stdout.readline()), order)


def main() -> None:
    """A line of standard input is an order; what is written is the new replica's process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdout.fileno())
            run(Order(**json.loads(line)))
            return
        print(pid, flush=True)


def run(order: Order) -> None:
    def note(event: str, job: str = "") -> None:
        with open(order.notes, "a") as file:
            file.write(json.dumps({"event": event, "job": job, "by": os.getpid()}) + "\n")

    def perform(running: Running, spec: JobSpec) -> Result:
        note("begin", running.id)
        started, seconds = time.monotonic(), float(spec.parameters.get("work", order.seconds))
        running.follow(lambda: (min(1.0, (time.monotonic() - started) / seconds), 1.0), lambda: None)
        running.sleep(seconds)
        if spec.filename == "crash":
            os._exit(9)
        note("end", running.id)
        return Result(None, 1, running.id, "image/png", "x.png", {})

    def deliver(job: Job, attempt: int) -> None:
        note(f"told {job.status}", job.id)

    leave = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    book = Book(order.url)
    replica = Replica(book, perform, deliver, SILENCE)
    replica.start()
    note("ready")
    leave.wait()
    replica.close()
    book.close()
    note("closed")


def notes_in(path: str | Path) -> list[dict[str, str | int]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []


if __name__ == "__main__":
    main()
