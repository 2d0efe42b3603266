"""The runtime interface of the engine: loads a network's file, runs batches, and describes itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.images.pixels import Pixels

Strengths = NDArray[np.float32]
"""How strongly a network cleans and sharpens each window of a batch: ``[N]``, 0 to 1."""

ALL_OUTPUTS = ""
OUTPUTS = {"uint8": "upscaled", "uint16": "upscaled16"}  # of the one face, by the dtype of a run's input
FILES = {"bf16": "fp32"}  # the file that a precision runs, if its name differs


@dataclass(frozen=True)
class Value:
    """An input or output; ``kind`` in ONNX's notation: ``tensor(float)``. Open dimensions are not numbers."""

    name: str
    kind: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Face:
    """The inputs and outputs that a file declares, and its ``metadata_props``."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """The file of the network ``title``: ``data`` is verified, ``path`` names it; ``precision`` is the requested
    one.

    ``output``: the one that will be fetched, or ``ALL_OUTPUTS``. ``macs``: multiply-accumulates per LR pixel.
    """

    title: str
    path: str
    data: bytes
    scale: int
    precision: str
    output: str = ALL_OUTPUTS
    macs: int = 0


class Session(Protocol):
    """A loaded network, for one or more concurrent threads, as requested from ``Runtime.load``.

    ``provider`` and ``precision`` are read back from what was really loaded.
    """

    @property
    def provider(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def face(self) -> Face: ...

    def run(self, batch: Pixels, strength: Strengths | None = None) -> Pixels:
        """LR ``[N, h, w, 3]`` to HR ``[N, h * scale, w * scale, 3]`` of the same depth, in newly allocated memory.

        ``strength`` is given if the network has that input, and only then.
        Raises ``OutOfMemoryError``, or one of the runtime's ``errors``.
        """

    def release(self) -> None:
        """Releases what is held outside the process' own memory; the session must not be used afterwards."""


class Runtime(Protocol):
    """``name``: a provider's, as in the settings. ``precisions``: those that it runs, the one for "auto" first.

    ``depths``: the dtypes of images that it accepts. ``errors``: what a run may raise. ``on_gpu``: batches pay off,
    and sessions are expensive to make.
    """

    @property
    def name(self) -> str: ...

    @property
    def precisions(self) -> Sequence[str]: ...

    @property
    def depths(self) -> Sequence[str]: ...

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...

    @property
    def on_gpu(self) -> bool: ...

    def load(self, source: Source, threads: int, callers: int = 1) -> Session:
        """A session that ``callers`` threads may run concurrently, each with ``threads`` threads, including itself.

        Raises ``ModelFileError`` or ``ProviderError``.
        """
