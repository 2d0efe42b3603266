"""The ``enlarger`` command: which file goes where, what a bad one does to the others, and what is left behind."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.cli import Task, enlarge_file, main, plan_files
from app.errors import ComputeError, EnlargerError
from app.inference.engine import Engine
from app.inference.zoo import Zoo, load_zoo
from app.upscale.parameters import UpscaleParameters
from app.upscale.tiler import TileBudget
from app.upscale.upscaler import Upscaler
from harness import MODELS, ROOT
from harness.fakes import FakeEngine, Pixels, make_spec, noise, running
from harness.pictures import decoded, encode

ZOO = load_zoo(MODELS)
SCALE = ZOO.scales(ZOO.default)[0]


def enlarger(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "app.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def complaints(errors: str) -> list[str]:
    """The command's own lines among those of the progress bars."""
    return [line for line in errors.splitlines() if line.startswith("enlarger: ")]


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def write(path: Path, pixels: Pixels, format: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pixels, format))
    return path


def served(engine: Engine, data: bytes) -> Pixels:
    """What the generator makes of a file with the default network."""
    upscaler = Upscaler.on(engine)
    image = upscaler.open(data)
    with upscaler:
        work = upscaler.decode(image, upscaler.plan(image, UpscaleParameters(scale=SCALE, format="png")))
        return decoded(b"".join(upscaler.run(work)))


# -- the real command --------------------------------------------------------------------------------------------


def test_files_and_folders_are_enlarged_and_the_bad_ones_do_not_stop_the_others(
    engine: Engine, photo: Pixels, tmp_path: Path
) -> None:
    one = write(tmp_path / "holiday" / "one.png", photo)
    write(tmp_path / "holiday" / "sub" / "two.jpg", noise(30, 40, 3), "JPEG")
    (tmp_path / "holiday" / "notes.txt").write_text("no picture")
    gray = write(tmp_path / "gray.png", noise(20, 30))
    broken = tmp_path / "broken.png"
    broken.write_bytes(one.read_bytes()[:-2000])
    out = tmp_path / "out"
    result = enlarger(tmp_path / "holiday", broken, tmp_path / "missing.png", gray, "-o", out, "--scale", SCALE)
    assert result.returncode == 1, result.stderr
    first, second = complaints(result.stderr)
    assert first.startswith(f"enlarger: {broken}: ")
    assert second == f"enlarger: {tmp_path / 'missing.png'}: No such file or directory"
    assert "one.png: 100%" in result.stderr
    assert files_in(out) == {"one.png", "sub/two.jpg", "gray.png"}
    np.testing.assert_array_equal(decoded((out / "one.png").read_bytes()), served(engine, one.read_bytes()))
    assert decoded((out / "gray.png").read_bytes()).shape == (20 * SCALE, 30 * SCALE)
    assert decoded((out / "sub" / "two.jpg").read_bytes()).shape == (30 * SCALE, 40 * SCALE, 3)


def test_an_unknown_model_ends_the_command_with_one_line(tmp_path: Path) -> None:
    result = enlarger(write(tmp_path / "a.png", noise(8, 8, 3)), "--model", "huge")
    assert result.returncode == 2
    assert result.stderr == f"enlarger: Unknown model 'huge'; known: {', '.join(ZOO.names)}.\n"
    assert files_in(tmp_path) == {"a.png"}


def test_the_networks_are_listed_each_on_its_line_with_the_default_marked() -> None:
    result = enlarger("models")
    assert (result.returncode, result.stderr) == (0, "")
    head, *lines, foot = result.stdout.splitlines()
    assert head.split()[:2] == ["model", "scale"]
    assert foot == "* the default"
    listed = [line.replace(" * ", "   ").split()[:2] for line in lines]
    assert listed == [[spec.name, str(spec.scale)] for spec in ZOO]
    assert {line.split()[0] for line in lines if " * " in line} == {ZOO.default}


# -- the same function, in this process --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "-o", "a.png"], "a.png would overwrite a.png; give its output another name."),
        (["a.png", "--scale", "9"], "scale: Input should be less than or equal to 8"),
        (["a.png", "--quality", "0"], "quality: Input should be greater than or equal to 1."),
        (["a.png", "--background", "red"], "background: String should match pattern"),
    ],
    ids=["overwrite", "scale", "quality", "background"],
)
def test_what_cannot_be_begun_is_told_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = write(tmp_path / "a.png", noise(8, 8, 3)).read_bytes()
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"enlarger: {message.format(default=ZOO.default)}")
    assert errors.count("\n") == 1
    assert files_in(tmp_path) == {"a.png"}
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ENLARGER_TILE_PIXELS", "1")
    assert main(["a.png"]) == 2
    assert capsys.readouterr().err == "enlarger: setting tile_pixels: Input should be greater than or equal to 4096\n"


