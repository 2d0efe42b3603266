"""A service under its supervisor, as processes of their own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from harness import ROOT
from harness.zoo import small_zoo

BICUBIC = {"model": "bicubic", "scale": "2", "format": "png"}
PATIENCE = 300.0  # seconds; how long a start takes depends on who else uses the cores


class Supervised:
    """A supervisor on a free port, with a worker below it that serves these shipped ``networks``, or all of them."""

    def __init__(self, log: Path, *worker: str, networks: Sequence[str] = ()) -> None:
        self._log = log
        command = [sys.executable, "-m", "app.supervisor", "127.0.0.1", "0", *worker]
        environment = {**os.environ, "ENLARGER_DRAIN_SECONDS": "20"}
        if networks:
            environment["ENLARGER_MODELS"] = str(small_zoo(*networks))
        with log.open("w") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
        found = self.wait_for(r"listening on (http://\S+)")
        self.url = found.group(1)

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        end = time.monotonic() + PATIENCE
        while len(found := list(re.finditer(pattern, self.log()))) < times:
            assert time.monotonic() < end, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)
        return found[-1]

    def worker(self) -> int:
        """The process id of the newest worker that has started."""
        return int(self.wait_for(r"Started server process \[(\d+)\]").group(1))

    def post(self, image: bytes) -> httpx.Response:
        return httpx.post(f"{self.url}/upscale", content=image, params=BICUBIC, timeout=PATIENCE)
