"""Who gives way: the networks' threads to the one that answers, and those that decode and encode to both.

With every core busy, a refusal, a health check or the word that a client has left would otherwise wait for its turn.
ONNX Runtime's threads share out each layer and then wait for one another, so one that is kept from its core idles all.
What was measured, and where it does not suffice, is in docs/promises.md.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread

NETWORKS, PICTURES = 5, 10  # of nice(2)

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_calling = threading.local()


def give_way(by: int) -> None:
    """Lowers the calling thread's priority for good, once; threads it starts inherit that.

    Only Linux has a priority a thread; elsewhere nothing happens.
    """
    if sys.platform == "linux" and not getattr(_calling, "gives_way", False):
        os.nice(by)
        _calling.gives_way = True


async def run_beside(
    function: Callable[[*Arguments], Result], *arguments: *Arguments, limiter: CapacityLimiter | None = None
) -> Result:
    """What ``function(*arguments)`` returns or raises, run in one of anyio's worker threads, which gives way."""

    def run() -> Result:
        give_way(PICTURES)
        return function(*arguments)

    return await to_thread.run_sync(run, limiter=limiter)
