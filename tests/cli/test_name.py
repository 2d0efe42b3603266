"""Where results go: no input and no other result is written over, and a second run finds the same names."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.find import Source, find
from app.cli.name import NAME_BYTES, Names, fitted
from app.errors import EnlargerError
from app.images.encoders import BY_SUFFIX, FORMATS
from app.images.formats import SUFFIXES
from harness.fakes import noise
from harness.pictures import encode

PNG = encode(noise(4, 5, 3))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.jpg", "b.txt", "c", "d/a.png", "d/e/a.png", "two/a.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    return tmp_path


def names_of(named: str, output: str | None, *formats: str) -> list[str]:
    """The results' paths; of sources of the current folder in turn, of these formats or of the first one."""
    paths = [Path(name) for name in named.split()]
    sources = [each for each in find(paths, Path(output) if output else None) if isinstance(each, Source)]
    names = Names(paths, sources, Path(output) if output else None, is_folder=bool(output) and output.endswith("/"))
    each = [*formats, *[formats[0]] * (len(sources) - len(formats))]
    return [str(names.target(source, format)) for source, format in zip(sources, each, strict=True)]


@pytest.mark.parametrize(
    ("named", "output", "formats", "expected"),
    [
        ("a.png", None, ["png"], ["a-enlarged.png"]),
        ("a.png", "big.tif", ["tiff"], ["big.tif"]),
        ("a.png", "new/big", ["png"], ["new/big"]),
        ("a.png", "new/", ["png"], ["new/a.png"]),
        ("a.png", "two", ["webp"], ["two/a.webp"]),
        ("b.txt", None, ["png"], ["b.txt-enlarged.png"]),
        ("c", "new/", ["jpeg"], ["new/c.jpg"]),
        ("a.png a.jpg", "new", ["png", "jpeg"], ["new/a.png", "new/a.jpg"]),
        ("a.png a.jpg", "new", ["png"], ["new/a.png", "new/a.jpg.png"]),
        ("a.jpg a.png", "new", ["png"], ["new/a.jpg.png", "new/a.png"]),
        ("a.jpg a.png", None, ["png"], ["a.jpg-enlarged.png", "a-enlarged.png"]),
        ("a.png two/a.png d/a.png", "new", ["png"], ["new/a.png", "new/a.png.png", "new/a.png-2.png"]),
        ("d", "new", ["png"], ["new/a.png", "new/e/a.png"]),
        ("d", None, ["webp"], ["d/a-enlarged.webp", "d/e/a-enlarged.webp"]),
        ("a.png", ".", ["png"], ["a.png.png"]),
        ("-", None, ["png"], ["-"]),
        ("-", "new/", ["png"], ["new/stdin.png"]),
        ("a.png", "-", ["png"], ["-"]),
        ("- a.png", "new", ["png"], ["new/stdin.png", "new/a.png"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_names(named: str, output: str | None, formats: list[str], expected: list[str]) -> None:
    assert names_of(named, output, *formats) == expected


@pytest.mark.parametrize(
    ("named", "output", "message"),
    [
        ("a.png", "a.png", "a.png would overwrite a.png"),
        ("a.png", "link.png", "a.png would overwrite link.png"),
        ("a.png a.jpg", "big.png", "big.png is a file name, but there are several images"),
        ("d", "big.JPEG", "big.JPEG is a file name, but there are several images"),
        ("a.png a.jpg", "-", "Standard output takes only one image"),
        ("d", "-", "Standard output takes only one image"),
        ("d", "d", "The results would end up among the images of d"),
        ("d", "d/../d", "The results would end up among the images of d"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_would_lose_something_is_refused(named: str, output: str, message: str) -> None:
    os.symlink("a.png", "link.png")
    with pytest.raises(EnlargerError, match=message):
        names_of(named, output, "png")


@pytest.mark.parametrize(
    ("output", "format"),
    [("b.png", "png"), ("b.JFIF", "jpeg"), ("b.jpe", "jpeg"), ("b.tiff", "tiff"), ("b.out", None), ("b", None)],
)
def test_the_format_that_a_name_asks_for(output: str, format: str | None, tmp_path: Path) -> None:
    assert Names([tmp_path / "a.png"], [], tmp_path / output, is_folder=False).format() == format


@pytest.mark.parametrize("suffix", [*sorted(SUFFIXES - BY_SUFFIX.keys()), ".HEIC"])
def test_a_name_of_a_format_that_is_not_written_is_refused(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(EnlargerError, match=f"{suffix.lower()} cannot be written; choose one of: png"):
        Names([tmp_path / "a.png"], [], tmp_path / f"b{suffix}", is_folder=False).format()


@given(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300),
    st.sampled_from(sorted(FORMATS)),
)
def test_no_name_is_too_long_and_none_is_another_s(stem: str, format: str) -> None:
    ending = f"-enlarged{FORMATS[format].extension}"
    name = fitted(stem, ending)
    assert len(os.fsencode(name)) <= NAME_BYTES
    assert name.endswith(ending)
    assert name == stem + ending or fitted(stem + "x", ending) != name
