"""Keeps one worker alive: ``enlarger serve --supervise``, which becomes this process. Nothing heavy is imported
here.

It owns the listening socket, so that connections wait while a crashed worker (a codec, a driver, kill -9) is
replaced, and remembers the images in flight at a crash: one that was in flight at two crashes is refused from then
on, by its sha256. The worker is ``enlarger serve --worker JSON``; it reports through a pipe, see ``in_flight.py``.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import FrameType

CRASHES = 2  # after which an image is refused
MOST_SUSPECTS = 500  # remembered at a time
SHORT_LIFE = 10.0  # seconds; a worker that lived for less is replaced after a doubling pause
LONGEST_PAUSE = 0.3  # seconds; a worker is ready after two or three, and must be back within five
PR_SET_PDEATHSIG = 1  # prctl(2)


class Supervisor:
    """``command`` starts a worker once ``--worker`` and its JSON are appended."""

    def __init__(self, command: Sequence[str], listener: socket.socket) -> None:
        self._command, self._listener = list(command), listener
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._restarts = 0
        self._suspects: Counter[str] = Counter()  # crashes, by sha256

    def run(self) -> int:
        """Runs until a signal, or until a worker fails before it is ready; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        pause = 0.0
        while True:
            started = time.monotonic()
            status, was_ready, in_flight = self._run_worker()
            if self._stopping or not (was_ready or self._restarts):
                return status if status >= 0 else 128 - status
            if status != 0:
                self._blame(in_flight)
            say(f"the worker ended with status {status}, {len(in_flight)} images in flight; starting another")
            pause = 0.0 if time.monotonic() - started > SHORT_LIFE else min(LONGEST_PAUSE, 2 * pause + 0.1)
            time.sleep(pause)
            if self._stopping:
                return 0
            self._restarts += 1

    def _run_worker(self) -> tuple[int, bool, list[str]]:
        """A worker's whole life: its exit status, whether it was ever ready, and the images it left unfinished."""
        reading, writing = os.pipe()
        refused = [digest for digest, crashes in self._suspects.items() if crashes >= CRASHES]
        told = {"socket": self._listener.fileno(), "pipe": writing, "refused": refused, "restarts": self._restarts}
        self._worker = subprocess.Popen(
            [*self._command, "--worker", json.dumps(told)],
            pass_fds=(self._listener.fileno(), writing),
            preexec_fn=die_with_parent,
        )
        os.close(writing)
        if self._stopping:  # the signal came before there was a worker to receive it
            self._stop(signal.SIGTERM, None)
        in_flight: dict[str, str] = {}
        was_ready = False
        with os.fdopen(reading, encoding="ascii") as lines:  # until the worker has ended, however it did
            for line in lines:
                match line.split():
                    case ["ready"]:
                        was_ready = True
                    case ["begin", key, digest]:
                        in_flight[key] = digest
                    case ["end", key]:
                        in_flight.pop(key, None)
        return self._worker.wait(), was_ready, list(in_flight.values())

    def _blame(self, in_flight: Sequence[str]) -> None:
        self._suspects.update(set(in_flight))
        for digest in list(self._suspects)[:-MOST_SUSPECTS]:
            del self._suspects[digest]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Releases the socket, so that it closes when the worker closes it, and passes the signal on."""
        self._stopping = True
        if self._worker is not None and self._worker.poll() is None:
            self._listener.close()
            self._worker.send_signal(number)


def die_with_parent() -> None:
    """In the worker: no orphan stays behind a killed supervisor (Linux only; elsewhere it may)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def say(line: str) -> None:
    print(f"enlarger supervisor: {line}", file=sys.stderr, flush=True)


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def main(arguments: Sequence[str]) -> int:
    """``arguments``: the host, the port, and the command of a worker."""
    host, port, *command = arguments
    try:
        listener = listen(host, int(port))
    except OSError as error:
        say(f"cannot listen on {host}:{port}: {error.strerror}")
        return 2
    say(f"listening on http://{host}:{listener.getsockname()[1]}")
    return Supervisor(command, listener).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
