"""A real nginx with the shipped configuration before real replicas, and clients who keep asking it for pictures."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness import ROOT
from harness.pictures import decoded
from harness.server import BICUBIC, Server, quick_server

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CONFIGURATION = ROOT / "deploy" / "nginx" / "nginx.conf"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Balancer:
    """A running nginx. ``address`` and ``url`` are its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.address, self.url = folder, ("127.0.0.1", port), f"http://127.0.0.1:{port}"

    def connect(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=120)
        connection.sendall(data)
        return connection

    def lines(self, requests: int) -> list[dict[str, object]]:
        """The access log once it has a line for that many requests: nginx writes one after it has answered."""
        end = time.monotonic() + 60
        while (text := (self.folder / "access.log").read_text()).count("\n") < requests:
            assert time.monotonic() < end, f"nginx has not logged {requests} requests: {text}"
            time.sleep(0.02)
        return [json.loads(line) for line in text.split("\n")[:-1]]


@contextmanager
def balancer(folder: Path, ports: Sequence[int]) -> Iterator[Balancer]:
    """The shipped configuration, but for where it listens and writes, before replicas on these ports."""
    port = free_port()
    text = CONFIGURATION.read_text()
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for old, new in {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "pid /run/nginx.pid;": f"pid {folder}/nginx.pid;",
        "/dev/stdout": f"{folder}/access.log",
        "include upstream.conf;": f"include upstream.conf;\n{paths}",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    servers = "".join(f"server 127.0.0.1:{each} max_fails=0;\n" for each in ports)
    (folder / "upstream.conf").write_text(
        f"upstream enlarger {{\nzone enlarger 256k;\nleast_conn;\n{servers}keepalive 32;\nkeepalive_timeout 60s;\n}}\n"
    )
    assert NGINX
    command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    if os.getuid() == 0:
        command[-1] += " user root;"  # its workers write below pytest's folder
    with (folder / "error.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            running = Balancer(folder, port)
            wait_for_port(running, process)
            yield running
        finally:
            process.terminate()
            process.wait(timeout=60)


def wait_for_port(running: Balancer, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(running.address) == 0:
                return
        assert process.poll() is None, (running.folder / "error.log").read_text()
        assert time.monotonic() < end, "nginx does not listen"
        time.sleep(0.05)


def replica(port: int, **settings: str) -> AbstractContextManager[Server]:
    return quick_server(("-m", "app.cli", "serve", "--port", str(port)), **settings)


class Load:
    """Clients who send one picture after another until stopped; ``failed`` tells what was no whole picture."""

    def __init__(self, url: str, image: bytes, clients: int) -> None:
        self._url, self._image = url, image
        self._stop = threading.Event()
        self.served, self.failed = 0, list[str]()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as client:
            while not self._stop.is_set():
                try:
                    response = client.post("/upscale", content=self._image, params=BICUBIC)
                    if response.status_code == 200 and decoded(response.content).shape == (160, 240, 3):
                        self.served += 1
                    else:
                        self.failed.append(f"{response.status_code} {response.text[:300]}")
                except (httpx.HTTPError, OSError) as error:
                    self.failed.append(repr(error))


def wait_for_more(load: Load, pictures: int) -> None:
    end, wanted = time.monotonic() + 120, load.served + pictures
    while load.served < wanted:
        assert not load.failed
        assert time.monotonic() < end, "the load has stopped"
        time.sleep(0.02)


@dataclass(frozen=True)
class Restarts:
    """What became of the requests meanwhile; ``retried``: how many nginx has asked a second replica for."""

    served: int
    failed: list[str]
    retried: int


def restarted_in_turn(folder: Path, image: bytes, rounds: int, **settings: str) -> Restarts:
    """Two replicas behind nginx under load, of which one after the other is ended by SIGTERM and replaced."""
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        lives = [ExitStack(), ExitStack()]
        for life, port in zip(lives, ports, strict=True):
            stack.push(life)
            life.enter_context(replica(port, drain_delay_seconds="0.5", **settings))
        running = stack.enter_context(balancer(folder, ports))
        with Load(running.url, image, clients=3) as load:
            for number in range(rounds):
                wait_for_more(load, 10)
                lives[number % 2].close()  # SIGTERM; returns when it has ended
                wait_for_more(load, 10)
                lives[number % 2].enter_context(replica(ports[number % 2], drain_delay_seconds="0.5", **settings))
        retried = sum("," in str(line["upstreams"]) for line in running.lines(load.served))
        return Restarts(load.served, load.failed, retried)
