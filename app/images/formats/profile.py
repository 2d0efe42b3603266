"""The meaning of a file's pixel values, settled once for all formats: a profile that applies to them, or sRGB."""

import struct
from dataclasses import replace

import numpy as np

from app.images.code_points import check_standard_light
from app.images.formats.base import Container
from app.images.icc import as_gray, plausible_profile, space_of, tag_table
from app.images.tone import own_curves, srgb_encoded

_CICP_TAG = slice(8, 12)  # of a cicpType (ICC.1:2022, 10.3): primaries, transfer, matrix, range


def settled(container: Container) -> Container:
    """The container with a profile that applies to its pixels, or none. Raises ``UnsupportedFormatError`` for HDR.

    Browsers apply an RGB profile to gray, too. If the result is a shade of gray, the profile becomes a gray one; if
    it may be tinted, the image counts as coloured. They show an RGB image with a gray profile as sRGB.
    """
    profile = plausible_profile(container.icc_profile)
    if profile is None:
        return replace(container, icc_profile=None)
    points = tag_table(profile).get(b"cicp", b"")[_CICP_TAG]
    if len(points) == 4:
        check_standard_light(points[1])
    if not container.header.gray or space_of(profile) != b"RGB ":
        return replace(container, icc_profile=profile)
    gray = as_gray(profile)
    if gray is not None:
        return replace(container, icc_profile=None if _says_srgb(gray) else gray)
    return replace(container, icc_profile=profile, header=replace(container.header, gray=False), tinted=True)


def _says_srgb(gray: bytes) -> bool:
    """Whether a gray profile shows all 8-bit levels as they are shown without it, or is damaged."""
    levels = np.linspace(0, 1, 256)
    try:
        (light,) = own_curves(gray, levels)
    except (struct.error, ValueError):
        return True
    return bool(np.abs(srgb_encoded(light) - levels).max() < 0.5 / 255)
