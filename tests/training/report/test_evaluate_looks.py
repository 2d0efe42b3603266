"""Networks of the zoo and of others' files on the same spoiled pictures: the table, the crops, what is kept."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from PIL import Image

from app.upscale.tiler import mirrored_beyond
from harness import MODELS
from tests.support.nearest import nearest_graph
from tests.support.weights import random_weights, write_lpips
from training.__main__ import main
from training.losses.perceptual import alexnet_layers
from training.report.cache import Cache
from training.report.conditions import web
from training.report.evaluate_looks import share_of_way
from training.report.fidelity import fidelity
from training.report.looks import load_judges
from training.report.niqe import features
from training.report.records import FIDELITY, read_records
from training.report.rivals import CONTEXT, LARGEST, in_tiles, read_rival

Capture = pytest.CaptureFixture[str]
PHOTOS = {"a": skimage.data.astronaut()[0:196, 100:300], "b": skimage.data.coffee()[60:252, 100:292]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "set").mkdir()
    for name, pixels in PHOTOS.items():
        Image.fromarray(pixels).save(folder / "set" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet at random, and NIQE by one photograph."""
    folder = tmp_path_factory.mktemp("judges")
    write_lpips(folder / "alexnet.ckpt", "AlexNet_0", random_weights(alexnet_layers()), (64, 192, 384, 256, 256))
    natural = features(skimage.data.astronaut())
    parameters = {"mu_pris_param": natural.mean(axis=0)[None], "cov_pris_param": np.cov(natural, rowvar=False)}
    np.savez(folder / "niqe_pris_params.npz", **parameters)
    return folder


@pytest.fixture(scope="module")
def nearest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of this project: pixels repeated, x4."""
    path = tmp_path_factory.mktemp("rival") / "nearest-x4.onnx"
    onnx.save(nearest_graph("nearest", 4), path)
    return path


def compact_file(path: Path, upscale: int = 4) -> torch.nn.Module:
    """Real-ESRGAN's compact network with random weights under its official names."""
    from training.export.community import load_spandrel

    load_spandrel()
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    network = Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=upscale)
    torch.save({"params": network.state_dict()}, path)
    return network


def run(data: Path, *arguments: object) -> int:
    where = ["--data", str(data), "evaluate", "bicubic-x4", "--models", str(MODELS), "--sets", "set"]
    return main([*where, *map(str, arguments)])


# -- the comparison ----------------------------------------------------------------------------------------------


