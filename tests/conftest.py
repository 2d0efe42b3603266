"""Shared parts of the tests: real pictures, and a real server process on a real port."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    settings = {f"ENLARGER_{name.upper()}": value for name, value in environment.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, **settings},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=40)
        finally:
            process.kill()
            assert process.stderr is not None
            process.stderr.close()


class Server:
    """A running service: its process, its URL, and a client for it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = self._wait_for_url()
        host, port = self.url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def _wait_for_url(self) -> str:
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if found := re.search(r"Uvicorn running on (http://\S+)", line):
                return found.group(1)
        raise RuntimeError("the server did not start:\n" + "".join(seen))

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def peak_memory(self) -> int:
        """Peak resident bytes of the process so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found.group(1)) * 1024

    def wait_until(self, condition, seconds: float = 10) -> None:
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
