"""The ``enlarger`` command: which file goes where, what a bad one does to the others, and what is left behind."""

import io
import os
import signal
import stat
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.cli import main
from app.cli.batch import Batch, BatchOptions
from app.inference.engine import Engine
from app.inference.zoo import Zoo, load_zoo
from app.upscale.parameters import UpscaleParameters
from app.upscale.tiler import TileBudget
from app.upscale.upscaler import Upscaler
from harness import MODELS, ROOT
from harness.fakes import FakeEngine, Pixels, make_spec, noise, running
from harness.files import saved
from harness.pictures import decoded, encode
from harness.zoo import small_zoo
from tests.support.auto import photograph

ZOO = load_zoo(MODELS)
SLOW = 600  # seconds that a command may take on a machine with much else to do
SCALE = ZOO.scales(ZOO.default)[0]


def enlarger(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "app.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=SLOW
    )


def heed_signals() -> None:
    """In the child: SIGINT is not ignored, as it is in what a shell has put into the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def told(errors: str, word: str = "") -> list[str]:
    """What the command says of each file, by its verdict; without one: what failed."""
    lines = [line.removeprefix("enlarger: ") for line in errors.splitlines()[:-1]]
    verdicts = (": done: ", ": skipped: ")
    return [line for line in lines if (f": {word}: " in line if word else not any(v in line for v in verdicts))]


def summary(errors: str) -> str:
    return errors.splitlines()[-1].removeprefix("enlarger: ")


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
    assert result.stdout == ""
    first, second = told(result.stderr)
    assert first.startswith(f"{broken}: ")
    assert second == f"{tmp_path / 'missing.png'}: No such file or directory"
    assert len(told(result.stderr, "done")) == 3
    (skipped,) = told(result.stderr, "skipped")
    assert skipped.startswith(f"{tmp_path / 'holiday' / 'notes.txt'}: skipped: This is none of the formats accepted")
    assert summary(result.stderr) == "3 done, 1 skipped, 2 failed"
    assert "%" not in result.stderr, "progress bars are for terminals"
    assert files_in(out) == {"one.png", "sub/two.jpg", "gray.png"}
    np.testing.assert_array_equal(decoded((out / "one.png").read_bytes()), served(engine, one.read_bytes()))
    assert decoded((out / "gray.png").read_bytes()).shape == (20 * SCALE, 30 * SCALE)
    assert decoded((out / "sub" / "two.jpg").read_bytes()).shape == (30 * SCALE, 40 * SCALE, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_folder_that_was_stopped_goes_on_where_it_was(number: signal.Signals, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    write(folder / "a.png", noise(8, 10, 3))
    write(folder / "b.png", noise(700, 500, 3))  # a minute of computing
    write(folder / "c.jpg", noise(8, 10, 3), "JPEG")
    command = [sys.executable, "-m", "app.cli", str(folder), "-o", str(out), "--model", "edsr"]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals)
    try:
        while running.poll() is None and not ({"a.png"} < files_in(out)):
            time.sleep(0.05)
        assert "a.png" in files_in(out)
        running.send_signal(number)
        _, errors = running.communicate(timeout=SLOW)
    finally:
        running.kill()
    assert running.returncode == 128 + number
    assert "Traceback" not in errors
    assert errors.splitlines()[-2:] == [
        "enlarger: 1 done, 0 skipped, 0 failed",
        "enlarger: stopped; run it again with --skip-existing to continue",
    ]
    assert files_in(out) == {"a.png"}
    first = (out / "a.png").stat()
    again = enlarger(folder, "-o", out, "--model", "bicubic", "--skip-existing")
    assert (again.returncode, summary(again.stderr)) == (0, "2 done, 1 skipped, 0 failed")
    assert told(again.stderr, "skipped") == [f"{folder / 'a.png'}: skipped: {out / 'a.png'} already exists"]
    assert (out / "a.png").stat() == first
    assert files_in(out) == {"a.png", "b.png", "c.jpg"}


def test_a_folder_can_be_done_again_and_its_results_are_no_inputs(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(8, 10, 3))
    write(tmp_path / "a.jpg", noise(8, 10, 3), "JPEG")
    write(tmp_path / "sub" / "b", noise(8, 10, 3))
    expected = {"a.png", "a.jpg", "sub/b", "a-enlarged.png", "a.jpg-enlarged.png", "sub/b-enlarged.png"}
    for skipped in (0, 3, 3):
        result = enlarger(tmp_path, "--model", "bicubic", "--format", "png")
        assert (result.returncode, summary(result.stderr)) == (0, f"3 done, {skipped} skipped, 0 failed")
        assert files_in(tmp_path) == expected


def test_standard_input_to_standard_output(tmp_path: Path) -> None:
    data = encode(noise(8, 10, 3), "JPEG")
    command = [sys.executable, "-m", "app.cli", "-", "--model", "bicubic", "--scale", "2"]
    result = subprocess.run(command, cwd=ROOT, input=data, capture_output=True, timeout=SLOW)
    with Image.open(io.BytesIO(result.stdout)) as image:
        assert (image.format, image.size) == ("JPEG", (20, 16))
    assert result.returncode == 0
    assert summary(result.stderr.decode()) == "1 done, 0 skipped, 0 failed"


def test_a_named_pipe_and_a_link_are_written_through(tmp_path: Path) -> None:
    source, pipe, link = write(tmp_path / "a.png", noise(8, 10, 3)), tmp_path / "pipe", tmp_path / "link.webp"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(pipe.read_bytes)
        assert enlarger(source, "-o", pipe, "--model", "bicubic", "--scale", 2).returncode == 0
        assert decoded(reader.result(timeout=SLOW)).shape == (16, 20, 3)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "big.webp"
    target.write_bytes(b"an earlier result")
    target.chmod(0o600)
    link.symlink_to(target)
    assert enlarger(source, "-o", link, "--model", "bicubic", "--scale", 2).returncode == 0
    assert link.is_symlink()
    with Image.open(target) as image:
        assert (image.format, image.size) == ("WEBP", (20, 16))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_reader_who_leaves_is_no_traceback(tmp_path: Path) -> None:
    source = write(tmp_path / "a.png", noise(600, 500, 3))
    command = f"{sys.executable} -m app.cli {source} -o - --model bicubic | head -c 10 | wc -c"
    result = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=SLOW)
    assert result.stdout.strip() == "10"
    assert told(result.stderr) == [f"{source}: Broken pipe"]
    assert "Traceback" not in result.stderr


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    source, (ours, theirs) = write(tmp_path / "a.png", noise(600, 500, 3)), os.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    command = [sys.executable, "-m", "app.cli", str(source), "--model", "bicubic"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(ours, 65536):
            shown += piece
    assert running.wait(SLOW) == 0
    assert b"a.png (1 of 1)" in shown
    assert b"band" in shown


def test_an_unknown_model_ends_the_command_with_one_line(tmp_path: Path) -> None:
    result = enlarger(write(tmp_path / "a.png", noise(8, 8, 3)), "--model", "huge")
    assert result.returncode == 2
    assert result.stderr == f"enlarger: Unknown model 'huge'; known: {', '.join(ZOO.names)}.\n"
    assert files_in(tmp_path) == {"a.png"}


def test_the_networks_are_listed_each_on_its_line_with_the_default_marked() -> None:
    result = enlarger("models")
    assert (result.returncode, result.stderr) == (0, "")
    head, *lines, foot, auto = result.stdout.splitlines()
    assert head.split()[:2] == ["model", "scale"]
    assert foot == "* the default network"
    assert auto.startswith("auto (the default) looks at each image: balanced for a clean photograph, photo for a ")
    listed = [line.replace(" * ", "   ").split()[:2] for line in lines]
    assert listed == [[spec.name, str(spec.scale)] for spec in ZOO]
    assert {line.split()[0] for line in lines if " * " in line} == {ZOO.default}


def test_each_image_gets_its_network_and_its_line_says_which(tmp_path: Path) -> None:
    small = photograph(64)
    (tmp_path / "chat.jpg").write_bytes(saved(small, "JPEG", quality=50))
    (tmp_path / "clean.png").write_bytes(saved(small, "PNG"))
    models = str(small_zoo("fast", "photo"))
    result = enlarger(tmp_path, "-o", tmp_path / "out", "--format", "png", ENLARGER_MODELS=models)
    assert result.returncode == 0, result.stderr
    chat, clean = sorted(told(result.stderr, "done"))
    assert chat.endswith("chat.png by photo (a spoiled photograph: compressed at quality 50)")
    assert " by fast (a clean photograph: " in clean
    fitted = ("--strength", "0.7")  # what auto finds for JPEG of quality 50
    for name, source, *model in (("chat", "chat.jpg", "photo", *fitted), ("clean", "clean.png", "fast")):
        named = enlarger(tmp_path / source, "-o", tmp_path / "named.png", "--model", *model, ENLARGER_MODELS=models)
        assert " by " not in named.stderr
        assert (
            decoded((tmp_path / "named.png").read_bytes()).tolist()
            == decoded((tmp_path / "out" / f"{name}.png").read_bytes()).tolist()
        )


def test_the_default_model_may_be_set(tmp_path: Path) -> None:
    source = write(tmp_path / "a.png", noise(8, 8, 3))
    result = enlarger(source, ENLARGER_DEFAULT_MODEL="bicubic")
    assert (result.returncode, " by " in result.stderr) == (0, False), result.stderr
    listed = enlarger("models", ENLARGER_DEFAULT_MODEL="bicubic").stdout.splitlines()
    assert listed[-1] == "bicubic is used if no model is named (ENLARGER_DEFAULT_MODEL)"
    result = enlarger(source, "--model", "auto", ENLARGER_DEFAULT_MODEL="huge")
    assert (result.returncode, "Unknown model 'huge'" in result.stderr) == (0, False), result.stderr
    result = enlarger(source, ENLARGER_DEFAULT_MODEL="huge")
    assert (result.returncode, "Unknown model 'huge'" in result.stderr) == (2, True), result.stderr


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
    assert capsys.readouterr().err == "enlarger: ENLARGER_TILE_PIXELS: Input should be greater than or equal to 4096\n"


@pytest.mark.parametrize(("suffix", "format"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_the_format_is_that_of_the_output_s_name(suffix: str, format: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.png", noise(8, 10, 3))
    target = tmp_path / "new" / f"big.{suffix}"
    assert main([str(source), "-o", str(target), "--scale", str(SCALE)]) == 0
    with Image.open(io.BytesIO(target.read_bytes())) as image:
        assert (image.format, image.size) == (format, (10 * SCALE, 8 * SCALE))
    assert files_in(tmp_path) == {"a.png", f"new/big.{suffix}"}


# -- one file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "name", "kind", "expected"),
    [
        (noise(8, 10, 4), "lying.jpg", "PNG", "lying-enlarged.png"),
        (noise(8, 10, 3), "lying.webp", "JPEG", "lying-enlarged.jpg"),
        (noise(8, 10, 3), "none", "GIF", "none-enlarged.png"),
        (noise(8, 10).astype(np.uint16) * 257, "deep.jpg", "PNG", "deep-enlarged.png"),
        (noise(8, 10, 3), "picture.gif", "GIF", "picture-enlarged.png"),
        (noise(4, 5000, 3), "wide.webp", "WEBP", "wide-enlarged.png"),  # 20,000 pixels: more than WebP can
        (noise(4, 5000, 3), "wide.avif", "AVIF", "wide-enlarged.png"),
        (noise(4, 4000, 3), "fits.webp", "WEBP", "fits-enlarged.webp"),
    ],
)
def test_the_format_follows_the_content_and_falls_back_as_over_http(
    pixels: Pixels, name: str, kind: str, expected: str, tmp_path: Path
) -> None:
    source = write(tmp_path / name, pixels, kind)
    assert main([str(source), "--model", "bicubic"]) == 0
    assert files_in(tmp_path) == {name, expected}
    result = decoded((tmp_path / expected).read_bytes())
    assert result.shape[:2] == (pixels.shape[0] * 4, pixels.shape[1] * 4)
    assert result.shape[2:] == (pixels.shape[2:] if kind != "GIF" else (3,))
    assert result.dtype == pixels.dtype or kind == "PNG"


def test_times_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "a.png", noise(8, 10, 3))
    os.utime(source, ns=(10**18, 10**18 + 123_000_000))
    assert main([str(source), "--model", "bicubic"]) == 0
    assert (tmp_path / "a-enlarged.png").stat().st_mtime_ns > 10**18 + 10**17
    assert main([str(source), "--model", "bicubic", "--keep-times"]) == 0
    assert (tmp_path / "a-enlarged.png").stat().st_mtime_ns == 10**18 + 123_000_000


@pytest.mark.parametrize("stem", ["n" * 246, "\N{SNOWMAN}" * 83, "n" * 251], ids=["ascii", "three bytes", "longest"])
def test_names_as_long_as_the_file_system_has_them(stem: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in" / f"{stem}.png", noise(8, 10, 3))
    for _ in range(2):
        assert main([str(source.parent), "--model", "bicubic"]) == 0
        assert len(files_in(source.parent)) == 2
    assert main([str(source), "-o", str(tmp_path / "out" / source.name), "--model", "bicubic"]) == 0
    assert files_in(tmp_path / "out") == {source.name}


def test_names_of_any_bytes_are_told_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (b"\xff\xfe.png", b"new\nline.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(encode(noise(8, 10, 3)))
    assert main([str(tmp_path), "--model", "bicubic"]) == 0
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 3
    assert "new\\nline.png: done:" in errors
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_is_no_result_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "a.png", noise(8, 10, 3))
    theirs = write(tmp_path / "out" / "a.png", noise(3, 3, 3))
    before = theirs.read_bytes()
    assert main([str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", "bicubic"]) == 1
    assert "a.png exists and is not a result of this command" in capsys.readouterr().err
    assert theirs.read_bytes() == before


@pytest.mark.parametrize("earlier", [None, b"an earlier result"])
def test_a_fault_in_the_middle_leaves_what_was_there_before(
    earlier: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(windows: list[Pixels]) -> None:
        if len(engine.computed) == 3:
            raise ValueError("a fault in the network")

    engine = FakeEngine(before=fail)
    zoo = Zoo(tmp_path, "nearest", (make_spec(),))
    source, target = write(tmp_path / "a.png", noise(600, 40, 3)), tmp_path / "out" / "big.png"
    if earlier is not None:
        target.parent.mkdir()
        target.write_bytes(earlier)
    order = BatchOptions([source], target, UpscaleParameters(scale=2))
    with running(engine) as scheduler:
        upscaler = Upscaler(zoo, scheduler, {}, budget=TileBudget(pixels=4096))
        assert Batch(order).run(lambda: upscaler) == 1
    assert len(engine.computed) >= 3
    assert summary(capsys.readouterr().err) == "0 done, 0 skipped, 1 failed"
    assert files_in(tmp_path) == ({"a.png"} if earlier is None else {"a.png", "out/big.png"})
    assert earlier is None or target.read_bytes() == earlier


def test_an_empty_folder_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"enlarger: {tmp_path}: there is no image to enlarge in it",
        "enlarger: 0 done, 0 skipped, 1 failed",
    ]
