"""Shared parts of the tests: real pictures, and a real server process on a real port."""

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"


@contextmanager
def running_server(**environment: str) -> Iterator["Server"]:
    """``enlarger serve`` as its own process on a free port, ended with SIGTERM; settings as ``ENLARGER_<NAME>``."""
    with tempfile.TemporaryFile("w+") as log:
        process = start_server(log, **environment)
        try:
            yield Server(process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=40)
            finally:
                process.kill()


def start_server(log: IO[str], **environment: str) -> subprocess.Popen[str]:
    settings = {f"ENLARGER_{name.upper()}": value for name, value in environment.items()}
    command = [sys.executable, "-m", "app.cli", "serve", "--port", "0"]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log, text=True)


class Server:
    """A running service: its process, its URL, its log and a client for it."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.process, self._log = process, log
        self.wait_until(lambda: "Uvicorn running on" in self.log() or process.poll() is not None, seconds=60)
        found = re.search(r"Uvicorn running on (http://\S+)", self.log())
        if not found:
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        self.url = found.group(1)
        host, port = self.url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def log(self) -> str:
        return os.pread(self._log.fileno(), 10_000_000, 0).decode()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def peak_memory(self) -> int:
        """Peak resident bytes of the process so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found.group(1)) * 1024

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
