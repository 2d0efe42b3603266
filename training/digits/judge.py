"""How good drawn digits are: a classifier trained here says which digit each is, how surely, and how far they lie
from real ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from training.digits.data import Labelled
from training.digits.networks import Classifier, to_tensor
from training.hardware import computes_bf16

EPOCHS, BATCH, RATE = 4, 128, 2e-3
SHIFT = 1  # pixels by which training digits are moved about
SURE = 0.9  # the confidence from which a sample counts as a digit


@dataclass(frozen=True)
class Judgement:
    """``sure``: the share of samples whose class has a probability over 0.9. ``classes``: each class's share.
    ``frechet``: the distance of their features from those of real test digits."""

    samples: int
    sure: float
    classes: tuple[float, ...]
    frechet: float

    def metrics(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "sure": round(self.sure, 4),
            "frechet": round(self.frechet, 3),
            "rarest_class": round(min(self.classes), 4),
        }


def load_judge(train: Labelled, test: Labelled, path: Path, seed: int = 1) -> tuple[Classifier, float]:
    """The classifier kept at ``path``, trained first if it is not there; and its accuracy on the test pictures."""
    classifier = Classifier()
    if path.exists():
        classifier.load_state_dict(torch.load(path, weights_only=True))
    else:
        fit(classifier, train, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(classifier.state_dict(), path)
    classifier.eval().requires_grad_(False)
    _, probabilities = look(classifier, to_tensor(np.array(test.pictures)))
    return classifier, float((probabilities.argmax(1) == test.labels).mean())


def fit(classifier: Classifier, data: Labelled, seed: int) -> None:
    """Adam with a rate that falls to nothing; digits are moved about a little."""
    torch.manual_seed(seed)
    pictures, labels = to_tensor(np.array(data.pictures)), torch.from_numpy(np.array(data.labels)).long()
    optimizer = torch.optim.Adam(classifier.parameters())
    steps = EPOCHS * (len(data) // BATCH)
    rng = np.random.default_rng(seed)
    classifier.train().to(memory_format=torch.channels_last)
    for step in tqdm(range(steps), "judge", mininterval=10):
        if step % (len(data) // BATCH) == 0:
            order = torch.from_numpy(rng.permutation(len(data)))
        start = step % (len(data) // BATCH) * BATCH
        chosen = order[start : start + BATCH]
        moved = torch.roll(pictures[chosen], tuple(rng.integers(-SHIFT, SHIFT + 1, 2).tolist()), (2, 3))
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16(torch.device("cpu"))):
            loss = F.cross_entropy(classifier(moved).float(), labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def look(classifier: Classifier, pictures: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features ``[N, 128]`` and probabilities ``[N, 10]`` of pictures ``[N, 1, 28, 28]`` in [-1, 1]."""
    features = torch.cat([classifier.features(part) for part in pictures.split(500)])
    return features.double().numpy(), classifier.head(features).double().softmax(1).numpy()


@torch.no_grad()
def draw(generator: nn.Module, latent: int, count: int, seed: int) -> Tensor:
    """``[count, 1, 28, 28]`` in [-1, 1]."""
    noise = np.random.default_rng(seed).standard_normal((count, latent), np.float32)
    return torch.cat([generator(part) for part in torch.from_numpy(noise).split(500)])


def judge(classifier: Classifier, pictures: Tensor, real: NDArray[np.float64]) -> Judgement:
    """``pictures`` ``[N, 1, 28, 28]`` in [-1, 1]; ``real`` the features ``[M, 128]`` of real ones."""
    features, probabilities = look(classifier, pictures)
    shares = np.bincount(probabilities.argmax(1), minlength=10) / len(pictures)
    sure = float((probabilities.max(1) > SURE).mean())
    return Judgement(len(pictures), sure, tuple(shares.tolist()), frechet_distance(features, real))


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """``|mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2))`` of two sets of features (Heusel 2017, arXiv:1706.08500).

    The trace of the root is the sum of the roots of the eigenvalues of ``A^(1/2) B A^(1/2)``, which is symmetric.
    """
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root).clip(0)).sum()
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross)
