"""A 3x3 convolution that is trained wide and served plain (SESR, Bhardwaj et al. 2022, arXiv:2103.09404)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CollapsibleConv(nn.Module):
    """``conv1x1(conv3x3(x)) [+ x]``, linear inside, so it is always computed as one 3x3 convolution.

    The expansion to ``expansion * max(inputs, outputs)`` channels exists only in the weights: each step multiplies the
    two kernels (a few Mflop) and convolves once, so that training costs what the plain network costs, and export
    stores one kernel.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int = 4, identity: bool = True) -> None:
        super().__init__()
        wide = expansion * max(inputs, outputs)
        self.expand = nn.Parameter(torch.empty(wide, inputs, 3, 3))
        self.squeeze = nn.Parameter(torch.empty(outputs, wide))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.expand, nonlinearity="linear")
        nn.init.kaiming_normal_(self.squeeze, nonlinearity="relu")
        self.identity = identity and inputs == outputs
        if self.identity:  # the identity carries the signal at first, so the branch starts small
            with torch.no_grad():
                self.squeeze.mul_(0.3)

    def kernel(self) -> Tensor:
        """The one 3x3 kernel this layer stands for: ``[outputs, inputs, 3, 3]``."""
        with torch.autocast(self.expand.device.type, enabled=False):  # products of weights stay in fp32
            kernel = torch.einsum("ow,wikl->oikl", self.squeeze, self.expand)
            if self.identity:
                eye = torch.eye(kernel.shape[0], device=kernel.device)
                kernel = kernel + F.pad(eye[:, :, None, None], (1, 1, 1, 1))
        return kernel

    @torch.no_grad()
    def factors(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """``expand`` and ``squeeze`` of which :meth:`kernel` makes ``kernel`` ``[outputs, inputs, 3, 3]`` again.

        Of the many that do, two of equal mean square, so that a step of Adam moves both alike; the directions of
        ``squeeze`` are at random and orthogonal.
        """
        branch = kernel.clone()
        if self.identity:
            branch[:, :, 1, 1] -= torch.eye(len(branch))
        squeeze = nn.init.orthogonal_(torch.empty_like(self.squeeze))  # [outputs, wide], rows of length 1
        expand = torch.einsum("ow,oikl->wikl", squeeze, branch)
        size = (expand.square().mean() / squeeze.square().mean()).pow(0.25)
        return expand / size, squeeze * size

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=1)


def collapse(module: nn.Module) -> nn.Module:
    """Replaces every collapsible convolution below ``module`` by the plain one it stands for; returns ``module``."""
    for name, child in module.named_children():
        if isinstance(child, CollapsibleConv):
            kernel = child.kernel().detach()
            plain = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            plain.weight.data.copy_(kernel)
            plain.bias.data.copy_(child.bias.data)
            setattr(module, name, plain)
        else:
            collapse(child)
    return module
