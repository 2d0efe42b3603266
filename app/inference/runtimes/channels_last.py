"""A network's two ends as OpenVINO computes them fastest: integers in, and channels last from the last layer on.

As exported, the end is planes, which are quantised, transposed and shuffled. OpenVINO's convolutions give channels
last, so each of these steps moves the whole result: 40 of the 170 ms that a tile of `fast` takes. Channels last they
are one pass over it, and what is left of the pixel shuffle is done where the result is copied to its place anyway.

Its quantisation is spelled out besides. OpenVINO 2026.4 merges FakeQuantize into the convolution before it, whose bf16
kernels cannot write integers: compiling then fails ("object is not initialized"), and the next network crashes.
"""

from typing import Any

import numpy as np
from openvino import Model, Type, opset13

PEAK = 255
MOVING = ("Result", "Reshape", "Transpose", "Convert")  # operations that change no sample


def with_channels_last(model: Model, output: str, scale: int) -> Model:
    """The same network for pictures as they are, uint8 ``[N, H, W, 3]``, with that uint8 output alone.

    What it gives is ``[N, H, W, s, s * 3]``, the runs of the ``s`` HR rows of each LR row, or ``[N, H * s, W * s, 3]``
    where the network itself ends in planes. ``ValueError`` where it does not end as the face has it.
    """
    levels = quantised(model.output(output).get_node())
    image = model.input("image").get_node()
    channels = levels.get_partial_shape()[1].get_length()
    last = with_picture_added(levels, image)
    whole = opset13.convert(rounded(transposed(levels) if last is None else last), "u8")
    if channels > 3:
        whole = opset13.reshape(whole, np.array([0, 0, 0, scale, channels // scale]), special_zero=True)
    pixels = opset13.parameter(image.get_partial_shape(), Type.u8, name="pixels")
    samples = opset13.divide(opset13.convert(pixels, "f32"), np.float32(PEAK))
    image.output(0).replace(samples.output(0))
    return Model([opset13.result(whole)], [pixels], model.get_friendly_name())


def quantised(node: Any) -> Any:
    """What an output is made of by rounding and by moving samples alone: f32 planes ``[N, C, H, W]``."""
    while node.get_type_name() in MOVING:
        node = node.input_value(0).get_node()
    planes = node.input_value(0) if node.get_type_name() == "FakeQuantize" else None
    shape = planes.get_partial_shape() if planes else []
    if len(shape) != 4 or shape[1].is_dynamic:
        raise ValueError(f"it does not end in planes that are quantised, but in {node.get_type_name()}")
    return planes


def with_picture_added(levels: Any, image: Any) -> Any:
    """``levels`` as f32 ``[N, H, W, s * s * 3]`` where they are phases to each of which the picture is added
    (``training/export/shortcut.py``), None where they are made otherwise."""
    addition = producer(levels, "Reshape")
    residual, picture = (
        (producer(value, "Reshape") for value in addition.input_values())
        if addition and addition.get_type_name() == "Add"
        else (None, None)
    )
    if not residual or not picture or not is_image(picture, image):
        return None
    split = np.array([0, 0, 0, levels.get_partial_shape()[1].get_length() // 3, 3])
    phases = opset13.reshape(transposed(residual.output(0)), split, special_zero=True)
    added = opset13.add(phases, opset13.unsqueeze(image, np.array(3)))
    return opset13.reshape(added, np.array([0, 0, 0, -1]), special_zero=True)


def producer(value: Any, through: str) -> Any:
    """The operation whose result ``value`` is, an operation ``through`` of it left out; None without that."""
    node = value.get_node()
    return node.input_value(0).get_node() if node.get_type_name() == through else None


def is_image(planes: Any, image: Any) -> bool:
    source = producer(planes.output(0), "Transpose")
    return bool(source and source.get_friendly_name() == image.get_friendly_name())


def transposed(planes: Any) -> Any:
    """``[N, C, H, W]`` to ``[N, H, W, C]``."""
    return opset13.transpose(planes, np.array([0, 2, 3, 1]))


def rounded(levels: Any) -> Any:
    """0 to 1 to whole numbers from 0 to 255, half to even and saturated, as QuantizeLinear has it."""
    scaled = opset13.multiply(levels, np.float32(PEAK))
    return opset13.clamp(opset13.round(scaled, "half_to_even"), 0, PEAK)
