"""What the numbers of a file's pixels mean, settled once for all formats: a profile that fits them, or sRGB."""

import struct
from dataclasses import replace

import numpy as np

from app.images.code_points import check_standard_light
from app.images.formats.base import Container
from app.images.icc import as_gray, plausible_profile, space_of, tag_table
from app.images.tone import own_curves, srgb_encoded

_CICP_TAG = slice(8, 12)  # of a cicpType (ICC.1:2022, 10.3): primaries, transfer, matrix, range


def settled(container: Container) -> Container:
    """The container with a profile for such pixels as it has, or with none. Raises ``UnsupportedFormatError`` for HDR.

    Browsers show gray by an RGB profile, too. Where that is a shade of gray, the profile becomes one for gray; where it
    may be a tint, the image counts as a coloured one. An RGB image under a gray profile they show as sRGB.
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
    """Whether a gray profile shows all levels of 8 bits as they are shown without it, or is damaged."""
    levels = np.linspace(0, 1, 256)
    try:
        (light,) = own_curves(gray, levels)
    except (struct.error, ValueError):
        return True
    return bool(np.abs(srgb_encoded(light) - levels).max() < 0.5 / 255)
