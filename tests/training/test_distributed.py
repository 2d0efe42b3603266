"""Two processes that train one network, as ``torchrun`` starts them: gloo on CPU."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from harness import ROOT
from training.data.pairs import PairSet, batches
from training.recipe import DataRecipe

RECIPE = """
name = "tiny"
scale = 2
summary = "A recipe for tests, with batch normalisation in both players."
precision = "fp32"
network = { architecture = "srresnet", channels = 4, blocks = 1 }
data = { crop = 16, batch = 2 }
stage = [{ steps = 4, warmup = 0, adversary = { discriminator = "patch", channels = 4, weight = 0.1 } }]
"""

# what each process ends with, its own optimisers' and batch normalisation's numbers too
PROCESS = """
import os, sys
from pathlib import Path
import torch
from training import start, train as training
from training.checkpoint import Folders
from training.recipe import load_recipe

def keep_adversary(*arguments, new=start.new_adversary):
    kept.append(new(*arguments))
    return kept[-1]

kept = []
start.new_adversary = keep_adversary
folder = Path(sys.argv[1])
network = training.train(load_recipe(str(folder / "tiny.toml")), Folders(folder, folder / "runs"))
state = {"averaged": network.state_dict(), **kept[0].state_dict()}
torch.save(state, folder / f"{os.environ.get('RANK', 'alone')}.pt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    for below in ("photos", "kodak"):
        (folder / below).mkdir()
        for name in ("astronaut", "chelsea"):
            Image.fromarray(getattr(skimage.data, name)()[60:160, 100:220]).save(folder / below / f"{name}.png")
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "process.py").write_text(PROCESS)
    return folder


def test_two_processes_end_with_the_same_networks(folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(folder / "process.py"), str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]

    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for part in ("averaged", "discriminator"):
        unequal = [name for name in first[part] if not torch.equal(first[part][name], second[part][name])]
        assert unequal == []
    checkpoint = torch.load(folder / "runs" / "tiny-x2" / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 4
    assert torch.equal(checkpoint["averaged"]["head.weight"], first["averaged"]["head.weight"])
    with open(folder / "runs" / "tiny-x2" / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_processes_learn_from_crops_of_their_own(folder: Path) -> None:
    pairs = PairSet(folder / "photos", 2, "bicubic", folder / "cache")
    first, again, second = (
        next(batches(pairs, DataRecipe(crop=16, batch=4), 1, 3, 4, rank=rank)) for rank in (0, 0, 1)
    )
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], second[1])
