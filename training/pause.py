"""Lending the cores: a run stops computing on request, within a step, and goes on by itself.

``<runs>/pause`` tells until when. A run holds ``<runs>/cores.lock`` shared while it computes, so who takes it for
himself alone knows that all of them stand still.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 60.0  # minutes: a pause that nobody ends
POLL_SECONDS = 0.5


def requested(runs: Path) -> bool:
    try:
        return time.time() < float((runs / "pause").read_text())
    except (FileNotFoundError, ValueError):
        return False


def pause(runs: Path, minutes: float = LONGEST) -> None:
    """Returns once no run computes any more; they go on after ``minutes``, or at ``resume``."""
    runs.mkdir(parents=True, exist_ok=True)
    part = runs / "pause.part"
    part.write_text(str(time.time() + 60 * minutes))
    part.replace(runs / "pause")
    with open(runs / "cores.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def resume(runs: Path) -> None:
    (runs / "pause").unlink(missing_ok=True)


class Cores:
    """What a training loop asks before every step."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._lock = open(runs / "cores.lock", "w")  # noqa: SIM115 - held as long as the run computes
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def wait(self) -> None:
        """Returns when the cores may be used: at once, but for a pause."""
        if not requested(self._runs):
            return
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        while requested(self._runs):
            time.sleep(POLL_SECONDS)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        self._lock.close()


@contextmanager
def cores(runs: Path) -> Iterator[Cores]:
    held = Cores(runs)
    try:
        yield held
    finally:
        held.close()
