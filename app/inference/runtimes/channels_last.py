"""Rewrites both ends of a network for OpenVINO: integers in, and channels last from the last layer on.

As exported, a network ends in planes, which are quantised, transposed and shuffled. OpenVINO's convolutions produce
channels last, so each of these steps moves the whole result: 40 of the 170 ms that a tile of `fast` takes. With
channels last they are a single pass, and the rest of the pixel shuffle is done when the result is copied into place.

Quantisation is also spelled out. OpenVINO 2026.4 merges FakeQuantize into the preceding convolution, whose bf16
kernels cannot write integers: compilation then fails ("object is not initialized"), and the next network crashes.
"""

from typing import Any

import numpy as np
from openvino import Model, Type, opset13

PEAK = 255
MOVING = ("Result", "Reshape", "Transpose", "Convert")  # operations that leave samples unchanged


def with_channels_last(model: Model, output: str, scale: int) -> Model:
    """The same network for images as they are, uint8 ``[N, H, W, 3]``, with only that uint8 output; other inputs
    follow.

    The output is ``[N, H, W, s, s * 3]``, the runs of the ``s`` HR rows of each LR row, or ``[N, H * s, W * s, 3]``
    if the network itself ends in planes. ``ValueError`` if its end is not as the face requires.
    """
    levels, image = quantised(model.output(output).get_node()), model.input("image").get_node()
    channels = levels.get_partial_shape()[1].get_length()
    pixels = opset13.parameter(image.get_partial_shape(), Type.u8, name="pixels")
    samples = opset13.convert(pixels, "f32")
    residual = without_picture(levels, image)
    if residual is None:
        scaled = opset13.multiply(rows_of(levels), np.float32(PEAK))
    else:
        picture = rows_of(spread(samples, channels))
        scaled = opset13.add(opset13.multiply(rows_of(residual), np.float32(PEAK)), picture)
    whole = opset13.convert(opset13.clamp(opset13.round(scaled, "half_to_even"), 0, PEAK), "u8")
    split = [0, 0, -1, scale, channels // scale] if channels > 3 else [0, 0, -1, 3]
    whole = opset13.reshape(whole, np.array(split), special_zero=True)
    image.output(0).replace(opset13.divide(samples, np.float32(PEAK)).output(0))
    others = [each for each in model.get_parameters() if each.get_friendly_name() != image.get_friendly_name()]
    return Model([opset13.result(whole)], [pixels, *others], model.get_friendly_name())


def quantised(node: Any) -> Any:
    """What an output is made from by only rounding and moving samples: f32 planes ``[N, C, H, W]``."""
    while node.get_type_name() in MOVING:
        node = node.input_value(0).get_node()
    planes = node.input_value(0) if node.get_type_name() == "FakeQuantize" else None
    shape = planes.get_partial_shape() if planes else []
    if len(shape) != 4 or shape[1].is_dynamic:
        raise ValueError(f"it does not end in planes that are quantised, but in {node.get_type_name()}")
    return planes


def without_picture(levels: Any, image: Any) -> Any:
    """f32 planes ``[N, C, H, W]`` to each of which the image is added to give ``levels``
    (``training/export/shortcut.py``); None if they are computed otherwise."""
    addition = producer(levels, "Reshape")
    residual, picture = (
        (producer(value, "Reshape") for value in addition.input_values())
        if addition and addition.get_type_name() == "Add"
        else (None, None)
    )
    return residual.output(0) if residual and picture and is_image(picture, image) else None


def producer(value: Any, through: str) -> Any:
    """The operation whose result ``value`` is, skipping an operation ``through``; None without that operation."""
    node = value.get_node()
    return node.input_value(0).get_node() if node.get_type_name() == through else None


def is_image(planes: Any, image: Any) -> bool:
    source = producer(planes.output(0), "Transpose")
    return bool(source and source.get_friendly_name() == image.get_friendly_name())


def spread(samples: Any, channels: int) -> Any:
    """Pixels ``[N, H, W, 3]`` to planes ``[N, channels, H, W]``, repeating the three colours.

    By a convolution, so that the result has the layout of the network's last one; 0 to 255 are exact in bf16.
    """
    weights = np.tile(np.eye(3, dtype=np.float32), (channels // 3, 1)).reshape(channels, 3, 1, 1)
    planes = opset13.transpose(samples, np.array([0, 3, 1, 2]))
    return opset13.convolution(planes, opset13.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1])


def rows_of(planes: Any) -> Any:
    """``[N, C, H, W]`` to ``[N, H, W * C]``: with three dimensions it can have only one memory layout."""
    pixels = opset13.transpose(planes, np.array([0, 2, 3, 1]))
    return opset13.reshape(pixels, np.array([0, 0, -1]), special_zero=True)