@pytest.mark.parametrize(("suffix", "format"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_the_format_is_that_of_the_output_s_name(suffix: str, format: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.png", noise(8, 10, 3))
    target = tmp_path / "new" / f"big.{suffix}"
    assert main([str(source), "-o", str(target), "--scale", str(SCALE)]) == 0
    with Image.open(io.BytesIO(target.read_bytes())) as image:
        assert (image.format, image.size) == (format, (10 * SCALE, 8 * SCALE))
    assert files_in(tmp_path) == {"a.png", f"new/big.{suffix}"}


# -- which file goes where ---------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files that need no content to be planned for."""
    for name in ("a.png", "b.JPG", "c.tif", "dir/d.png", "dir/f.webp", "dir/e/f.webp", "dir/notes.txt", "two/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "link.png").symlink_to("a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(files: str, output: str | None, format: str | None = None) -> list[Task]:
    return list(plan_files([Path(name) for name in files.split()], Path(output) if output else None, format))


@pytest.mark.parametrize(
    ("files", "output", "format", "expected"),
    [
        ("a.png", None, None, "a-enlarged.png:png"),
        ("b.JPG", None, None, "b-enlarged.jpg:jpeg"),
        ("c.tif", None, None, "c-enlarged.tif:tiff"),
        ("a.png", None, "webp", "a-enlarged.webp:webp"),
        ("dir", None, None, "dir/d-enlarged.png:png dir/e/f-enlarged.webp:webp dir/f-enlarged.webp:webp"),
        ("a.png", "big.jpeg", None, "big.jpeg:jpeg"),
        ("a.png", "big.WEBP", None, "big.WEBP:webp"),
        ("a.png", "big.jpeg", "png", "big.jpeg:png"),
        ("b.JPG", "big", None, "big:jpeg"),
        ("a.png", "out", None, "out/a.png:png"),
        ("a.png b.JPG", "new", None, "new/a.png:png new/b.jpg:jpeg"),
        ("a.png b.JPG", "out", "webp", "out/a.webp:webp out/b.webp:webp"),
        ("dir", "new", None, "new/d.png:png new/e/f.webp:webp new/f.webp:webp"),
        ("dir a.png", "new", None, "new/d.png:png new/e/f.webp:webp new/f.webp:webp new/a.png:png"),
    ],
)
@pytest.mark.usefixtures("pictures")
def test_where_a_picture_goes(files: str, output: str | None, format: str | None, expected: str) -> None:
    assert " ".join(f"{task.target}:{task.format}" for task in plan(files, output, format)) == expected


@pytest.mark.parametrize(
    ("files", "output", "message"),
    [
        ("a.png", "a.png", "a.png would overwrite a.png"),
        ("a.png", "link.png", "a.png would overwrite link.png"),
        ("a.png a.png", None, "a.png would overwrite a-enlarged.png"),
        ("a.png two/a.png", "new", "two/a.png would overwrite new/a.png"),
        ("a.png two/../a.png", None, "two/../a.png would overwrite two/../a-enlarged.png"),
        ("dir", "dir", "dir/d.png would overwrite dir/d.png"),
        ("dir", "dir/e", "dir/f.webp would overwrite dir/e/f.webp"),
        ("a.png c.tif", "big.png", "big.png is a file name, but there are several pictures"),
        ("dir", "big.png", "big.png is a file name, but there are several pictures"),
    ],
)
@pytest.mark.usefixtures("pictures")
def test_no_picture_is_written_over_another(files: str, output: str | None, message: str) -> None:
    with pytest.raises(EnlargerError, match=message):
        plan(files, output)


# -- one file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [None, b"an earlier result"])
def test_a_fault_in_the_middle_leaves_what_was_there_before(earlier: bytes | None, tmp_path: Path) -> None:
    def fail(windows: list[Pixels]) -> None:
        if len(engine.computed) == 3:
            raise ValueError("a fault in the network")

    engine = FakeEngine(before=fail)
    zoo = Zoo(tmp_path, "nearest", (make_spec(),))
    source, target = write(tmp_path / "a.png", noise(600, 40, 3)), tmp_path / "out" / "a.png"
    if earlier is not None:
        target.parent.mkdir()
        target.write_bytes(earlier)
    with running(engine) as scheduler:
        upscaler = Upscaler(zoo, scheduler, {}, budget=TileBudget(pixels=4096))
        with pytest.raises(ComputeError):
            enlarge_file(Task(source, target, "png"), UpscaleParameters(scale=2), upscaler)
    assert len(engine.computed) >= 3
    assert files_in(tmp_path) == ({"a.png"} if earlier is None else {"a.png", "out/a.png"})
    assert earlier is None or target.read_bytes() == earlier
