"""A small picture beside a large one: ``python -m benchmarks.fairness [--large 6000x4000] [--small 316x316]``

The seconds of the small one alone and while the large one is computed. Promised (issue 4): at most three times.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.client import percentile, picture, post
from harness.server import running_server


def size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=size, default=(6000, 4000), metavar="WxH")
    parser.add_argument("--small", type=size, default=(316, 316), metavar="WxH")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    small, large = picture(*options.small), picture(*options.large)
    with running_server(request_deadline_seconds="3600", max_queue_seconds="3600") as server:
        post(server, small, model=options.model, scale=4)
        alone = [post(server, small, model=options.model, scale=4).seconds for _ in range(options.runs)]
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(post, server, large, model=options.model, scale=4)
            time.sleep(max(2.0, 2 * percentile(alone, 50)))  # until it is decoded and its tiles are queued
            beside = []
            while len(beside) < options.runs and not other.done():
                beside.append(post(server, small, model=options.model, scale=4).seconds)
            if not beside:
                raise SystemExit("the large picture was done before the small one was asked for; take a larger one")
            seconds = other.result().seconds
    print(f"{options.model} x4: small alone {percentile(alone, 50):.2f} s (worst {max(alone):.2f})")
    print(
        f"beside a large one of {seconds:.0f} s: {percentile(beside, 50):.2f} s (worst {max(beside):.2f}), "
        f"ratio {percentile(beside, 50) / percentile(alone, 50):.2f} (worst {max(beside) / percentile(alone, 50):.2f})"
    )


if __name__ == "__main__":
    main()
