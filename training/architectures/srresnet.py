"""SRResNet, the generator of SRGAN (Ledig et al. 2017, arXiv:1609.04802)."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from training.architectures.base import Generator
from training.architectures.tails import enlarged, enlarging_tail, start_silent


class NormalisedConv(nn.Conv2d):
    """A 3x3 convolution and the batch normalisation of its output, which has the bias.

    One module, so that its kernel is called as the plain convolution's of EDSR is, which a run may start from.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))

    @torch.no_grad()
    def change_nothing(self, x: Tensor, bias: Tensor) -> None:
        """Sets the normalisation so that for inputs ``x`` it does no more than to add ``bias``."""
        variance, mean = torch.var_mean(super().forward(x), dim=(0, 2, 3), correction=0)
        self.norm.running_mean.copy_(mean)
        self.norm.running_var.copy_(variance)
        self.norm.weight.copy_((variance + self.norm.eps).sqrt())
        self.norm.bias.copy_(mean + bias)


class ResidualBlock(nn.Module):
    """``x + bn(conv(prelu(bn(conv(x)))))``; PReLU has one slope a channel, shared over H and W, 0.25 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = NormalisedConv(channels)
        self.activation = nn.PReLU(channels)
        self.second = NormalisedConv(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.activation(self.first(x)))


class Srresnet(Generator):
    """16 blocks of 64 channels between two 9x9 convolutions, one long skip.

    ``input_residual`` adds the bilinear enlargement to the output, which the paper does not; it saves a CPU an hour.
    """

    def __init__(
        self,
        scale: int,
        channels: int = 64,
        blocks: int = 16,
        tail: str = "subpixel",
        input_residual: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.input_residual = scale, input_residual
        self.head = nn.Conv2d(3, channels, 9, padding=4)
        self.activation = nn.PReLU(channels)
        self.trunk = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)), NormalisedConv(channels))
        self.tail = enlarging_tail(tail, channels, scale, partial(nn.PReLU, channels))
        self.last = nn.Conv2d(channels, 3, 9, padding=4)
        if input_residual:
            start_silent(self.last)

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.activation(self.head(lr))  # N C H W
        sr = self.last(self.tail(shallow + self.trunk(shallow)))  # N 3 Hs Ws
        return sr + enlarged(lr, self.scale) if self.input_residual else sr

    @torch.no_grad()
    def stand_in(self, plain: Mapping[str, Tensor], lr: Tensor) -> None:
        """Lets it compute what the plain network (EDSR's kind) does whose kernels it was given.

        ``plain``: that network's weights, of which the biases are taken over. ReLU is a slope of 0, inside the blocks;
        outside them that network is linear. The normalisations are set, one after the other, to what passes through
        them for ``lr``, float ``[N, 3, H, W]`` in [0, 1] (data-dependent initialisation: arXiv:1511.06856).
        """
        for name, layer in self.named_modules():
            if isinstance(layer, nn.PReLU) and f"{name}.weight" not in plain:
                layer.weight.fill_(0.0 if name.startswith("trunk.") else 1.0)
        hooks = [
            layer.register_forward_pre_hook(partial(_change_nothing, bias=plain.get(f"{name}.bias", torch.zeros(1))))
            for name, layer in self.named_modules()
            if isinstance(layer, NormalisedConv) and f"{name}.weight" in plain
        ]
        self.eval()(lr)
        self.train()
        for hook in hooks:
            hook.remove()


def _change_nothing(layer: NormalisedConv, inputs: tuple[Tensor], bias: Tensor) -> None:
    layer.change_nothing(inputs[0], bias)
