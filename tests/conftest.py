"""Shared parts of the tests: real pictures, and a real server process on a real port."""

import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, settings
from PIL import Image

from app.engine import Engine
from app.settings import usable_cores
from app.zoo import load_zoo

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"

# How long an example takes depends on who else uses the cores: no property here is about time.
settings.register_profile("enlarger", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("enlarger")


SERVE = ("-m", "app.cli", "serve", "--port", "0")
BICUBIC = {"model": "bicubic", "scale": "4", "format": "png"}


@contextmanager
def running_server(program: Sequence[str] = SERVE, **environment: str) -> Iterator["Server"]:
    """``enlarger serve`` as its own process on a free port, ended with SIGTERM; settings as ``ENLARGER_<NAME>``."""
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


def start_server(log: IO[str], program: Sequence[str] = SERVE, **environment: str) -> subprocess.Popen[str]:
    settings = {f"ENLARGER_{name.upper()}": value for name, value in environment.items()}
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


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Every shipped network, on the CPU of this process."""
    return Engine(load_zoo(MODELS), "cpu", usable_cores())


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph: uint8 ``[300, 451, 3]``."""
    return skimage.data.chelsea()


def encode(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def head(length: int | None, target: str = "/upscale", version: str = "1.1", **headers: str) -> bytes:
    """The head of a POST as it goes over the wire; without a length the body is chunked."""
    lines = [f"POST {target} HTTP/{version}", "Host: test", *(f"{name}: {value}" for name, value in headers.items())]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
