"""A real server process on a real port, and how to talk to it."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import httpx

from harness import ROOT
from harness.zoo import small_zoo

QUICK = ("bicubic", "espcn", "fast")
SERVE = ("-m", "app.cli", "serve", "--port", "0")


BICUBIC = {"model": "bicubic", "scale": "4", "format": "png"}


@contextmanager
def running_server(
    program: Sequence[str] = SERVE, networks: Sequence[str] = (), **environment: str
) -> Iterator["Server"]:
    """``enlarger serve`` as its own process on a free port, ended with SIGTERM; settings as ``ENLARGER_<NAME>``, and
    names in capitals as they are.

    It serves these shipped ``networks``, the first of which is the default; without any all of them, or those of the
    folder ``models``.
    """
    if networks:
        environment.setdefault("models", str(small_zoo(*networks)))
    with tempfile.TemporaryFile("w+") as log:
        process = start_server(log, program, **environment)
        try:
            yield Server(process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=40)
            finally:
                process.kill()


def quick_server(program: Sequence[str] = SERVE, **environment: str) -> AbstractContextManager["Server"]:
    """The same with three quick networks, of which ``bicubic`` is the default: it starts in a second."""
    return running_server(program, QUICK, **environment)


def start_server(log: IO[str], program: Sequence[str] = SERVE, **environment: str) -> subprocess.Popen[str]:
    settings = {name if name.isupper() else f"ENLARGER_{name.upper()}": value for name, value in environment.items()}
    command = [sys.executable, *program]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log, text=True)


class Server:
    """A running service: its process, its URL, its log and a client for it."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.process, self._log = process, log
        self.wait_until(lambda: "Uvicorn running on" in self.log() or process.poll() is not None, seconds=240)
        found = re.search(r"Uvicorn running on (http://\S+)", self.log())
        if not found:
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        self.url = found.group(1)
        host, port = self.url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def log(self) -> str:
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode()

    def connect(self, data: bytes, receive_buffer: int = 0) -> socket.socket:
        """A bare connection on which ``data`` was sent; ``receive_buffer``: bytes the kernel may hold for it."""
        bare = socket.socket()
        if receive_buffer:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        bare.settimeout(60)
        bare.connect(self.address)
        bare.sendall(data)
        return bare

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def peak_memory(self) -> int:
        """Peak resident bytes of the process so far."""
        return self._status_bytes("VmHWM")

    def memory(self) -> int:
        """Resident bytes of the process now."""
        return self._status_bytes("VmRSS")

    def _status_bytes(self, field: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{field}:\s+(\d+) kB", status)
        assert found
        return int(found.group(1)) * 1024

    def open_files(self) -> int:
        """Files and connections the process holds open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def wait_until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Polls until ``condition()`` is true; fails the test otherwise."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the server did not get there in time"
            time.sleep(0.02)


def head(length: int | None, target: str = "/upscale", version: str = "1.1", **headers: str) -> bytes:
    """The head of a POST as it goes over the wire; without a length the body is chunked."""
    lines = [f"POST {target} HTTP/{version}", "Host: test", *(f"{name}: {value}" for name, value in headers.items())]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
