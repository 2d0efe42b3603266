"""Weights are read without torchvision, whatever is installed beside torch."""

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from harness import ROOT
from training.export.community import FUNCTIONAL, load_spandrel, missing, torchvision_replaced


def test_torchvision_is_neither_needed_nor_left_behind() -> None:
    """In a process of its own, where importing the real one would fail."""
    program = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
sys.meta_path.insert(0, Forbidden())
from training.export.community import load_spandrel
spandrel = load_spandrel()
assert spandrel is load_spandrel()
assert not [name for name in sys.modules if name.split(".")[0] == "torchvision"]
print(spandrel.ModelLoader("cpu").device)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "cpu\n"), ended.stderr


def test_a_torchvision_that_was_there_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", real)
    with torchvision_replaced():
        assert sys.modules["torchvision"] is not real
        assert sys.modules[FUNCTIONAL].rotate is missing
    assert sys.modules["torchvision"] is real


def test_what_stands_in_for_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="needs torchvision"):
        missing(torch.zeros(1))


def test_a_spandrel_that_is_missing_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.setattr("builtins.__import__", refusing("spandrel"))
    with pytest.raises(ValueError, match=r"spandrel, which cannot be loaded .*pip install -e"):
        load_spandrel()


def refusing(forbidden: str) -> Callable[..., ModuleType]:
    real = __import__

    def imported(name: str, *others: object, **more: object) -> ModuleType:
        if name == forbidden:
            raise ImportError(f"No module named {name!r}")
        return real(name, *others, **more)  # type: ignore[arg-type]

    return imported
