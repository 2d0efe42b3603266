"""Thread priorities: everything that computes, decodes or encodes runs below the thread that serves requests.

With every core busy, a refusal, a health check or a client's disconnect would otherwise have to wait. All computing
threads get the same priority: one that waits behind ONNX Runtime's threads while it holds the GIL would keep the
serving thread waiting too. Measurements, also with two levels, are in docs/promises.md.
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
_prompt = ThreadPoolExecutor(2, "prompt")


def lower_priority() -> None:
    """Lowers the calling thread's priority, once and permanently; threads it starts inherit it.

    Only Linux has priorities per thread; elsewhere nothing happens.
    """
    if sys.platform == "linux" and not getattr(_calling, "is_lowered", False):
        os.nice(NICER)
        _calling.is_lowered = True


async def run_in_thread(
    function: Callable[[*Arguments], Result], *arguments: *Arguments, limiter: CapacityLimiter | None = None
) -> Result:
    """Runs ``function(*arguments)`` in one of anyio's worker threads, at lower priority, and returns its result."""

    def run() -> Result:
        lower_priority()
        return function(*arguments)

    return await to_thread.run_sync(run, limiter=limiter)


async def run_in_prompt_thread(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """The same in a thread of normal priority, for short work that a response depends on."""
    return await asyncio.get_running_loop().run_in_executor(_prompt, function, *arguments)


def usable_cores() -> int:
    """The CPU cores this process may use: its affinity, limited by a cgroup quota (v2 ``cpu.max``) if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, -(-int(quota) // int(period))))
