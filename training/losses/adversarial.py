"""What a generator and its discriminator play for. Every loss takes logits: of real patches, then of made ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.distributed import Ranks

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits of real and of made patches, each ``[N, 1]`` or ``[N, 1, h, w]``, to a scalar."""


@dataclass(frozen=True)
class Game:
    """The two losses that belong together.

    In the generator's step only the made patches' logits carry a gradient to it; pass the real ones detached.
    In the discriminator's step the made patches themselves are detached. ``relative``: a logit means something only
    beside the other side's mean.
    """

    generator: Loss
    discriminator: Loss
    relative: bool = False


def says_real(logits: Tensor) -> Tensor:
    """``-log(sigmoid(logits))``, mean: what is lost when real was the right answer."""
    return F.softplus(-logits).mean()


def says_made(logits: Tensor) -> Tensor:
    """``-log(1 - sigmoid(logits))``, mean."""
    return F.softplus(logits).mean()


def standard_generator(real: Tensor, made: Tensor) -> Tensor:
    """``-log D(G(z))``, the form that does not saturate (Goodfellow et al. 2014, arXiv:1406.2661; SRGAN's eq. 6)."""
    return says_real(made)


def standard_discriminator(real: Tensor, made: Tensor) -> Tensor:
    """Binary cross-entropy, the sum over both kinds of patches."""
    return says_real(real) + says_made(made)


def relativistic_generator(real: Tensor, made: Tensor) -> Tensor:
    """ESRGAN's equation 2: made patches shall look more real than real ones do on average, and real ones less.

    Real patches take part, through the mean of the made ones (Jolicoeur-Martineau 2018, arXiv:1807.00734).
    """
    return says_made(real - made.mean()) + says_real(made - real.mean())


def relativistic_discriminator(real: Tensor, made: Tensor) -> Tensor:
    """ESRGAN's equation 1 (Wang et al. 2018, arXiv:1809.00219)."""
    return says_real(real - made.mean()) + says_made(made - real.mean())


ADVERSARIAL: dict[str, Game] = {
    "standard": Game(standard_generator, standard_discriminator),
    "relativistic": Game(relativistic_generator, relativistic_discriminator, relative=True),
}


@torch.no_grad()
def accuracy(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of real and of made patches that the discriminator knows; near 1, the generator learns little.

    A logit of 0 decides nothing and counts as half. Relative logits: subtract the other side's mean first.
    """
    return known(real), known(-made)


def known(logits: Tensor) -> Tensor:
    return ((logits.sign() + 1) / 2).mean()


class Adversary:
    """A discriminator that learns beside the generator: the game, the network and its optimiser."""

    def __init__(self, game: Game, discriminator: nn.Module) -> None:
        self.game, self.discriminator = game, discriminator.train()
        self.optimizer = torch.optim.Adam(discriminator.parameters(), betas=(0.9, 0.99))

    def generator_loss(self, sr: Tensor, hr: Tensor) -> Tensor:
        """What the generator loses; its gradient goes to ``sr`` alone. Both are ``[N, 3, H, W]`` in [0, 1]."""
        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            real = self.discriminator(hr).float()
        loss = self.game.generator(real, self.discriminator(sr).float())
        self.discriminator.requires_grad_(True)
        return loss

    def losses(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """What the discriminator loses, with a gradient to it alone, and what it knows of either side."""
        real, made = self.discriminator(hr).float(), self.discriminator(sr.detach()).float()
        shares = accuracy(real - made.mean(), made - real.mean()) if self.game.relative else accuracy(real, made)
        loss = self.game.discriminator(real, made)
        return {"discriminator": loss, "known_real": shares[0], "known_made": shares[1]}

    def step(self, loss: Tensor, rate: float, ranks: Ranks) -> None:
        """One step of the discriminator down its own loss, or down the mean of all processes' ones."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(self.discriminator)
        self.optimizer.step()
        ranks.average_statistics(self.discriminator)

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
