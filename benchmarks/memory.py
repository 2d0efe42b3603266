"""Peak memory against the size of the result: ``python -m benchmarks.memory [--lr MPX...] [--model fast]``

A fresh server for each size, x4, PNG; peak resident memory of the whole process, and its ratio to that at the smallest
size. Promised (issue 4): flat within 10 % from 12 to 400 megapixels out. 50 LR megapixels are the default limit.
"""

import argparse

from benchmarks.client import picture, post
from harness.server import running_server

SIDE_RATIO = 4 / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.75, 3, 12, 25], metavar="MPX")
    parser.add_argument("--model", default="espcn", help="the speed differs, the memory hardly")
    options = parser.parse_args()
    print(f"{'LR Mpx':>8}{'HR Mpx':>8}{'idle MB':>9}{'peak MB':>9}{'ratio':>7}{'seconds':>9}")
    least = 0.0
    for megapixels in options.lr:
        height = int((megapixels * 1e6 / SIDE_RATIO) ** 0.5)
        width = int(megapixels * 1e6 / height)
        body = picture(width, height)
        with running_server(request_deadline_seconds="3600", max_queue_seconds="3600") as server:
            idle = server.peak_memory() / 1e6
            answer = post(server, body, model=options.model, scale=4, format="png")
            peak = server.peak_memory() / 1e6
        if not answer.whole:
            raise SystemExit(f"{megapixels} Mpx: status {answer.status}")
        least = least or peak
        pixels = width * height / 1e6
        print(
            f"{pixels:8.2f}{16 * pixels:8.0f}{idle:9.0f}{peak:9.0f}{peak / least:7.2f}{answer.seconds:9.1f}", flush=True
        )


if __name__ == "__main__":
    main()
