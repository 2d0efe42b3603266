"""One call of the engine: how many windows it takes, what happens if it fails, how long it took."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from app.errors import ComputeError, EnlargerError, OutOfMemoryError, StartupError
from app.images.pixels import Pixels
from app.inference.stopping import Stopped
from app.inference.zoo import DEFAULT_STRENGTH, ModelSpec

log = logging.getLogger("enlarger.batching")

RunBatch = Callable[[ModelSpec, list[Pixels], list[float]], list[Pixels]]
"""A network, LR windows and their strengths to HR windows."""

Outcome = Pixels | EnlargerError

LANES = 2  # batches computed at a time where cores are shared; each holds the memory of a tile
MOST_WINDOWS = 16  # in a batch, however little a network costs: their results lie in the host's memory at once
KEPT = 0.95  # of what was measured, at each further batch: an average over about the last twenty
FIRST_PIXELS = 128 * 128  # what the first estimate of a network's speed counts for


class Window(NamedTuple):
    """LR pixels ``[h, w, 3]``, and how strongly a network with a strength cleans and sharpens them, 0 to 1."""

    pixels: Pixels
    strength: float = DEFAULT_STRENGTH


class Batcher:
    """Runs windows of one network and one shape together, within ``budget``: multiply-accumulates of one call.

    A budget of 0 makes batches of one, which is right on CPU: more gain nothing there. Where the engine runs out of
    memory, that network's budget is halved for good.
    """

    def __init__(self, run_batch: RunBatch, budget: int = 0) -> None:
        self._run_batch, self._budget = run_batch, budget
        self._reduced: dict[str, int] = {}  # budgets of the networks that ran out of memory, by title

    def most(self, spec: ModelSpec, pixels: int) -> int:
        """How many windows of so many LR pixels may be computed at once; at least one."""
        budget = self._reduced.get(spec.title, self._budget)
        return max(1, min(MOST_WINDOWS, budget // (pixels * max(1, spec.macs))))

    def compute(self, spec: ModelSpec, windows: list[Window]) -> list[Outcome]:
        """The HR window of each LR window, in order, or the error that befell it.

        A batch too large for the memory is computed in two halves, once. A failing window fails alone: the others of
        its batch are computed again, one by one. Raises ``Stopped`` where the thread's stop was set meanwhile.
        """
        try:
            return [*self._run(spec, windows)]
        except OutOfMemoryError as error:
            half = self._reduce(spec, windows)
            if not half:
                return [error]
            return [*self._half(spec, windows[:half]), *self._half(spec, windows[half:])]
        except EnlargerError as error:
            return [error] if len(windows) == 1 else [self._alone(spec, window) for window in windows]

    def _half(self, spec: ModelSpec, windows: list[Window]) -> list[Outcome]:
        try:
            return [*self._run(spec, windows)]
        except OutOfMemoryError as error:
            self._reduce(spec, windows)
            return [error] * len(windows)
        except EnlargerError:
            return [self._alone(spec, window) for window in windows]

    def _alone(self, spec: ModelSpec, window: Window) -> Outcome:
        try:
            return self._run(spec, [window])[0]
        except EnlargerError as error:
            return error

    def _reduce(self, spec: ModelSpec, windows: list[Window]) -> int:
        """Halves the budget to what half of these windows cost; tells how many that are, 0 of a single one."""
        half = len(windows) // 2
        if half:
            height, width = windows[0].pixels.shape[:2]
            self._reduced[spec.title] = half * height * width * max(1, spec.macs)
        log.warning("%s: out of memory with %d windows of %s", spec.title, len(windows), windows[0].pixels.shape)
        return half

    def _run(self, spec: ModelSpec, windows: list[Window]) -> list[Pixels]:
        try:
            pixels, strengths = [each.pixels for each in windows], [each.strength for each in windows]
            results = self._run_batch(spec, pixels, strengths)
            if len(results) != len(windows):
                raise ValueError(f"{len(results)} results for {len(windows)} windows")
            return results
        except StartupError as error:  # its file is gone or another since the start; the path is not for strangers
            log.error("%s cannot be loaded again: %s", spec.title, error.detail)
            raise ComputeError(f"The file of {spec.title} has changed since the service was started.") from error
        except (EnlargerError, Stopped):
            raise
        except MemoryError as error:
            raise OutOfMemoryError(f"There is not enough memory for {spec.title} at the moment.") from error
        except Exception as error:
            log.exception("a batch of %s failed", spec.title)
            raise ComputeError(f"The network {spec.title} failed on this image.") from error


class Rates:
    """Seconds a LR pixel takes each network: the first estimate until it is measured, batch by batch.

    Time over pixels of the last batches together, so that a small window, dear for its size, counts for little.
    """

    def __init__(self, first_estimate: Callable[[ModelSpec], float]) -> None:
        self._first_estimate = first_estimate
        self._measured: dict[str, tuple[float, float]] = {}  # seconds, pixels; by the network's title

    def seconds(self, spec: ModelSpec, pixels: int) -> float:
        if spec.title not in self._measured:
            self._measured[spec.title] = self._first_estimate(spec) * FIRST_PIXELS, FIRST_PIXELS
        return pixels * self.of(spec.title)

    def of(self, title: str) -> float:
        """Seconds a pixel of a network that was asked for before."""
        seconds, pixels = self._measured[title]
        return seconds / pixels

    def learn(self, spec: ModelSpec, pixels: int, seconds: float) -> None:
        self.seconds(spec, 0)
        all_seconds, all_pixels = self._measured[spec.title]
        self._measured[spec.title] = KEPT * all_seconds + seconds, KEPT * all_pixels + pixels
