"""How good a network is while it is trained: PSNR over a few validation pictures, and a sample to look at."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.architectures import Generator
from training.data.feed import VALIDATION_PICTURES, to_tensor
from training.data.pairs import Pairs, Pixels
from training.report.metrics import crop_border, luma, psnr


def to_pixels(image: Tensor) -> Pixels:
    """float ``[1, 3, H, W]`` to uint8 ``[H, W, 3]``, rounded and clipped as the exported graph does."""
    return image[0].permute(1, 2, 0).float().mul(255).round().clamp(0, 255).byte().cpu().numpy()


@torch.no_grad()
def validate(network: Generator, pairs: Pairs, sample: Path) -> float:
    """Mean luma PSNR over the first validation pictures; writes the first as a sample triptych."""
    device = next(network.parameters()).device
    scores = []
    for index in range(min(len(pairs), VALIDATION_PICTURES)):
        lr, hr = pairs.pair(index)
        sr = to_pixels(network(to_tensor(np.array(lr[None]), device)))
        scores.append(psnr(luma(crop_border(sr, pairs.scale)), luma(crop_border(hr, pairs.scale))))
        if index == 0:
            nearest = lr.repeat(pairs.scale, axis=0).repeat(pairs.scale, axis=1)
            Image.fromarray(np.concatenate([nearest, sr, hr], axis=1)).save(sample)
    return float(np.mean(scores))
