"""Detects float16 results that are the trace of an overflow rather than an image.

A value beyond 65,504 becomes infinite in float16, and the sums it enters become NaN. From there it spreads with
every convolution to all channels and to at least 3 x 3 LR pixels; converted to an integer it is black or saturated.
The image's own black and white are distinguished by staying close to the input.
"""

import numpy as np
from numpy.typing import NDArray

DISTANCE = 0.125  # of the range: how far a pixel must be from its source to be suspect


def is_poisoned(lr: NDArray[np.unsignedinteger], hr: NDArray[np.unsignedinteger], scale: int) -> bool:
    """Whether 2 x 2 neighbouring LR pixels came out as only 0 and the peak, far from what they were.

    ``lr`` ``[h, w, 3]``, ``hr`` ``[h * scale, w * scale, 3]``, both uint8 or both uint16. One HR pixel is checked
    per LR pixel, because NaN inside a network reaches all of them; where it is suspect, the mean of them all must be
    far off too, which it is not in text and line art. A false positive costs only time; an overflow within
    ``DISTANCE`` of the right black or white goes unnoticed.
    """
    peak = int(np.iinfo(hr.dtype).max)
    height, width = lr.shape[:2]
    middle = hr[scale // 2 :: scale, scale // 2 :: scale]
    suspect = ((middle == 0) | (middle == peak)).all(axis=2)
    if not suspect.any():  # nearly always
        return False
    suspect &= (np.abs(middle.astype(np.int32) - lr) > DISTANCE * peak).any(axis=2)
    blocks = hr.reshape(height, scale, width, scale, 3).swapaxes(1, 2)[suspect]  # [suspects, scale, scale, 3]
    suspect[suspect] = (np.abs(blocks.mean(axis=(1, 2)) - lr[suspect]) > DISTANCE * peak).any(axis=1)
    if min(height, width) < 2:
        return bool(suspect.any())
    return bool((suspect[:-1, :-1] & suspect[:-1, 1:] & suspect[1:, :-1] & suspect[1:, 1:]).any())
