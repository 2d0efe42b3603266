"""Open-loop load, whatever becomes of it: ``python -m benchmarks.load [--factors 0.5 1 2 5] [--seconds 20]``

First the capacity: pictures a second that two clients get who each ask again as soon as they have an answer. Then
requests at so many times that pace, however many are still open. Promised (issue 4): goodput of at least 0.9 of the
capacity at five times as much, 429 within 20 ms, no accepted picture lost, ``Retry-After`` within a factor of 1.5.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.client import Answer, closed_loop, percentile, picture, post
from harness.server import Server, running_server

FILL = 4.0  # seconds of work beyond the limit, for the trial of Retry-After
POLL = 0.1  # seconds between two trials whether there is room
THREADS = 512


def capacity(server: Server, body: bytes, options: argparse.Namespace) -> float:
    """Pictures a second."""
    answers, seconds = closed_loop(server, body, 2, options.seconds, model=options.model, scale=4, format="png")
    return sum(answer.whole for answer in answers) / seconds


def load(server: Server, body: bytes, pace: float, options: argparse.Namespace) -> tuple[list[Answer], float]:
    """All answers to ``pace`` requests a second, and the seconds from the first request to the last answer."""
    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        futures = []
        for index in range(max(1, round(pace * options.seconds))):
            time.sleep(max(0.0, started + index / pace - time.perf_counter()))
            futures.append(pool.submit(post, server, body, model=options.model, scale=4, format="png"))
        answers = [future.result() for future in futures]
    return answers, time.perf_counter() - started


def report(factor: float, answers: list[Answer], seconds: float, peak: float) -> str:
    whole = [a.seconds for a in answers if a.whole]
    refused = [a for a in answers if a.status == 429]
    lost = len(answers) - len(whole) - len(refused)
    return (
        f"{factor:5.1f}{len(answers):9}{len(whole) / seconds / peak:10.2f}{percentile(whole, 50):9.2f}"
        f"{percentile(whole, 99):9.2f}{len(refused) / len(answers):9.0%}"
        f"{1000 * percentile([a.seconds for a in refused], 50):10.0f}"
        f"{1000 * percentile([a.seconds for a in refused], 99):10.0f}{lost:6}"
    )


def retry_after(server: Server, peak: float, options: argparse.Namespace) -> tuple[float, float]:
    """What a refused request was told, and after how long one was really taken; nobody else asks meanwhile.

    The queue is filled by one picture of more work than it may hold.
    """
    tiny = picture(16, 16)
    side = round(options.side * ((options.queue_seconds + FILL) * peak) ** 0.5)
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(post, server, picture(side, side), model=options.model, scale=4)
        while (refused := post(server, tiny, model=options.model)).status != 429:
            if filling.done():
                raise SystemExit(f"the queue was never full: {filling.result()}")
            time.sleep(POLL)
        started = time.perf_counter()
        while post(server, tiny, model=options.model).status == 429:
            time.sleep(POLL)
        truth = time.perf_counter() - started
    return refused.retry_after, truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 1, 2, 5])
    parser.add_argument("--seconds", type=float, default=20, help="of load for each factor")
    parser.add_argument("--side", type=int, default=512, help="LR pixels of the square pictures")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--queue-seconds", type=float, default=5)
    options = parser.parse_args()
    body = picture(options.side, options.side)
    with running_server(max_queue_seconds=str(options.queue_seconds)) as server:
        post(server, body, model=options.model, scale=4)
        peak = capacity(server, body, options)
        print(f"{options.model} x4, {options.side} x {options.side}: {peak:.2f} pictures/s with two clients")
        print(
            f"{'load':>5}{'requests':>9}{'goodput':>10}{'p50 s':>9}{'p99 s':>9}{'429':>9}"
            f"{'p50 ms':>10}{'p99 ms':>10}{'lost':>6}"
        )
        for factor in options.factors:
            answers, seconds = load(server, body, factor * peak, options)
            print(report(factor, answers, seconds, peak), flush=True)
        told, truth = retry_after(server, peak, options)
        print(f"Retry-After: {told:.0f} s told, {truth:.1f} s true, ratio {told / truth:.2f}")


if __name__ == "__main__":
    main()
