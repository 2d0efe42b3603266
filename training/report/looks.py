"""How good an enlarged picture looks: LPIPS, DISTS and NIQE beside PSNR and SSIM, by weights that the user has.

judges = load_judges(Path("judges"))
judges(sr, hr)  # {"psnr_y": 23.1, "ssim_y": 0.61, "psnr_rgb": 21.4, "lpips_vgg": 0.41, ...}
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from training.hardware import computes_bf16
from training.losses.dists import SOURCES as DISTS_SOURCES
from training.losses.dists import Dists, load_dists
from training.losses.perceptual import LPIPS_SOURCES, Lpips, load_lpips
from training.report.metrics import Pixels, compare
from training.report.niqe import SOURCES as NIQE_SOURCES
from training.report.niqe import Niqe, load_niqe

VGG16, ALEXNET, DISTS, NIQE = (
    "vgg16.ckpt",
    "alexnet.ckpt",
    "weights.pt",
    "niqe_pris_params.npz",
)  # as their makers call them
Described = dict[str, list[Tensor]]


@dataclass
class Judges:
    """Those whose weights are there. ``identity`` changes with any weight, and with the precision.

    In bfloat16 the features are twice as fast on a CPU that computes it; a picture's figures then differ by up to
    0.0006, to either side (6 pairs of Set14, "web"). The features of an original are kept for the next version of it,
    so judge all versions of a picture in turn.
    """

    lpips: dict[str, Lpips]
    dists: Dists | None = None
    niqe: Niqe | None = None
    identity: str = ""
    in_bf16: bool = False
    _kept: OrderedDict[bytes, Described] = field(default_factory=OrderedDict, repr=False)

    def __call__(self, sr: Pixels, hr: Pixels, scale: int = 4) -> dict[str, float]:
        """The figures of uint8 ``[H, W, 3]`` against the original of the same size.

        PSNR and SSIM leave out ``scale`` pixels at each border, as the papers do, the others see the whole picture, as
        their authors have it.
        """
        figures = compare(sr, hr, scale)
        shown, original = self._describe(sr), self._original(hr)
        with torch.inference_mode():
            for name, judge in self._referenced().items():
                figures[name] = float(judge.compare(shown[name], original[name]))
        if self.niqe:
            figures["niqe"] = self.niqe(sr)
        return figures

    def _referenced(self) -> dict[str, Lpips | Dists]:
        return {**self.lpips, **({"dists": self.dists} if self.dists else {})}

    def _describe(self, pixels: Pixels) -> Described:
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.in_bf16):
            found = {name: judge.describe(image) for name, judge in self._referenced().items()}
        return {name: [depth.float() for depth in depths] for name, depths in found.items()}

    def _original(self, hr: Pixels) -> Described:
        key = hashlib.sha256(hr.tobytes()).digest()
        if key not in self._kept:
            self._kept.clear()  # some hundred bytes a pixel
            self._kept[key] = self._describe(hr)
        return self._kept[key]


def load_judges(folder: Path) -> Judges:
    """Of a folder's files, each under its maker's name, whichever are there; ``ValueError`` where none is."""
    files = {name: folder / name for name in (VGG16, ALEXNET, DISTS, NIQE) if (folder / name).is_file()}
    if not files:
        raise ValueError(f"no weights to judge by in {folder}: {LPIPS_SOURCES}; {DISTS_SOURCES}; {NIQE_SOURCES}")
    named = {"lpips_vgg": VGG16, "lpips_alex": ALEXNET}
    in_bf16 = computes_bf16(torch.device("cpu"))
    return Judges(
        lpips={name: load_lpips(files[file]) for name, file in named.items() if file in files},
        dists=load_dists(files[DISTS], folder / VGG16) if DISTS in files else None,
        niqe=load_niqe(files[NIQE]) if NIQE in files else None,
        identity=digest(files.values()) + (" bf16" if in_bf16 else ""),
        in_bf16=in_bf16,
    )


def digest(files: Iterable[Path]) -> str:
    """sha256 of the files' contents, in their order."""
    found = hashlib.sha256()
    for path in files:
        found.update(path.read_bytes())
    return found.hexdigest()
