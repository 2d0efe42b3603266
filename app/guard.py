"""Whether a result of float16 arithmetic is a picture, or the trace of a number that overflowed.

A value beyond 65,504 becomes infinite in float16, and the sums it enters NaN. From there on it spreads with every
convolution, to all channels and to at least 3 x 3 LR pixels; narrowed to an integer, it is black or saturated. A
picture's own black and white are no such trace: what is enlarged stays near what it was made from.
"""

import numpy as np
from numpy.typing import NDArray

DISTANCE = 0.125  # of the range: how far a pixel must be from its source to be one nobody wanted


def is_poisoned(lr: NDArray[np.unsignedinteger], hr: NDArray[np.unsignedinteger], scale: int) -> bool:
    """Whether 2 x 2 neighbouring LR pixels came out in nothing but 0 and the peak, far from what they were.

    ``lr`` ``[h, w, 3]``, ``hr`` ``[h * scale, w * scale, 3]``, both uint8 or both uint16. One HR pixel is looked at for
    each LR pixel, as NaN inside a network reaches all of them. True for a sound picture costs time, no more; not seen
    is what lies within ``DISTANCE`` of the right black or white.
    """
    peak = int(np.iinfo(hr.dtype).max)
    middle = hr[scale // 2 :: scale, scale // 2 :: scale]
    extreme = ((middle == 0) | (middle == peak)).all(axis=2)
    if not extreme.any():  # nearly always
        return False
    far = np.abs(middle[extreme].astype(np.int32) - lr[extreme]).max(axis=1) > DISTANCE * peak
    extreme[extreme] = far
    if min(extreme.shape) < 2:
        return bool(extreme.any())
    return bool((extreme[:-1, :-1] & extreme[:-1, 1:] & extreme[1:, :-1] & extreme[1:, 1:]).any())
