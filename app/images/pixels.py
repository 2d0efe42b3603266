"""The array types of images, throughout the application."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]
"""Samples over the whole range of their type, ``[height, width, channels]`` unless told otherwise."""

Size = tuple[int, int]
"""Height and width, in pixels."""
