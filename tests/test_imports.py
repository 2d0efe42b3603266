"""Who may import whom: the rules of ``tests/support/imports.py``, held by reading every import statement."""

import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from harness import ROOT
from tests.support.imports import ROOTS, RULES, arrows, files_in, imported, part_of, parts_used

TRAINING_MAY_IMPORT = {"errors", "threads", "settings", "images", "inference", "upscale"}


def users_of(module: str) -> set[str]:
    """The files of ``app`` and ``training`` that import a third party's module."""
    return {
        str(path.relative_to(ROOT))
        for path in files_in("app", "training")
        if any(name.split(".")[0] == module for name in imported(path))
    }


def test_every_folder_has_its_rule() -> None:
    assert {part_of(path) for path in files_in("app")} == {"__init__", *RULES, *ROOTS}


@pytest.mark.parametrize("part", RULES)
def test_a_folder_imports_what_its_rule_allows(part: str) -> None:
    for path in files_in("app"):
        if part_of(path) == part:
            forbidden = parts_used(path) - {part} - RULES[part]
            assert not forbidden, f"{path.relative_to(ROOT)} may not import {forbidden}"


def test_imports_are_few_and_go_neither_upwards_nor_in_a_circle() -> None:
    found = arrows()
    assert set(TopologicalSorter(found).static_order()) == set(found)
    order = [*RULES, *ROOTS]
    assert all(order.index(used) < order.index(user) for user in order for used in found[user])
    assert sum(map(len, found.values())) <= 45


def test_main_is_imported_by_the_command_alone() -> None:
    users = [path for path in files_in("app", "training") if "main" in parts_used(path)]
    assert {part_of(path) for path in users} == {"cli"}


def test_inference_knows_of_images_what_pixels_are_and_nothing_else() -> None:
    used = {name for path in files_in("app/inference") for name in imported(path) if name.startswith("app.images")}
    assert used == {"app.images.pixels.Pixels"}


def test_the_scheduler_does_not_know_the_engine() -> None:
    assert not any(name.startswith("app.inference.engine") for name in imported(ROOT / "app/inference/scheduler.py"))


def test_the_supervisor_imports_nothing_of_the_application() -> None:
    assert not any(name.startswith("app") for name in imported(ROOT / "app/supervisor.py"))


@pytest.mark.parametrize("path", files_in("training"), ids=lambda path: str(path.relative_to(ROOT)))
def test_training_reaches_the_application_by_the_served_path_alone(path: Path) -> None:
    forbidden = parts_used(path) - TRAINING_MAY_IMPORT
    assert not forbidden, f"{path.relative_to(ROOT)} may not import {forbidden}"


@pytest.mark.parametrize("module", ["training", "torch", "onnx", "onnxscript", "skimage", "tests", "harness"])
def test_the_application_does_without(module: str) -> None:
    assert not {path for path in users_of(module) if path.startswith("app/")}


def test_runtimes_are_known_to_inference_alone() -> None:
    assert users_of("onnxruntime") == {
        "app/inference/engine.py",
        "app/inference/providers.py",
        "app/inference/runtimes/onnx_runtime.py",
        "training/export/fp16.py",
    }
    assert users_of("openvino") == {
        "app/inference/runtimes/channels_last.py",
        "app/inference/runtimes/openvino.py",
    }


def test_openvino_is_loaded_only_where_it_is_asked_for() -> None:
    code = "import sys, app.cli.files, app.main; print('openvino' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "False\n", "")


def test_fastapi_is_known_to_the_routes_alone() -> None:
    folders = {Path(path).parts[1] for path in users_of("fastapi")}
    assert folders == {"http", "study", "main.py"}


@pytest.mark.parametrize(("folder", "other"), [("tests", "benchmarks"), ("benchmarks", "tests"), ("harness", "tests")])
def test_tests_and_benchmarks_share_the_harness_and_nothing_else(folder: str, other: str) -> None:
    users = [path for path in files_in(folder) if any(name.split(".")[0] == other for name in imported(path))]
    assert not users


def test_no_library_brings_torch_into_the_service() -> None:
    unwanted = "{'torch', 'onnx', 'training'}"
    code = f"import sys, app.cli.files, app.main; print(sorted({unwanted} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


def test_every_package_of_the_application_is_found_for_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["packages"] == {"find": {"include": ["app*"], "namespaces": False}}
    assert all((path.parent / "__init__.py").is_file() for path in files_in("app"))
