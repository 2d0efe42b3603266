"""The two games: their formulas against torch's binary cross-entropy, and whether a generator learns by them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.architectures.discriminators import PatchDiscriminator
from training.distributed import Ranks
from training.losses.adversarial import ADVERSARIAL, Adversary, accuracy

REAL = torch.tensor([[2.0], [0.5], [-1.0], [0.25]])
MADE = torch.tensor([[-1.5], [0.75], [-0.25], [3.0]])


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def test_standard_is_binary_cross_entropy() -> None:
    game = ADVERSARIAL["standard"]
    torch.testing.assert_close(game.generator(REAL, MADE), cross_entropy(MADE, 1))
    torch.testing.assert_close(game.discriminator(REAL, MADE), cross_entropy(REAL, 1) + cross_entropy(MADE, 0))


def test_relativistic_compares_with_the_other_sides_mean() -> None:
    game = ADVERSARIAL["relativistic"]
    real, made = REAL - MADE.mean(), MADE - REAL.mean()
    torch.testing.assert_close(game.discriminator(REAL, MADE), cross_entropy(real, 1) + cross_entropy(made, 0))
    torch.testing.assert_close(game.generator(REAL, MADE), cross_entropy(real, 0) + cross_entropy(made, 1))


def test_relativistic_knows_differences_only() -> None:
    game = ADVERSARIAL["relativistic"]
    for loss in (game.generator, game.discriminator):
        torch.testing.assert_close(loss(REAL + 5, MADE + 5), loss(REAL, MADE))


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_undecided_discriminator_loses_log_2_a_side(name: str) -> None:
    undecided = torch.zeros(2, 1, 6, 6)  # of the patch form
    assert ADVERSARIAL[name].discriminator(undecided, undecided).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_sure_discriminator_keeps_losses_and_gradients_finite(name: str) -> None:
    real, made = torch.full((4, 1), 500.0), torch.full((4, 1), -500.0, requires_grad=True)
    loss = ADVERSARIAL[name].generator(real, made)
    loss.backward()
    assert torch.isfinite(loss)
    assert made.grad.sum() < -0.5, f"a beaten generator must still be told to raise its logits: {made.grad.flatten()}"
    assert ADVERSARIAL[name].discriminator(real, made).item() == 0


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_generator_learns_the_real_mean(name: str) -> None:
    """The smallest GAN: noise plus one learned number has to look like noise around 2."""
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    shift = nn.Parameter(torch.zeros(1))
    judge = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    steps = torch.optim.Adam([shift], 0.02, betas=(0.5, 0.9)), torch.optim.Adam(judge.parameters(), 0.01)
    seen = []
    for _ in range(400):
        real = torch.randn(64, 1, generator=draw) + 2
        made = torch.randn(64, 1, generator=draw) + shift
        losses = (
            lambda: ADVERSARIAL[name].generator(judge(real).detach(), judge(made)),  # noqa: B023 - called at once
            lambda: ADVERSARIAL[name].discriminator(judge(real), judge(made.detach())),  # noqa: B023
        )
        for optimizer, loss in zip(steps, losses, strict=True):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        seen.append(shift.item())
    ended = sum(seen[-100:]) / 100
    assert ended == pytest.approx(2, abs=0.5), f"went {[round(s, 2) for s in seen[::50]]}"


def test_accuracy_counts_each_side() -> None:
    real, made = accuracy(REAL, MADE)
    assert (real.item(), made.item()) == (0.75, 0.5)
    undecided = torch.zeros(3, 1)
    assert [share.item() for share in accuracy(undecided, undecided)] == [0.5, 0.5]


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_neither_player_moves_the_other(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    hr, sr = torch.rand(2, 2, 3, 32, 32, generator=draw)
    sr.requires_grad_()
    torch.manual_seed(0)
    adversary = Adversary(ADVERSARIAL[name], PatchDiscriminator(channels=4, dense=8))
    parameters = dict(adversary.discriminator.named_parameters())

    adversary.generator_loss(sr, hr).backward()
    assert sr.grad.abs().sum() > 0
    assert [name for name, p in parameters.items() if p.grad is not None] == []

    told = sr.grad.clone()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    adversary.step(adversary.losses(sr, hr)["discriminator"], 1e-3, Ranks(0, 1, torch.device("cpu")))
    assert torch.equal(sr.grad, told)
    assert [name for name, p in parameters.items() if name.endswith("weight") and torch.equal(p, before[name])] == []


def test_relative_logits_are_counted_relatively() -> None:
    class Shifted(nn.Module):
        """Gives real patches (brighter ones) 11, others 9: both positive."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, image: Tensor) -> Tensor:
            return self.scale * image.mean((1, 2, 3))[:, None]

    hr, sr = torch.full((2, 3, 4, 4), 11.0), torch.full((2, 3, 4, 4), 9.0)
    shares = {name: Adversary(game, Shifted()).losses(sr, hr) for name, game in ADVERSARIAL.items()}
    found = {name: (share["known_real"].item(), share["known_made"].item()) for name, share in shares.items()}
    assert found == {"standard": (1, 0), "relativistic": (1, 1)}
