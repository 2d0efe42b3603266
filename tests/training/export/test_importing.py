"""Networks of others: each kind of file into a zoo that a real server serves; and what is refused."""

import hashlib
import io
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from app.inference.engine import Engine
from app.inference.zoo import ModelSpec, load_zoo
from app.threads import usable_cores
from app.upscale.tiler import mirrored_beyond
from harness import MODELS
from harness.pictures import encode
from harness.server import running_server
from training.__main__ import main
from training.architectures import Generator
from training.export.community import load_spandrel
from training.export.face import attach_face
from training.export.footprint import measure_pixel_bytes
from training.export.graph import to_onnx
from training.export.verify import MAX_CONTEXT, measure_context, photo_seam

PHOTO = skimage.data.chelsea()[40:91, 100:165]  # odd sides


@pytest.fixture(scope="module")
def spandrel() -> ModuleType:
    return load_spandrel()


def import_file(path: Path, models: Path, *options: str) -> int:
    where = ["--data", str(path.parent / "none"), "import-model", str(path), "--models", str(models)]
    return main([*where, "--name", "theirs", *options])


def refused(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Imports what must not be imported, sees that nothing was written, and gives the one line that says why."""
    models = path.parent / "models"
    assert import_file(path, models, *options) == 2
    assert not models.exists()
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    return told


def enlarged(models: Path, pixels: np.ndarray = PHOTO) -> tuple[ModelSpec, np.ndarray]:
    """What the engine makes of uint8 ``[h, w, 3]`` with the imported network."""
    zoo = load_zoo(models)
    spec = next(spec for spec in zoo if spec.name == "theirs")
    return spec, Engine(zoo, "cpu", usable_cores()).run(spec, [pixels])[0]


def by_torch(network: nn.Module, pixels: np.ndarray = PHOTO) -> np.ndarray:
    with torch.no_grad():
        planes = network.eval()(torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None])
    return np.rint(planes[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255)


# -- weights -----------------------------------------------------------------------------------------------------


def compact(channels: int = 3) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=2)


def test_weights_are_imported_and_served_by_a_fresh_server(spandrel: ModuleType, tmp_path: Path) -> None:
    """A .pth in the wrapping of its trainer and the same weights as .safetensors, at one after the other."""
    from safetensors.torch import save_file

    network, path, models = compact(), tmp_path / "2x_theirs.pth", tmp_path / "models"
    torch.save({"params_ema": network.state_dict()}, path)
    assert import_file(path, models, "--scale", "2", "--licence", "CC-BY-4.0", "--source", "https://example.org/x") == 0
    spec, pixels = enlarged(models)
    assert np.abs(pixels - by_torch(network)).max() <= 1
    assert spec.summary == "Imported: RealESRGAN Compact 8nf 2nc, from 2x_theirs.pth."
    assert spec.training["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert spec.parameters == sum(p.numel() for p in network.parameters())
    assert spec.macs == 8 * 27 + 2 * 8 * 72 + 12 * 72

    with running_server(models=str(models)) as server, server.client() as client:
        (told,) = client.get("/models").json()["models"]
        assert (told["name"], told["licence"]) == ("theirs", "CC-BY-4.0")
        assert told["scales"][0]["source"] == "https://example.org/x"
        answer = client.post("/upscale?model=theirs&scale=2&format=png", files={"image": encode(PHOTO)})
        assert answer.status_code == 200
        served = np.asarray(Image.open(io.BytesIO(answer.content)))
    beyond = mirrored_beyond(spec.context, spec.alignment, spec.macs)  # the service shows it the picture's mirror image
    mirrored = np.pad(PHOTO, ((beyond, beyond), (beyond, beyond), (0, 0)), "symmetric")
    inside = slice(2 * beyond, -2 * beyond)
    assert np.abs(served - by_torch(network, mirrored)[inside, inside]).max() <= 1

    before = (models / "theirs-x2.onnx").read_bytes()
    save_file(network.state_dict(), tmp_path / "again.safetensors")
    assert import_file(tmp_path / "again.safetensors", models) == 0
    spec, again = enlarged(models)
    assert (again == pixels).all()
    assert (spec.licence, spec.training["source"]) == ("unknown", "unknown")
    assert before != (models / "theirs-x2.onnx").read_bytes()  # it tells of another file


def test_sides_are_padded_to_what_the_network_takes(
    spandrel: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real-ESRGAN's x2: it folds 2 x 2 pixels into one, so windows must begin at even pixels."""
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network = ESRGAN(in_nc=12, out_nc=3, num_filters=8, num_blocks=2, scale=4, shuffle_factor=2)
    path, models = tmp_path / "x2.pth", tmp_path / "models"
    torch.save(network.state_dict(), path)
    assert import_file(path, models) == 0
    spec, pixels = enlarged(models)
    assert spec.scale == 2
    assert spec.alignment % 2 == 0
    assert spec.context < MAX_CONTEXT
    h, w = PHOTO.shape[:2]
    padded = np.pad(PHOTO, ((0, -h % 4), (0, -w % 4), (0, 0)), "edge")
    assert np.abs(pixels - by_torch(network, padded)[: 2 * h, : 2 * w]).max() <= 1
    assert "warning: tiles differ" not in capsys.readouterr().out


def test_weights_of_other_channels_or_scales_are_refused(
    spandrel: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gray.pth"
    torch.save(compact(channels=1).state_dict(), path)
    assert "of 1 channels in and 1 out" in refused(path, capsys)
    torch.save(compact().state_dict(), path)
    assert "enlarges 2 times, not 4" in refused(path, capsys, "--scale", "4")
    torch.save({"layer.weight": torch.zeros(3)}, path)
    assert "of no architecture that spandrel" in refused(path, capsys)


class Harmful:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.marker), "w")

    def __init__(self, marker: Path) -> None:
        self.marker = marker


