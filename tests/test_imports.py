"""Who may import whom: the table of ARCHITECTURE.md, held to the letter by reading every import statement.

A part is a file of ``app/`` or a folder of it (``encoders``, ``formats``), in which imports are free.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "settings": {"tiler"},
    "resampler": set(),
    "tiler": set(),
    "samples": set(),
    "tone": set(),
    "encoders": {"errors", "formats"},
    "formats": {"errors"},
    "zoo": {"errors"},
    "body": {"errors"},
    "colour": {"formats"},
    "depth": {"colour", "formats"},
    "decoder": {"colour", "depth", "errors", "formats", "raster"},
    "raster": set(),
    "tracing": {"errors"},
    "record": {"tracing"},
    "logs": {"record"},
    "metrics": {"record"},
    "access": {"errors"},
    "proof": {"errors"},
    "ledger": {"errors", "record"},
    "supervisor": set(),
    "priority": set(),
    "slots": {"errors"},
    "footprint": {"encoders", "passes", "resampler", "upscaler"},
    "protocol": set(),
    "journal": {"ledger", "metrics", "record", "tracing"},
    "guard": set(),
    "binding": set(),
    "pruning": set(),
    "batching": {"errors", "zoo"},
    "providers": {"errors", "priority"},
    "engine": {"batching", "binding", "errors", "guard", "proof", "providers", "pruning", "zoo"},
    "job": {"errors", "record", "zoo"},
    "scheduler": {"batching", "errors", "job", "priority", "record", "zoo"},
    "stitcher": {"tiler"},
    "generator": {"zoo"},
    "codes": {"decoder", "errors", "samples"},
    "drawing": {"encoders", "engine", "errors", "generator", "openapi", "priority", "scheduler", "zoo"},
    "parameters": {"encoders", "errors", "upscaler"},
    "streaming": {"errors", "job", "priority", "record"},
    "pages": set(),
    "opinions": {"errors"},
    "specimens": {"decoder", "errors", "formats", "samples", "scheduler", "settings", "upscaler", "zoo"},
    "study": {"errors", "openapi", "opinions", "pages", "priority", "scheduler", "settings", "specimens", "zoo"},
    "alpha": {"job", "zoo"},
    "upscaler": {
        "alpha",
        "decoder",
        "encoders",
        "errors",
        "formats",
        "job",
        "passes",
        "record",
        "resampler",
        "samples",
        "scheduler",
        "tiler",
        "tone",
        "zoo",
    },
    "passes": {"batching", "job", "stitcher", "tiler", "zoo"},
    "negotiation": {"decoder", "encoders", "errors", "parameters", "upscaler"},
    "problems": {"errors", "parameters", "record"},
    "openapi": {"encoders", "errors"},
    "service": {"decoder", "ledger", "scheduler", "settings", "zoo"},
    "menu": {"codes", "encoders", "formats", "generator", "parameters", "service", "zoo"},
    "api": {
        "body",
        "codes",
        "decoder",
        "footprint",
        "menu",
        "negotiation",
        "openapi",
        "parameters",
        "passes",
        "priority",
        "record",
        "samples",
        "service",
        "slots",
        "streaming",
        "upscaler",
    },
    "main": {
        "__init__",
        "api",
        "drawing",
        "engine",
        "access",
        "journal",
        "ledger",
        "logs",
        "metrics",
        "openapi",
        "pages",
        "problems",
        "proof",
        "protocol",
        "providers",
        "slots",
        "scheduler",
        "service",
        "settings",
        "study",
        "tracing",
        "zoo",
    },
    "cli": {
        "__init__",
        "decoder",
        "encoders",
        "errors",
        "formats",
        "main",
        "parameters",
        "scheduler",
        "settings",
        "upscaler",
        "zoo",
    },
}
TRAINING_MAY_IMPORT = {
    "decoder",
    "engine",
    "errors",
    "generator",
    "providers",
    "scheduler",
    "settings",
    "upscaler",
    "zoo",
}


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, wherever in it; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path.name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_of_app(names: Iterator[str]) -> set[str]:
    """Which parts of ``app`` the names belong to; ``app.__version__`` belongs to ``__init__``."""
    steps = [name.split(".") for name in names]
    return {step[1] if step[1:] and step[1] in MAY_IMPORT else "__init__" for step in steps if step[0] == "app"}


def files_of(part: str) -> list[Path]:
    folder = ROOT / "app" / part
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def files_in(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def users_of(module: str) -> set[str]:
    """The files of ``app`` and ``training`` that import a third party's module."""
    return {
        str(path.relative_to(ROOT))
        for path in files_in("app", "training")
        if any(name.split(".")[0] == module for name in imported(path))
    }


def test_every_part_of_the_application_has_its_row() -> None:
    found = {path.relative_to(ROOT / "app").parts[0].removesuffix(".py") for path in files_in("app")}
    assert found == set(MAY_IMPORT)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_what_its_row_allows(part: str) -> None:
    for path in files_of(part):
        used = parts_of_app(imported(path)) - {part}
        assert used <= MAY_IMPORT[part], f"{path.relative_to(ROOT)} may not import {used - MAY_IMPORT[part]}"


def test_the_rows_allow_no_circle() -> None:
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert len(order) == len(MAY_IMPORT)


def test_main_is_imported_by_the_command_alone() -> None:
    users = [path.name for path in files_in("app", "training") if "main" in parts_of_app(imported(path))]
    assert users == ["cli.py"]


@pytest.mark.parametrize("path", files_in("training"), ids=lambda path: str(path.relative_to(ROOT)))
def test_training_reaches_the_application_by_the_served_path_alone(path: Path) -> None:
    used = parts_of_app(imported(path))
    assert used <= TRAINING_MAY_IMPORT, f"{path.relative_to(ROOT)} may not import {used - TRAINING_MAY_IMPORT}"


@pytest.mark.parametrize("module", ["training", "torch", "onnx", "onnxscript", "skimage", "tests"])
def test_the_application_does_without(module: str) -> None:
    assert not {path for path in users_of(module) if path.startswith("app/")}


def test_onnx_runtime_is_known_to_the_engine_alone() -> None:
    assert users_of("onnxruntime") == {"app/engine.py", "app/providers.py", "training/fp16.py"}


def test_no_library_brings_torch_into_the_service() -> None:
    code = "import sys, app.cli; print(sorted({'torch', 'onnx', 'training'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


def test_every_package_of_the_application_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in files_in("app")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages
