"""ICC profiles of primaries and a tone curve: written for colours signalled in other ways, and converted from gray to
RGB.

Browsers give code points, gAMA and cHRM the same meaning as such a profile (measured; docs/colour.md), and every output
format can hold one. Profiles here are of version 4.3 (ICC.1:2010; section numbers are its).
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

Matrix = NDArray[np.float64]
Chromaticity = tuple[float, float]
"""CIE 1931 x and y."""

D50 = (0.9642, 1.0, 0.8249)  # the profile connection space's white (7.2.16)
MAX_TAGS = 200
MAX_LCMS_TAGS = 100  # LittleCMS's own limit; the fullest profiles in use have about thirty
_MULTI_PROCESS = frozenset(f"{way}{number}".encode() for way in ("D2B", "B2D") for number in range(4))
"""Tags of ``multiProcessElementsType`` (ICC.1 9.2.17 to 9.2.28): chains of any number of steps, all of which may share
the same bytes. A profile of 24 kB takes a second, one of 4 MB three minutes. They only repeat, in floating point, the
tables and curves that every profile must have."""
MAX_FIXED = 32_767.0  # of an s15Fixed16Number (4.6)

# Bradford's cone responses (annex E.3).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_AT_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


@dataclass(frozen=True)
class Primaries:
    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity


@dataclass(frozen=True)
class Curve:
    """A ``parametricCurveType`` (10.16), value to light. ``kind`` 0: x^g; 1: (ax + b)^g; 3: with a linear foot."""

    kind: int
    parameters: tuple[float, ...]


def rgb_profile(name: str, primaries: Primaries, curve: Curve) -> bytes | None:
    """None if the primaries are invalid: outside 0 to 1, or collinear."""
    colorants = colorants_at_d50(primaries)
    if colorants is None:
        return None
    return _rgb(name, colorants, _curve_tag(curve))


def gray_profile(name: str, curve: Curve) -> bytes:
    return _profile(b"GRAY", name, {b"kTRC": _curve_tag(curve)})


def plausible_profile(profile: bytes | None) -> bytes | None:
    """A profile checked by its header and signature (7.2), cut to the length in its header; None for anything else."""
    if profile is None or len(profile) < 132 or profile[36:40] != b"acsp":
        return None
    size = int.from_bytes(profile[:4])
    return profile[:size] if 132 <= size <= len(profile) else None


def space_of(profile: bytes) -> bytes:
    """The data colour space (7.2.8): ``RGB``, ``GRAY``, ``CMYK``, padded to four bytes."""
    return profile[16:20]


def as_gray(profile: bytes) -> bytes | None:
    """The profile for gray pixels that shows them as this RGB profile shows equal channels.

    None if that is not a shade of gray: the three curves differ, it is table-based, or code points override the curves.
    """
    tags = tag_table(profile)
    red = tags.get(b"rTRC")
    if red is None or red != tags.get(b"gTRC") or red != tags.get(b"bTRC") or tags.keys() & {b"A2B0", b"A2B1", b"cicp"}:
        return None
    return _profile(b"GRAY", "Gray", {b"kTRC": red})


def for_rgb(profile: bytes | None) -> bytes | None:
    """The profile for pixels written as RGB. A gray profile, under which browsers show RGB as sRGB or not at all,
    becomes one that shows equal channels the same way; None if it has no curve."""
    if profile is None or space_of(profile) != b"GRAY":
        return profile
    curve = tag_table(profile).get(b"kTRC")
    return None if curve is None else _rgb("Gray as RGB", _SRGB_AT_D50, curve)


def tag_table(profile: bytes) -> dict[bytes, bytes]:
    """The bytes of each tag by its name (7.3), as far as they lie within the profile. The table follows the header."""
    if len(profile) < 132:
        return {}
    (count,) = struct.unpack_from(">I", profile, 128)
    tags: dict[bytes, bytes] = {}
    for index in range(min(count, MAX_TAGS, (len(profile) - 132) // 12)):
        name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if offset + size <= len(profile):
            tags.setdefault(name, profile[offset : offset + size])
    return tags


def open_profile(profile: bytes) -> ImageCms.ImageCmsProfile:
    """A profile for LittleCMS, without the tags that could stall it. Raises ``OSError`` if it is not a profile."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        if count > MAX_LCMS_TAGS:
            raise OSError("the profile has too many tags")
        names = [bytes(profile[at : at + 4]) for at in range(132, 132 + 12 * count, 12)]
    except struct.error as error:
        raise OSError("not a profile") from error
    harmless = bytearray(profile)
    for number, name in enumerate(names):
        if name in _MULTI_PROCESS:
            harmless[132 + 12 * number : 136 + 12 * number] = b"----"
    return ImageCms.ImageCmsProfile(io.BytesIO(harmless))


def colorants_at_d50(primaries: Primaries) -> Matrix | None:
    """XYZ of red, green and blue as columns, ``[3, 3]``; their sum is D50, adapted from the white point of the
    primaries."""
    corners = np.array([(x, y, 1 - x - y) for x, y in (primaries.red, primaries.green, primaries.blue)]).T
    x, y = primaries.white
    if not ((corners[:2] >= 0).all() and (corners[:2] <= 1).all() and 0 <= x <= 1 and 0 < y <= 1):
        return None
    if abs(np.linalg.det(corners)) < 1e-6:  # collinear
        return None
    white = np.array([x / y, 1, (1 - x - y) / y])
    of_own_white = corners * np.linalg.solve(corners, white)
    cones, wanted = _BRADFORD @ white, _BRADFORD @ np.array(D50)
    if not np.all(np.abs(cones) > 1e-6):
        return None
    adapted: Matrix = np.linalg.solve(_BRADFORD, np.diag(wanted / cones) @ _BRADFORD @ of_own_white)
    return adapted if np.isfinite(adapted).all() and np.abs(adapted).max() < MAX_FIXED else None


def _rgb(name: str, colorants: Matrix, curve: bytes) -> bytes:
    tags = {}
    for index, channel in enumerate((b"r", b"g", b"b")):
        tags[channel + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*colorants[:, index])
        tags[channel + b"TRC"] = curve
    return _profile(b"RGB ", name, tags)


def _profile(space: bytes, name: str, tags: Mapping[bytes, bytes]) -> bytes:
    """Header (7.2), tag table (7.3) and tags, equal ones stored once; of the monitor class, to XYZ."""
    white = b"XYZ \0\0\0\0" + _fixed(*D50)
    tags = {b"desc": _text(name), b"cprt": _text("No copyright"), b"wtpt": white, **tags}
    start = 132 + 12 * len(tags)
    table, body, places = struct.pack(">I", len(tags)), b"", {}
    for tag, content in tags.items():
        if content not in places:
            places[content] = start + len(body)
            body += content + b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", tag, places[content], len(content))
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x04300000, b"mntr", space, b"XYZ ", b"acsp")
    return head.ljust(68, b"\0") + _fixed(*D50).ljust(60, b"\0") + table + body


def _curve_tag(curve: Curve) -> bytes:
    held = (min(value, MAX_FIXED) for value in curve.parameters)
    return struct.pack(">4s4xH2x", b"para", curve.kind) + _fixed(*held)


def _text(words: str) -> bytes:
    """A ``multiLocalizedUnicodeType`` of one record (10.13)."""
    encoded = words.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))
