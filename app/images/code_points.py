"""Coding-independent code points (ITU-T H.273): the numbers by which AVIF, HEIC, PNG and ICC signal colour."""

from typing import NamedTuple

from app.errors import UnsupportedFormatError
from app.images.icc import Curve, Primaries, gray_profile, rgb_profile

UNSPECIFIED = 2
HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics that reach far beyond a screen's white. Neither 8 bits nor a network trained on sRGB can
represent them."""

_C, _D65, _E = (0.310, 0.316), (0.3127, 0.3290), (1 / 3, 1 / 3)
_BT601 = Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)
BT709 = Primaries((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
PRIMARIES = {  # table 2
    1: BT709,
    UNSPECIFIED: BT709,  # as browsers take it
    4: Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: _BT601,
    7: _BT601,
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020
    10: Primaries((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), _E),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # DCI-P3
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
SRGB = Curve(3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
TRANSFERS = {  # table 3. For AVIF, browsers use sRGB's curve in place of the camera curves (BT.709, BT.601, BT.2020)
    **dict.fromkeys((1, UNSPECIFIED, 6, 13, 14, 15), SRGB),
    4: Curve(0, (2.2,)),
    5: Curve(0, (2.8,)),
    7: Curve(3, (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 4 * 0.0228)),
    8: Curve(0, (1.0,)),
    17: Curve(1, (2.6, (52.37 / 48) ** (1 / 2.6), 0.0)),
}
PNG_TRANSFERS = {**TRANSFERS, **dict.fromkeys((1, 6, 11, 14, 15), Curve(0, (2.4,)))}
"""The same for PNG's cICP, where browsers use a display's curve (BT.1886) in place of the camera curves."""
_NO_CURVE = {9: "a logarithm", 10: "a logarithm", 11: "xvYCC", 12: "BT.1361"}


class CodePoints(NamedTuple):
    """Colour primaries and transfer characteristics; the matrix is left to the codec."""

    primaries: int
    transfer: int


def check_standard_light(transfer: int) -> None:
    """Raises ``UnsupportedFormatError`` for PQ and HLG."""
    if transfer in HDR:
        raise UnsupportedFormatError(f"This is an HDR image ({HDR[transfer]}); send a standard-range one")


def profile_of(points: CodePoints, gray: bool) -> bytes | None:
    """The ICC profile equivalent to the code points of an AVIF or HEIC; None for sRGB and for reserved numbers.

    Raises ``UnsupportedFormatError`` for PQ, HLG and the curves that browsers do not show either.
    """
    check_standard_light(points.transfer)
    if points.transfer in _NO_CURVE:
        told = f"{points.transfer} ({_NO_CURVE[points.transfer]})"
        raise UnsupportedFormatError(f"Transfer characteristics {told} are not supported")
    if points.primaries == 0 or points.transfer in (0, 3):
        return None
    primaries = PRIMARIES.get(points.primaries, BT709)
    curve = TRANSFERS.get(points.transfer, SRGB)
    return None if (primaries, curve) == (BT709, SRGB) else _profile(points, primaries, curve, gray)


def png_profile_of(points: CodePoints, gray: bool) -> bytes | None:
    """The same for PNG's cICP; None also where browsers ignore it. Raises ``UnsupportedFormatError`` for HDR."""
    check_standard_light(points.transfer)
    primaries, curve = PRIMARIES.get(points.primaries), PNG_TRANSFERS.get(points.transfer)
    if UNSPECIFIED in points or primaries is None or curve is None:
        return None
    return _profile(points, primaries, curve, gray)


def _profile(points: CodePoints, primaries: Primaries, curve: Curve, gray: bool) -> bytes | None:
    name = f"H.273 primaries {points.primaries}, transfer {points.transfer}"
    return gray_profile(name, curve) if gray else rgb_profile(name, primaries, curve)
