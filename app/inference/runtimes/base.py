"""What the engine asks of a runtime: to load a network's file, to run batches, to tell what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.images.pixels import Pixels

ALL_OUTPUTS = ""
OUTPUTS = {"uint8": "upscaled", "uint16": "upscaled16"}  # of the one face, by the depth of what a run is shown
FILES = {"bf16": "fp32"}  # which of a network's files a precision runs, where they are not called the same


@dataclass(frozen=True)
class Value:
    """An input or output; ``kind`` as ONNX writes it: ``tensor(float)``. Open dimensions are no numbers."""

    name: str
    kind: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Face:
    """What a file says it takes and gives, and its ``metadata_props``."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """The file of a network of that title: ``data`` is proven, ``path`` its name; ``precision`` is what is asked for.

    ``output``: the one that will be fetched, or ``ALL_OUTPUTS``. ``macs``: multiply-accumulates of a LR pixel.
    """

    title: str
    path: str
    data: bytes
    scale: int
    precision: str
    output: str = ALL_OUTPUTS
    macs: int = 0


class Session(Protocol):
    """A network that is loaded, for one or more threads at a time, as ``Runtime.load`` was told.

    ``provider`` and ``precision`` are read back from what was really made.
    """

    @property
    def provider(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def face(self) -> Face: ...

    def run(self, batch: Pixels) -> Pixels:
        """LR ``[N, h, w, 3]`` to HR ``[N, h * scale, w * scale, 3]`` of the same depth, in memory of its own.

        Raises ``OutOfMemoryError``, or one of the runtime's ``errors``.
        """

    def release(self) -> None:
        """Gives back what is held beside the process' own memory; the session is used no more."""


class Runtime(Protocol):
    """``name`` is a provider's, as the settings have it. ``precisions``: what it runs, the one for "auto" first.

    ``depths``: the dtypes of images it may be shown. ``errors``: what a run may raise. ``on_gpu``: batches pay, and
    sessions are expensive to make.
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
        """A session that ``callers`` may run at a time, each with so many threads, its own among them.

        Raises ``ModelFileError`` or ``ProviderError``.
        """
