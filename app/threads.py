"""Thread priorities: everything that computes, decodes or encodes runs below the one thread that answers.

With every core busy, a refusal, a health check or a client's disconnect would otherwise wait for its turn. All of them
get the same priority: a thread that waits behind ONNX Runtime's threads while it holds the interpreter's lock would
keep the answering one waiting too. Measurements, also with two levels, are in docs/promises.md.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread

NICER = 10  # of nice(2)

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_calling = threading.local()
_ahead = ThreadPoolExecutor(2, "ahead")


def give_way() -> None:
    """Lowers the calling thread's priority for good, once; threads it starts inherit that.

    Only Linux has a priority a thread; elsewhere nothing happens.
    """
    if sys.platform == "linux" and not getattr(_calling, "gives_way", False):
        os.nice(NICER)
        _calling.gives_way = True


async def run_beside(
    function: Callable[[*Arguments], Result], *arguments: *Arguments, limiter: CapacityLimiter | None = None
) -> Result:
    """What ``function(*arguments)`` returns or raises, run in one of anyio's worker threads, at lower priority."""

    def run() -> Result:
        give_way()
        return function(*arguments)

    return await to_thread.run_sync(run, limiter=limiter)


async def run_ahead(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """The same in a thread of normal priority: for short work that a response depends on."""
    return await asyncio.get_running_loop().run_in_executor(_ahead, function, *arguments)


def usable_cores() -> int:
    """CPU cores this process may really use: its affinity, cut by a cgroup quota (v2 ``cpu.max``) if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, -(-int(quota) // int(period))))
