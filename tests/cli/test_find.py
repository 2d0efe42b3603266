"""Which images are found in files and folders, and that nothing is left out without a word."""

import os
from pathlib import Path

import pytest

from app.cli.find import STREAM, Omission, Source, find
from app.images.encoders import Picture, create_encoder
from app.images.formats import enlarged_xmp
from harness.fakes import noise
from harness.pictures import encode

PNG, JPEG = encode(noise(4, 5, 3)), encode(noise(4, 5, 3), "JPEG")


def result(format: str) -> bytes:
    encoder = create_encoder(format, Picture(width=2, height=2, channels=3, xmp=enlarged_xmp(None)))
    return b"".join([bytes(encoder.begin()), bytes(encoder.write(noise(2, 2, 3))), bytes(encoder.finish())])


def write(path: Path, data: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def told(found: list[Source | Omission], root: Path) -> dict[str, str]:
    """What was found below ``root``: "" for a source, else why it was left out; with a mark where that is a failure."""
    return {
        os.path.relpath(each.path, root): "" if isinstance(each, Source) else "!" * each.failed + each.reason
        for each in found
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "in"


def test_images_are_found_by_their_content(folder: Path) -> None:
    for name in ("a.png", "b.jfif", "c.jpe", "d", "e.JPG", "f.txt", "x.jpg/inside.webp", ".hidden", "IMG.2024"):
        write(folder / name, JPEG if name[0] in "bce" else PNG)
    found = told(list(find([folder], None)), folder)
    assert found == dict.fromkeys(sorted(found), "")
    assert len(found) == 9


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("notes.txt", b"no image", "This is none of the formats accepted"),
        ("empty", b"", "The image has no bytes"),
        ("._a.png", b"\0\5\26\7\0\2\0\0Mac OS X        ", "macOS' metadata of another file"),
        (".enlarger-0123.part", PNG, "an unfinished result"),
        ("a-enlarged.png", PNG, "the result of an earlier run"),
        ("a.png-enlarged.jpg", JPEG, "the result of an earlier run"),
        ("gone-enlarged.png", result("png"), "the result of an earlier run"),
        ("gone-enlarged.jpg", result("jpeg"), "the result of an earlier run"),
        ("gone-enlarged.webp", result("webp"), "the result of an earlier run"),
        ("gone-enlarged.tif", result("tiff"), "the result of an earlier run"),
        ("gone-enlarged.avif", result("avif"), "the result of an earlier run"),
    ],
)
def test_what_is_left_out_is_told(folder: Path, name: str, data: bytes, why: str) -> None:
    write(folder / "a.png")
    write(folder / name, data)
    found = told(list(find([folder], None)), folder)
    assert found.pop("a.png") == ""
    assert found[name].startswith(why)


def test_what_is_named_an_image_and_is_none_will_fail_with_its_own_reason(folder: Path) -> None:
    write(folder / "broken.png", b"nonsense")
    write(folder / "their-enlarged.png")
    assert told(list(find([folder], None)), folder) == {"broken.png": "", "their-enlarged.png": ""}


def test_links_are_followed_and_circles_are_not(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "far.png")
    write(folder / "a.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "twice").symlink_to(tmp_path / "elsewhere")
    (folder / "sub").mkdir()
    (folder / "sub" / "circle").symlink_to(folder)
    (folder / "link.png").symlink_to(folder / "a.png")
    (folder / "nowhere.png").symlink_to(folder / "missing.png")
    (folder / "self.png").symlink_to("self.png")
    os.mkfifo(folder / "pipe.png")
    assert told(list(find([folder], None)), folder) == {
        "a.png": "",
        "link.png": "",
        "linked/far.png": "",
        "nowhere.png": "a broken link",
        "pipe.png": "not a regular file",
        "self.png": "a broken link",
        "sub/circle": "the same folder was already searched",
        "twice": "the same folder was already searched",
    }


def test_a_folder_without_images_fails_and_empty_ones_within_are_told(folder: Path) -> None:
    (folder / "empty").mkdir(parents=True)
    write(folder / "notes.txt", b"no image")
    found = told(list(find([folder], None)), folder)
    assert found["empty"] == "it is empty"
    assert found["."] == "!there is no image to enlarge in it"


def test_the_folder_of_the_results_is_no_input(folder: Path) -> None:
    write(folder / "a.png")
    write(folder / "out" / "a.png")
    (folder / "link").symlink_to(folder / "out")
    found = told(list(find([folder], folder / "out")), folder)
    assert found == {"a.png": "", "link": "it is the output folder", "out": "it is the output folder"}


def test_each_file_once_however_often_it_is_named(folder: Path) -> None:
    path = write(folder / "a.png")
    found = list(find([path, folder, folder / ".." / "in" / "a.png", folder], None))
    assert [each.reason if isinstance(each, Omission) else "" for each in found] == [
        "",
        "already named",
        "there is no image to enlarge in it",
        "already named",
        "already searched",
    ]


def test_a_stream_and_what_is_not_there_are_sources_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    stream, pipe, missing = find([STREAM, tmp_path / "pipe", tmp_path / "missing.png"], None)
    assert isinstance(stream, Source)
    assert isinstance(pipe, Source)
    assert isinstance(missing, Source)
    assert (stream.is_stream, pipe.is_stream, missing.is_stream) == (True, True, False)
    with pytest.raises(FileNotFoundError):
        missing.read()
