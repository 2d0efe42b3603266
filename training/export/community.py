"""``spandrel``, which reads the weights of some forty architectures, loaded without ``torchvision``.

It imports torchvision for two architectures that enlarge nothing (LaMa fills holes, RestoreFormer mends faces), and
torchvision raises on import beside a torch that it was not built for: a CPU build beside the registry's wheel, say. So
what those two import stands in for it here while ``spandrel`` is loaded; they fail if they are run.
"""

import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any, NoReturn

INSTALL = "pip install -e .[train,import] -c constraints.txt"
FUNCTIONAL = "torchvision.transforms.functional"


class InterpolationMode(Enum):
    """What torchvision calls so."""

    BILINEAR = "bilinear"


def missing(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("this architecture needs torchvision, which is not used here")


def load_spandrel() -> ModuleType:
    """The module; ``ValueError``, which says what to do, where it is not installed or does not fit its torch."""
    if "spandrel" in sys.modules:
        return sys.modules["spandrel"]
    try:
        with torchvision_replaced():
            import spandrel
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"weights are read through spandrel, which cannot be loaded ({error}); {INSTALL}") from error
    return spandrel


@contextmanager
def torchvision_replaced() -> Iterator[None]:
    """Within it ``torchvision`` is what ``spandrel`` takes of it; afterwards it is what it was."""
    names = [FUNCTIONAL.rsplit(".", count)[0] for count in (2, 1, 0)]  # a package is imported before what is in it
    held = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torchvision"}
    for name in held:
        del sys.modules[name]
    for name in names:
        module = ModuleType(name)
        module.__path__ = []
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        sys.modules[name] = module
    vars(sys.modules[FUNCTIONAL]).update(InterpolationMode=InterpolationMode, rotate=missing, normalize=missing)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(held)
