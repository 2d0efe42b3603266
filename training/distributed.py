"""Several processes, one a GPU, that train one network: started by ``torchrun``, or alone and none the wiser.

Every process makes batches of its own and has the same weights; what they average after each step's ``backward`` are
the gradients (Goyal et al. 2017, arXiv:1706.02677: a step then sees as many crops as processes times the recipe's
batch).
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process' number, how many there are, and the device that it has for itself."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes: checkpoints, log, samples."""
        return self.rank == 0

    def average_gradients(self, network: nn.Module) -> None:
        """Between ``backward`` and the optimiser's step, in every process."""
        self._average([p.grad for p in network.parameters() if p.grad is not None])

    def average_statistics(self, network: nn.Module) -> None:
        """Batch normalisation's running means and variances, which each process gathers on its own crops."""
        self._average([b for b in network.buffers() if b.is_floating_point()])

    def in_turn(self) -> contextlib.AbstractContextManager[None]:
        """The first process goes through the block before the others: it makes the files that they then find."""
        return self._in_turn() if self.count > 1 else contextlib.nullcontext()

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self.first:
            dist.barrier()
        yield
        if self.first:
            dist.barrier()

    @torch.no_grad()
    def _average(self, tensors: list[Tensor]) -> None:
        """In place, all in one message."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, averaged in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(averaged.view(tensor.shape))


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Joins the processes that ``torchrun`` started (RANK, LOCAL_RANK and WORLD_SIZE tell of them), by NCCL or gloo."""
    cuda = torch.cuda.is_available()
    local, count = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if count == 1:
        yield Ranks(0, 1, device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks(dist.get_rank(), count, device)
    finally:
        dist.destroy_process_group()