def test_a_pickle_with_code_in_it_is_refused_and_the_code_not_run(
    spandrel: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "run"
    torch.save({"params": Harmful(marker)}, tmp_path / "zip.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Harmful(marker)))
    for name in ("zip.pth", "bare.pth"):
        assert "is forbidden" in refused(tmp_path / name, capsys)
    assert not marker.exists()


def test_damaged_and_foreign_files_are_refused(
    spandrel: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    torch.save(compact().state_dict(), tmp_path / "whole.pth")
    save_file(compact().state_dict(), tmp_path / "whole.safetensors")
    onnx.save(nearest(), tmp_path / "whole.onnx")
    for kind in ("pth", "safetensors", "onnx"):
        whole = (tmp_path / f"whole.{kind}").read_bytes()
        for number, data in enumerate((whole[:-1], whole[: len(whole) // 2], b"", b"\x89PNG\r\n" * 20, b"[1, 2]")):
            path = tmp_path / f"{number}.{kind}"
            path.write_bytes(data)
            assert re.search("not a file of|not an ONNX file|of no architecture", refused(path, capsys)), (kind, number)
    assert "there is no such file" in refused(tmp_path / "missing.pth", capsys)
    (tmp_path / "a.txt").write_text("a")
    assert "a .txt file; known: .pth, .safetensors, .onnx" in refused(tmp_path / "a.txt", capsys)


# -- ONNX --------------------------------------------------------------------------------------------------------

Dims = tuple[int | str, ...]
BASE = ("N", 3, "H", "W")


def nearest(
    dims: Dims = BASE,
    bias: float = 0.0,
    white: float = 1.0,
    dtype: type = np.float32,
    extra: tuple[onnx.NodeProto, ...] = (),
    constants: tuple[onnx.TensorProto, ...] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    """Doubles pictures, adds ``bias`` and clips to ``white``; ``extra`` nodes go from "bright" to "more"."""
    weight = np.zeros((12, 3, 3, 3), dtype)
    weight[np.arange(12), np.arange(12) // 4, 1, 1] = 1
    arrays = {
        "weight": weight,
        "bias": np.full(12, bias, dtype),
        "black": np.array(0, dtype),
        "white": np.array(white, dtype),
    }
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["bright"], pads=[1, 1, 1, 1]),
        *extra,
        helper.make_node("DepthToSpace", ["more" if extra else "bright"], ["large"], blocksize=2, mode="CRD"),
        helper.make_node("Clip", ["large", "black", "white"], ["upscaled"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    out = [dims[0], dims[1], *(2 * d if isinstance(d, int) else f"2{d}" for d in dims[2:])]
    graph = helper.make_graph(
        nodes,
        "nearest",
        [helper.make_tensor_value_info("image", kind, list(dims))],
        [helper.make_tensor_value_info("upscaled", kind, out)],
        [*(numpy_helper.from_array(array, name) for name, array in arrays.items()), *constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(tmp_path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, tmp_path / "theirs.onnx")
    return tmp_path / "theirs.onnx"


def test_an_onnx_file_that_torch_wrote_is_imported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 12, 5, padding=2, padding_mode="replicate"), nn.PixelShuffle(2))
    network[0].bias.data.mul_(0.1)
    network[0].weight.data.mul_(0.02)
    network[0].weight.data[torch.arange(12), torch.arange(12) // 4, 2, 2] += 1
    path, models = saved(tmp_path, to_onnx(network)), tmp_path / "models"
    assert import_file(path, models) == 0
    spec, pixels = enlarged(models)
    assert np.abs(pixels - by_torch(network)).max() <= 1
    assert (spec.scale, spec.macs, spec.parameters) == (2, 12 * 75, 12 * 76)
    assert 1 <= spec.context <= 2
    assert spec.training["range"] == 1


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_a_fixed_size_is_opened(tmp_path: Path, opset: int) -> None:
    models = tmp_path / "models"
    assert import_file(saved(tmp_path, nearest((1, 3, 64, 48), opset=opset)), models) == 0
    spec, pixels = enlarged(models)
    assert (pixels == PHOTO.repeat(2, axis=0).repeat(2, axis=1)).all()
    assert spec.context == 0


@pytest.mark.parametrize("options", [(), ("--range", "255")])
def test_a_network_of_0_to_255_is_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    models = tmp_path / "models"
    assert import_file(saved(tmp_path, nearest(bias=9, white=255)), models, *options) == 0
    spec, pixels = enlarged(models)
    assert spec.training["range"] == 255
    assert (pixels == np.minimum(PHOTO.repeat(2, axis=0).repeat(2, axis=1).astype(int) + 9, 255)).all()


def test_a_network_in_cells_takes_pictures_of_any_size(tmp_path: Path) -> None:
    """Folded into cells of 4 x 4 and back, which is the identity: it needs sides of 4, but no context."""
    fold = helper.make_node("SpaceToDepth", ["bright"], ["cells"], blocksize=4)
    unfold = helper.make_node("DepthToSpace", ["cells"], ["more"], blocksize=4)
    models = tmp_path / "models"
    assert import_file(saved(tmp_path, nearest(extra=(fold, unfold))), models) == 0
    for h, w in ((1, 1), (3, 8), (4, 4), (51, 65)):
        _, pixels = enlarged(models, PHOTO[:h, :w])
        assert (pixels == PHOTO[:h, :w].repeat(2, axis=0).repeat(2, axis=1)).all()


def constant(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


BAKED = helper.make_node("Reshape", ["bright", "shape"], ["more"])
MEAN = (
    helper.make_node("ReduceMean", ["bright"], ["mean"], axes=[2, 3]),
    helper.make_node("Sub", ["bright", "mean"], ["more"]),
)


def two_outputs() -> onnx.ModelProto:
    model = nearest()
    model.graph.output.append(helper.make_tensor_value_info("large", TensorProto.FLOAT, ["N", 3, "H", "W"]))
    return model


def cast_from_half() -> onnx.ModelProto:
    cast = helper.make_node("Cast", ["half"], ["single"], to=TensorProto.FLOAT)
    add = helper.make_node("Add", ["bright", "single"], ["more"])
    return nearest(extra=(cast, add), constants=(constant("half", np.zeros(1, np.float16)),))


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "half": (lambda: nearest(dtype=np.float16), "image is float16; export the network in float32"),
    "double": (lambda: nearest(dtype=np.float64), "image is float64; export the network in float32"),
    "half weights": (cast_from_half, "holds float16 weights"),
    "gray": (lambda: nearest(("N", 1, "H", "W")), "RGB planes"),
    "pixels": (lambda: nearest(("N", "H", "W", 3)), r"image is \['N', 'H', 'W', 3\]; RGB planes"),
    "two outputs": (two_outputs, "1 inputs and 2 outputs"),
    "baked size": (
        lambda: nearest((1, 3, 64, 48), extra=(BAKED,), constants=(constant("shape", np.array([1, 12, 64, 48])),)),
        r"\[1, 3, 64, 48\].*export it with N, H and W dynamic",
    ),
    "global": (lambda: nearest(extra=MEAN, bias=0.5), r"no context up to 48.* on photographs by \d+\.\d levels"),
    "either range": (lambda: nearest(bias=0.06, white=300), r" either of 0\.\.1 and 0\.\.255 may be its range"),
    "another picture": (lambda: nearest(bias=0.9, white=0.9), r"neither of 0\.\.1 and 0\.\.255 may be its range"),
}


@pytest.mark.parametrize(("make", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused(
    make: Callable[[], onnx.ModelProto], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--range", "1") if "no context" in why else ()
    assert re.search(why, refused(saved(tmp_path, make()), capsys, *options))


def test_names_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, nearest())
    for name in ("A", "a/b", "..", "", "a" * 41):
        assert "is not one for a URL" in refused(path, capsys, "--name", name)
    before = (MODELS / "manifest.json").read_bytes()
    assert import_file(path, MODELS, "--name", "bicubic") == 2
    assert "already has a model 'bicubic' that was trained" in capsys.readouterr().err
    assert (MODELS / "manifest.json").read_bytes() == before


def test_an_import_does_not_become_the_default(tmp_path: Path) -> None:
    models, path = tmp_path / "models", saved(tmp_path, nearest())
    assert import_file(path, models, "--name", "first") == 0
    assert import_file(path, models) == 0
    assert json.loads((models / "manifest.json").read_text())["default"] == "first"


# -- networks that look further than tiles show them --------------------------------------------------------------


class Blurring(Generator):
    """Each pixel twice, and what lies ``distance`` pixels to the right is laid over it with a ``share``."""

    scale = 2

    def __init__(self, distance: int, share: float) -> None:
        super().__init__()
        self.distance, self.share = distance, share

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        further = F.pad(lr, (0, self.distance, 0, 0))[..., self.distance :]
        return F.interpolate((1 - self.share) * lr + self.share * further, scale_factor=2.0)


@pytest.mark.parametrize(("distance", "share", "seen"), [(20, 0.5, False), (60, 0.05, True)])
def test_what_moves_on_photographs_is_measured(distance: int, share: float, seen: bool) -> None:
    network = Blurring(distance, share)
    context, worst = measure_context(network, max_seam=255)
    seam = photo_seam(network, context)
    if not seen:
        assert (context, worst, seam.worst) == (distance, 0, 0)
        return
    assert context == MAX_CONTEXT
    assert 0 < seam.mean < seam.worst <= worst + 0.01 <= 255 * share + 0.02


def test_a_network_whose_tiles_move_a_little_is_taken_and_what_moves_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Blurring(60, 0.03)
    onnx.save(to_onnx(network, (24, 25)), tmp_path / "far.onnx")
    assert "allowed: 3 and 6" in refused(tmp_path / "far.onnx", capsys, "--range", "1", "--seams", "3")
    assert import_file(tmp_path / "far.onnx", tmp_path / "models", "--range", "1") == 0
    told = capsys.readouterr().out
    assert re.search(r"warning: tiles differ .* on photographs by \d\.\d levels of 255 at most and \d\.\d\d", told)
    spec, _ = enlarged(tmp_path / "models")
    assert 2 < spec.training["seam"] <= 255 * 0.03 + 0.01
    assert 0 < spec.training["photo_seam"]["mean"] < spec.training["photo_seam"]["worst"]


def test_the_memory_of_a_run_is_measured_for_a_pixel(tmp_path: Path) -> None:
    """Real-ESRGAN's compact network holds a few planes of its features at a time, in float32."""
    network = compact()
    graph = attach_face(to_onnx(network, (24, 25)), 2, phases=False)
    wide = torch.nn.Sequential(nn.Conv2d(3, 512, 3, padding=1), nn.Conv2d(512, 3, 3, padding=1))
    wide_graph = attach_face(to_onnx(wide, (24, 25)), 1, phases=False)
    small, large = measure_pixel_bytes(graph), measure_pixel_bytes(wide_graph)
    assert 1 <= small < 1500
    assert 512 * 4 <= large < 5 * 512 * 4
