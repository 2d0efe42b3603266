"""Whether a float16 result is an image or the trace of an overflow.

A value beyond 65,504 becomes infinite in float16, and the sums it enters NaN. From there on it spreads with every
convolution, to all channels and to at least 3 x 3 LR pixels; narrowed to an integer, it is black or saturated. A
image's own black and white are no such trace: what is enlarged stays near what it was made from.
"""

import numpy as np
from numpy.typing import NDArray

DISTANCE = 0.125  # of the range: how far a pixel must be from its source to be one nobody wanted


def is_poisoned(lr: NDArray[np.unsignedinteger], hr: NDArray[np.unsignedinteger], scale: int) -> bool:
    """Whether 2 x 2 neighbouring LR pixels came out in nothing but 0 and the peak, far from what they were.

    ``lr`` ``[h, w, 3]``, ``hr`` ``[h * scale, w * scale, 3]``, both uint8 or both uint16. One HR pixel is looked at for
    each LR pixel, as NaN inside a network reaches all of them; where it is suspect, the mean of them all must be far
    too, which it is not of text and line art. True for a sound image costs time, no more; not seen is what lies
    within ``DISTANCE`` of the right black or white.
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
