"""Colour profiles and networks: when a profile's tone curve is converted to the one that networks are trained on.

Networks have seen sRGB. Of a profile's two parts only the tone curve matters to them, not the primaries. Measured with
``fast`` x2 on photographs, the result always converted to sRGB: Display P3 -0.00 dB, Adobe RGB +0.02, ProPhoto's
primaries -0.01, but ProPhoto's curve (gamma 1.8) -0.1 and linear light -1.9 dB. Converting to sRGB's primaries would
cost colour: whatever lies outside them is clipped (ProPhoto through sRGB and back: a mean deltaE of 0.9, at worst 10).
So only a curve far from sRGB's is converted, channel by channel in 16 bits, and converted back afterwards.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from app.images.icc import open_profile, tag_table
from app.images.pixels import Pixels

Floats = NDArray[np.float64]
Table = NDArray[np.uint16]

FAR = 0.02
"""Mean distance between the curves, in the range 0 to 1. Gamma 2.2 (Adobe RGB) is at 0.005, gamma 1.8 at 0.06."""

MOST_ALIKE = 16  # of 256 grays; linearly encoded light has 13 of them in its last levels
PEAK = 65_535


@dataclass(frozen=True, eq=False)
class ToneCurve:
    """Both directions as tables for 16-bit samples: uint16 ``[65536]`` per channel, for one or three channels."""

    to_srgb: tuple[Table, ...]
    from_srgb: tuple[Table, ...]

    def towards(self, rows: Pixels) -> Table:
        """Samples in the profile's curve, uint8 or uint16 ``[h, w, 3]``, to uint16 in sRGB's curve."""
        return applied(self.to_srgb, rows if rows.dtype == np.uint16 else rows.astype(np.uint16) * np.uint16(257))

    def back(self, rows: Pixels) -> Table:
        """uint16 ``[h, w, 3]`` in sRGB's curve to uint16 in the profile's."""
        return applied(self.from_srgb, rows)


def applied(tables: tuple[Table, ...], rows: Pixels) -> Table:
    if len(tables) == 1:
        return tables[0][rows]
    return np.stack([table[rows[:, :, channel]] for channel, table in enumerate(tables)], axis=2)


def far_curve(profile: bytes | None) -> ToneCurve | None:
    """The curve of a gray or RGB profile, if it is far enough from sRGB's to affect a network.

    For a table-based profile it is the curve of its grays, applied to all three channels; None if that is not
    invertible.
    """
    if profile is None:
        return None
    encoded = np.linspace(0, 1, PEAK + 1)
    srgb: Floats | None
    try:
        srgb = srgb_encoded(np.stack(own_curves(profile, encoded)))
    except KeyError:
        srgb = gray_axis(profile, encoded)
    except (struct.error, ValueError):
        return None  # damaged: ignored
    if srgb is None or np.abs(srgb - encoded).mean() < FAR or (np.diff(srgb, axis=1) < 0).any():
        return None
    if max(np.unique(curve, return_counts=True)[1].max() for curve in np.rint(srgb[:, ::257] * PEAK)) > MOST_ALIKE:
        return None  # out of range, or an absurdly high power: the plain numbers give the better image
    there = tuple(np.rint(curve * PEAK).astype(np.uint16) for curve in srgb)
    back = tuple(np.rint(np.interp(encoded, curve, encoded) * PEAK).astype(np.uint16) for curve in srgb)
    return ToneCurve(there, back)


def own_curves(profile: bytes, encoded: Floats) -> list[Floats]:
    """The light that a profile of primaries and curves assigns to ``encoded``; ``KeyError`` for other kinds."""
    names = (b"kTRC",) if profile[16:20] == b"GRAY" else (b"rTRC", b"gTRC", b"bTRC")
    tags = tag_table(profile)
    return [evaluated(tags[name], encoded) for name in names]


def gray_axis(profile: bytes, encoded: Floats) -> Floats | None:
    """The grays of a table-based RGB profile, converted to sRGB by LittleCMS: ``[1, len(encoded)]``.

    LittleCMS returns 8 bits, so the curve runs through the middle of each level's run. None if it cannot read the
    profile, and if more than ``MOST_ALIKE`` grays coincide, because that is not invertible.
    """
    ramp = np.arange(256, dtype=np.uint8)
    grays = Image.fromarray(ramp[np.newaxis, :, np.newaxis].repeat(3, axis=2))
    try:
        seen = ImageCms.profileToProfile(
            grays,
            open_profile(profile),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    if seen is None or profile[16:20] != b"RGB ":
        return None
    levels = np.maximum.accumulate(np.asarray(seen, np.float64)[0].mean(axis=1))
    values, first, alike = np.unique(levels, return_index=True, return_counts=True)
    if alike.max() > MOST_ALIKE:
        return None
    places = first + (alike - 1) / 2
    places[0], places[-1] = 0, 255
    return np.interp(encoded * 255, places, values / 255)[np.newaxis]


def evaluated(tag: bytes, x: Floats) -> Floats:
    """A ``curveType`` (ICC.1 10.6) or ``parametricCurveType`` (10.18) at ``x``: encoded to linear, both 0 to 1."""
    if tag[:4] == b"para":
        return parametric(tag, x)
    if tag[:4] != b"curv":
        raise ValueError("no curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return x
    if count > PEAK + 1:
        raise ValueError("a curve of too many points")
    points = np.array(struct.unpack_from(f">{count}H", tag, 12), np.float64)
    if count == 1:
        return np.asarray(x ** (points[0] / 256))
    return np.interp(x, np.linspace(0, 1, count), points / PEAK)


def parametric(tag: bytes, x: Floats) -> Floats:
    """Table 65 of ICC.1: types 0 to 4 with 1, 3, 4, 5 and 7 parameters, g a b c d e f."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind > 4:
        raise ValueError("an unknown kind of curve")
    g, *more = (value / 65_536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12))
    a, b, c, d, e, f = [*more, *(0.0,) * (6 - len(more))] if kind else (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if kind in (1, 2):  # below the point where the base of the power is 0 the value is constant
        if a == 0:
            raise ValueError("a curve without a slope")
        offset, start, slope, low = c if kind == 2 else 0.0, -b / a, 0.0, c if kind == 2 else 0.0
    else:
        offset, start, slope, low = e, d if kind else 0.0, c, f
    power = np.maximum(a * x + b, 0) ** g + offset
    return np.asarray(np.clip(np.nan_to_num(np.where(x >= start, power, slope * x + low)), 0, 1))


def srgb_encoded(linear: Floats) -> Floats:
    """IEC 61966-2-1."""
    power = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    encoded: Floats = np.where(linear <= 0.0031308, 12.92 * linear, power)
    return encoded
