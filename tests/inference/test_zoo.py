"""The manifest and the files it means: whatever is wrong with either is told, and what is shipped is right."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelFileError, UnknownModelError, UnknownScaleError
from app.inference.zoo import MANIFEST, MANIFEST_VERSION, ModelFile, Zoo, load_zoo
from harness import MODELS, ROOT
from harness.fakes import make_spec

DATA = b"the bytes of a network"
SHIPPED = load_zoo(MODELS)
Manifest = dict[str, Any]


def manifest() -> Manifest:
    """Two networks, one of them at two scales, all sharing one file."""
    file = ModelFile("net.onnx", hashlib.sha256(DATA).hexdigest(), len(DATA), {"Set5": {"psnr_y": 30.5}})
    specs = [make_spec("a", 4), make_spec("a", 2), make_spec("b", 3)]
    entries = [dataclasses.asdict(dataclasses.replace(spec, files={"fp32": file})) for spec in specs]
    return {"version": MANIFEST_VERSION, "default": "a", "models": entries}


def write(folder: Path, content: object, data: bytes | None = DATA) -> Path:
    (folder / MANIFEST).write_text(content if isinstance(content, str) else json.dumps(content))
    if data is not None:
        (folder / "net.onnx").write_bytes(data)
    return folder


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    zoo = load_zoo(write(tmp_path, manifest()))
    assert [dataclasses.asdict(spec) for spec in zoo] == manifest()["models"]
    assert isinstance(zoo.models[0].files["fp32"], ModelFile)
    assert (zoo.default, zoo.names, zoo.scales("a"), zoo.scales("b")) == ("a", ("a", "b"), (2, 4), (3,))
    assert [zoo.read(spec, "fp32") for spec in zoo] == [DATA] * 3


def test_a_network_is_found_by_name_and_scale_and_the_default_without_a_name(tmp_path: Path) -> None:
    zoo = load_zoo(write(tmp_path, manifest()))
    assert [zoo.find(name, scale).title for name, scale in [("a", 4), ("a", 2), ("b", 3)]] == ["a-x4", "a-x2", "b-x3"]
    assert zoo.find(None, 2).title == "a-x2"


def test_an_unknown_model_is_told_which_there_are(tmp_path: Path) -> None:
    zoo = load_zoo(write(tmp_path, manifest()))
    with pytest.raises(UnknownModelError) as raised:
        zoo.find("c" * 1000, 4)
    assert raised.value.detail.endswith("known: a, b.")
    assert len(raised.value.detail) < 100


def test_an_unknown_scale_is_told_which_there_are(tmp_path: Path) -> None:
    zoo = load_zoo(write(tmp_path, manifest()))
    with pytest.raises(UnknownScaleError) as raised:
        zoo.find("a", 3)
    assert raised.value.detail == "Model 'a' has no scale 3; it has: 2, 4."
    assert raised.value.actual == 3


def without(key: str) -> Callable[[Manifest], object]:
    return lambda whole: {name: value for name, value in whole.items() if name != key}


def with_entry(**changes: object) -> Callable[[Manifest], object]:
    return lambda whole: {**whole, "models": [{**whole["models"][0], **changes}]}


MALFORMED: dict[str, tuple[Callable[[Manifest], object], str]] = {
    "no JSON": (lambda whole: "{", "not JSON"),
    "nothing": (lambda whole: "", "not JSON"),
    "a list": (lambda whole: [], "malformed"),
    "null": (lambda whole: None, "malformed"),
    "another version": (lambda whole: {**whole, "version": 2}, "version 2, this service reads 1"),
    "no version": (without("version"), "malformed: 'version'"),
    "no default": (without("default"), "malformed: 'default'"),
    "no models": (without("models"), "malformed: 'models'"),
    "models null": (lambda whole: {**whole, "models": None}, "malformed"),
    "models of text": (lambda whole: {**whole, "models": ["a"]}, "malformed"),
    "an empty zoo": (lambda whole: {**whole, "models": []}, "'a' is not among the models"),
    "an unknown default": (lambda whole: {**whole, "default": "z"}, "'z' is not among the models"),
    "a network twice": (lambda whole: {**whole, "models": whole["models"] * 2}, "more than one a-x4, a-x2, b-x3"),
    "an unknown key": (with_entry(colour="red"), "malformed: .*'colour'"),
    "a missing key": (lambda whole: {**whole, "models": [{"files": {}}]}, "malformed: .*'name'"),
    "files as a list": (with_entry(files=[]), "malformed"),
    "a file as text": (with_entry(files={"fp32": "net.onnx"}), "malformed"),
    "a file without its hash": (with_entry(files={"fp32": {"path": "p", "bytes": 1}}), "malformed: .*'sha256'"),
}


@pytest.mark.parametrize(("change", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_manifest_in_doubt_is_refused(change: Callable[[Manifest], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message) as raised:
        load_zoo(write(tmp_path, change(manifest())))
    assert str(tmp_path / MANIFEST) in raised.value.detail


def test_a_manifest_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelFileError, match="not JSON"):
        load_zoo(tmp_path)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"manifest\.json: no such file"):
        load_zoo(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, "No such file"), (DATA[:-1], "sha256 is"), (DATA + b"\0", "sha256 is"), (b"", "sha256 is")],
    ids=["missing", "truncated", "altered", "empty"],
)
def test_a_file_that_is_not_the_one_meant_is_refused(data: bytes | None, message: str, tmp_path: Path) -> None:
    zoo = load_zoo(write(tmp_path, manifest(), data))
    with pytest.raises(ModelFileError, match=message) as raised:
        zoo.read(zoo.models[0], "fp32")
    assert "net.onnx" in raised.value.detail


def test_a_precision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    zoo = load_zoo(write(tmp_path, manifest()))
    with pytest.raises(ModelFileError, match="a-x4: there is no fp16 file, only: fp32"):
        zoo.read(zoo.models[0], "fp16")


# -- what is shipped ---------------------------------------------------------------------------------------------


def shipped_files(zoo: Zoo) -> list[tuple[str, ModelFile]]:
    specs = [*zoo.models, *zoo.generators]
    return [(f"{spec.title} {precision}", file) for spec in specs for precision, file in spec.files.items()]


@pytest.mark.parametrize(("title", "file"), shipped_files(SHIPPED), ids=[title for title, _ in shipped_files(SHIPPED)])
def test_a_shipped_file_is_the_one_the_manifest_means(title: str, file: ModelFile) -> None:
    data = (MODELS / file.path).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
    assert re.fullmatch(rf"{title.split()[0]}(\.\w+)?\.onnx", file.path)


@pytest.mark.parametrize("spec", [*SHIPPED.models, *SHIPPED.generators], ids=lambda spec: spec.title)
def test_a_shipped_network_says_where_it_comes_from(spec: Any) -> None:
    assert spec.licence
    assert spec.summary
    if spec in SHIPPED.models:  # of generators several recipes are variants of one
        assert spec.recipe == f"training/recipes/{spec.title}.toml"
    assert (ROOT / spec.recipe).is_file()
    assert "fp32" in spec.files
    assert all(file.metrics for file in spec.files.values()), "its quality was measured"


def test_no_network_lies_among_the_shipped_unlisted() -> None:
    listed = {file.path for _, file in shipped_files(SHIPPED)}
    assert {path.name for path in MODELS.glob("*.onnx")} == listed