def test_networks_are_compared_and_shown(
    data: Path, judges: Path, nearest: Path, tmp_path: Path, capsys: Capture
) -> None:
    compact_file(tmp_path / "compact.pth")
    files = {"--json": tmp_path / "looks.json", "--figures": tmp_path / "figures"}
    options = [word for pair in files.items() for word in pair]
    conditions = ["--conditions", "web", "poor", "--judges", judges, "--measure", "quality", "--crops", "1"]
    rivals = ["--rival", nearest, tmp_path / "compact.pth", "--base", "nearest-x4", "--goal", "bicubic"]
    assert run(data, *conditions, *rivals, *options) == 0
    text = capsys.readouterr().out
    records = {record.name: record for record in read_records(files["--json"])}
    assert list(records) == ["bicubic", "nearest-x4", "compact", "original"]

    judged, repeated = load_judges(judges), []
    for hr in (pixels[: len(pixels) // 4 * 4] for pixels in PHOTOS.values()):
        sr = web(np.ascontiguousarray(hr), 4).repeat(4, axis=0).repeat(4, axis=1)
        repeated.append(judged(sr, hr) | fidelity(sr, web(np.ascontiguousarray(hr), 4), 4))
    expected = {key: pytest.approx(np.mean([each[key] for each in repeated]), abs=1e-4) for key in repeated[0]}
    assert records["nearest-x4"].metrics["set (web)"] == expected
    assert set(records["original"].metrics["set (poor)"]) == {"niqe", *FIDELITY}

    start, here, goal = (
        records[name].metrics["set (web)"]["lpips_alex"] for name in ("nearest-x4", "compact", "bicubic")
    )
    lines = text.splitlines()
    heads = "lpips alex | niqe | psnr rgb | psnr y | ssim y | lr psnr | lr delta e | grid"
    assert lines[0] == f"| set (web) | parameters | LR Mpx/s | {heads} |"
    assert re.search(rf"^\| `nearest-x4` \| \d+ \| - \| {start:.3f} \|", text, re.MULTILINE)
    share = share_of_way(start, here, goal)
    shown = "-" if share is None else f"{share:.2f}"
    assert f"| `compact`, of the way from `nearest-x4` to `bicubic` | | | {shown} |" in text
    assert "`original`, of the way" not in text
    pictures = sorted(path.name for path in files["--figures"].iterdir())
    assert pictures == ["looks-set-poor-000.png", "looks-set-web-000.png"]
    with Image.open(files["--figures"] / pictures[0]) as figure:  # nearest, bicubic, two networks, original
        assert figure.width == 2 * 10 + 5 * 192 + 4 * 8


def test_rivals_are_timed_as_the_zoo_is(
    data: Path, nearest: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.report.evaluate.SPEED_SECONDS", 0.0)
    compact_file(tmp_path / "compact.pth")
    rivals = ["--rival", nearest, tmp_path / "compact.pth"]
    assert run(data, "--conditions", "clean", *rivals, "--json", tmp_path / "looks.json", "--measure", "speed") == 0
    records = read_records(tmp_path / "looks.json")
    *timed, original = records
    assert [record.speed is not None and record.speed.lr_mpx_per_s > 0 for record in timed] == [True] * 3
    assert original.speed is None
    assert "LR Mpx/s: the bare ONNX Runtime session" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rival", "NEAREST"], "say under which --conditions"),
        (
            ["--conditions", "web", "--rival", "NEAREST", "--base", "fast"],
            "the base 'fast' is none of bicubic, nearest",
        ),
        (["--conditions", "web", "--rival", "NEAREST", "NEAREST"], "two rivals are called alike"),
        (["--conditions", "web", "--rival", "DOUBLE"], "compared at one scale, not at [2, 4]"),
        (["--conditions", "web", "--rival", "none.pth"], "there is no such file"),
        (["--conditions", "web", "--judges", "nowhere"], "no weights to judge by in nowhere"),
        (["--conditions", "web", "--sets", "none"], "has no pictures for x4"),
        (["--conditions", "web", "--base", "bicubic", "--goal", "fast"], "the goal 'fast' is none of bicubic"),
    ],
)
def test_what_does_not_go_together_is_said(
    arguments: list[str], said: str, data: Path, nearest: Path, tmp_path: Path, capsys: Capture
) -> None:
    onnx.save(nearest_graph("double", 2), tmp_path / "double-x2.onnx")
    files = {"NEAREST": nearest, "DOUBLE": tmp_path / "double-x2.onnx"}
    assert run(data, *(files.get(word, word) for word in arguments)) == 2
    assert said in capsys.readouterr().err


def test_the_share_of_the_way_is_0_at_the_start_and_1_at_the_goal() -> None:
    assert share_of_way(0.6, 0.6, 0.4) == 0
    assert share_of_way(0.6, 0.4, 0.4) == 1
    assert share_of_way(0.6, 0.45, 0.4) == pytest.approx(0.75)
    assert share_of_way(0.6, 0.7, 0.4) == pytest.approx(-0.5)
    assert share_of_way(0.4, 0.3, 0.4) is None  # there is no way


# -- what is kept ------------------------------------------------------------------------------------------------


def test_what_was_computed_is_not_computed_again(
    data: Path, judges: Path, nearest: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--conditions", "web", "--judges", judges, "--rival", nearest, "--measure", "quality"]
    options += ["--cache", tmp_path / "cache"]
    assert run(data, *options) == 0
    first = capsys.readouterr().out

    def forbidden(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("training.report.rivals.in_tiles", forbidden)
    monkeypatch.setattr("training.report.looks.Judges.__call__", forbidden)
    assert run(data, *options) == 0
    assert capsys.readouterr().out == first


def test_kept_by_what_it_was_made_of(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "cache")
    first, second = PHOTOS["a"], PHOTOS["b"]
    assert (cache.pixels(["one", 1], lambda: first) == first).all()
    assert (cache.pixels(["one", 1], lambda: second) == first).all()
    assert (cache.pixels(["one", 2], lambda: second) == second).all()
    assert cache.figures(["one", 1], lambda: {"niqe": 3.5}) == {"niqe": 3.5}
    with pytest.raises(RuntimeError):
        cache.figures(["two"], fails)
    assert cache.figures(["two"], lambda: {"niqe": 1.0}) == {"niqe": 1.0}
    assert (Cache(None).pixels(["one", 1], lambda: second) == second).all()


def fails() -> dict[str, float]:
    raise RuntimeError


# -- rivals ------------------------------------------------------------------------------------------------------


def test_a_rival_is_computed_by_torch(tmp_path: Path) -> None:
    network = compact_file(tmp_path / "compact.pth").eval()
    rival = read_rival(tmp_path / "compact.pth")
    assert (rival.name, rival.scale, rival.parameters) == ("compact", 4, sum(p.numel() for p in network.parameters()))
    lr = PHOTOS["a"][:40, :50]
    beyond = mirrored_beyond(CONTEXT)
    shown = np.pad(lr, ((beyond, beyond), (beyond, beyond), (0, 0)), "symmetric")
    with torch.no_grad():
        planes = network(torch.from_numpy(shown / np.float32(255)).permute(2, 0, 1)[None])[0].clamp(0, 1)
    inside = slice(4 * beyond, -4 * beyond)
    exact = np.rint(planes.permute(1, 2, 0).numpy() * 255)[inside, inside]
    difference = np.abs(rival.enlarge(lr) - exact)
    assert difference.max() <= (4 if rival.precision == "bf16" else 1)
    assert difference.mean() < 0.7


def test_an_onnx_file_of_others_is_a_rival_too(tmp_path: Path) -> None:
    from training.export.publish import to_onnx

    network = compact_file(tmp_path / "compact.pth")
    onnx.save(to_onnx(network, (24, 25)), tmp_path / "compact.onnx")
    rivals = [read_rival(tmp_path / name) for name in ("compact.pth", "compact.onnx")]
    assert [rival.precision for rival in rivals][1] == "fp32"
    lr = PHOTOS["b"][:32, :32]
    assert np.abs(rivals[0].enlarge(lr).astype(int) - rivals[1].enlarge(lr)).max() <= 4


def test_a_large_picture_is_computed_in_tiles(nearest: Path) -> None:
    rival = read_rival(nearest)
    lr = np.random.default_rng(0).integers(0, 256, (LARGEST + 40, 2 * LARGEST, 3), np.uint8)
    assert (rival.enlarge(lr) == lr.repeat(4, axis=0).repeat(4, axis=1)).all()
    sides = []

    def seen(tile: np.ndarray) -> np.ndarray:
        sides.append(max(tile.shape[:2]))
        return tile

    assert (in_tiles(seen, 1, lr) == lr).all()
    assert max(sides) <= LARGEST


def test_a_file_that_does_not_tell_its_scale_is_refused(tmp_path: Path) -> None:
    graph = nearest_graph("nearest", 4)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "untold.onnx")
    with pytest.raises(ValueError, match="does not tell its scale"):
        read_rival(tmp_path / "untold.onnx")
