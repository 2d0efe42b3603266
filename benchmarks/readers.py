"""Slow readers: ``python -m benchmarks.readers [--readers 50] [--side 1024] [--seconds 30]``

So many clients ask for a picture and read it at 1 kB/s; printed is what each of them adds to the server's memory, at
most and at the end. Promised (issue 4): less than 8 MB.
"""

import argparse
import socket
import time
from contextlib import suppress

from benchmarks.client import picture, post
from harness.server import Server, head, running_server

PACE = 1000  # bytes a second
RECEIVE_BUFFER = 4096


def sip(readers: list[socket.socket], seconds: float, server: Server) -> float:
    """Every reader takes its bytes each second; the most memory seen meanwhile."""
    most, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        for reader in readers:
            with suppress(BlockingIOError):  # nothing has come yet
                reader.recv(PACE)
        most = max(most, server.memory() / 1e6)
        time.sleep(max(0.0, begun + 1 - time.monotonic()))
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--side", type=int, default=1024, help="LR pixels of the square pictures")
    parser.add_argument("--seconds", type=float, default=30, help="to read after the last has its first byte")
    parser.add_argument("--model", default="espcn")
    options = parser.parse_args()
    body = picture(options.side, options.side)
    target = f"/upscale?model={options.model}&scale=4&format=png"
    with running_server(send_seconds="3600", request_deadline_seconds="3600", max_queue_seconds="3600") as server:
        for _ in range(2):
            post(server, body, model=options.model, scale=4, format="png")
        base = server.memory() / 1e6
        readers = [server.connect(head(len(body), target) + body, RECEIVE_BUFFER) for _ in range(options.readers)]
        for reader in readers:
            reader.settimeout(600)
            if not reader.recv(64).startswith(b"HTTP/1.1 200"):
                raise SystemExit("a reader was refused")
            reader.setblocking(False)
        most = sip(readers, options.seconds, server)
        last = server.memory() / 1e6
        for reader in readers:
            reader.close()
    print(f"{options.readers} readers of {options.side} x {options.side} x4: {base:.0f} MB without them")
    most, last = ((value - base) / options.readers for value in (most, last))
    print(f"at most {most:.1f} MB each, in the end {last:.1f} MB each")


if __name__ == "__main__":
    main()
