"""Pairs of several kinds in one batch: a share of the crops is exchanged for crops of other pictures and their HR."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from training.data.pairs import PairSet, Pixels, chances, random_crop
from training.recipe import DataRecipe, MixRecipe

EXCHANGE = 1  # the stream of random numbers that says which crops are exchanged, and for which


class MixedIn:
    """One ``[[data.mix]]``: its pictures, and crops of them, spoiled in its own way."""

    def __init__(self, pairs: PairSet, mix: MixRecipe, data: DataRecipe) -> None:
        self.pairs = pairs
        self.data = replace(data, degradation=mix.degradation, sampling=mix.sampling)
        self.usable, self.shares = chances(pairs, self.data)

    def crop(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        return random_crop(self.pairs, int(rng.choice(self.usable, p=self.shares)), self.data, rng)


def mixed(
    batches: Iterator[tuple[Pixels, Pixels]],
    mixed_in: Sequence[tuple[MixedIn, float]],
    seed: int,
    first_step: int,
    rank: int = 0,
) -> Iterator[tuple[Pixels, Pixels]]:
    """The same batches, in which each of ``mixed_in`` has its share of the crops. What is exchanged, and for what,
    depends on the seed, the step and the process' rank alone."""
    sources, shares = zip(*mixed_in, strict=True)
    chances_of = [max(0.0, 1 - sum(shares)), *shares]
    for step, (lr, hr) in enumerate(batches, first_step):
        rng = np.random.default_rng((seed, step, rank, EXCHANGE))
        for place, chosen in enumerate(rng.choice(len(chances_of), len(lr), p=chances_of).tolist()):
            if chosen:
                lr[place], hr[place] = sources[chosen - 1].crop(rng)
        yield lr, hr
