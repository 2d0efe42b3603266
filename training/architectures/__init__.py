"""Every network by name: an explicit dict, one class a file, no scanning."""

import inspect
from typing import Any

from training.architectures.base import Generator, SubPixelGenerator
from training.architectures.edsr import Edsr
from training.architectures.espcn import Espcn
from training.architectures.half import HalfSize
from training.architectures.interpolation import Interpolation
from training.architectures.plain import Plain, PlainResidual
from training.architectures.rrdb import RrdbNet
from training.architectures.span import Span
from training.architectures.srcnn import Srcnn
from training.architectures.srresnet import Srresnet

ARCHITECTURES: dict[str, type[Generator]] = {
    "interpolation": Interpolation,
    "srcnn": Srcnn,
    "espcn": Espcn,
    "plain": Plain,
    "plain-residual": PlainResidual,
    "half-size": HalfSize,
    "span": Span,
    "srresnet": Srresnet,
    "edsr": Edsr,
    "rrdb": RrdbNet,
}

__all__ = ["ARCHITECTURES", "Generator", "SubPixelGenerator", "build"]


def build(scale: int, /, architecture: str, **parameters: Any) -> Generator:
    """The network of a recipe's ``[network]`` table; an unknown name or parameter raises ``ValueError``."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    network = ARCHITECTURES[architecture]
    known = [name for name in inspect.signature(network).parameters if name != "scale"]
    if unknown := set(parameters) - set(known):
        raise ValueError(f"unknown parameters {sorted(unknown)} of {architecture!r}; known: {', '.join(known)}")
    try:
        return network(scale=scale, **parameters)
    except TypeError as error:
        raise ValueError(f"architecture {architecture!r}: {error}") from error
