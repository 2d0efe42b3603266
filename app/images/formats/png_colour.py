"""PNG's four ways to signal colour, of which the first valid one counts (W3C PNG, third edition, 4.3): cICP, iCCP,
sRGB, gAMA.

Valid is what browsers accept. Tested in Chromium 156: a cICP with a matrix, a narrow range, or unspecified or
reserved numbers is skipped, and so are a damaged iCCP and an sRGB without an intent; cHRM counts only together with
gAMA; a gAMA within 5 % of 1/2.2 without cHRM is sRGB; an impossible cHRM invalidates gAMA too.
"""

import struct
from collections.abc import Callable, Mapping

from app.images.code_points import BT709, CodePoints, png_profile_of
from app.images.formats.base import Buffer
from app.images.icc import Curve, Primaries, gray_profile, plausible_profile, rgb_profile

SRGB_GAMMA, SRGB_MARGIN = 45_455, 0.05
UNIT = 100_000  # of gAMA and cHRM
INTENTS = 4


def colour_profile(
    chunks: Mapping[bytes, memoryview], gray: bool, inflate: Callable[[memoryview], bytes | None]
) -> bytes | None:
    """The ICC profile equivalent to the chunks, None for sRGB. ``chunks``: contents by name, checksums verified.

    Raises ``UnsupportedFormatError`` for HDR.
    """
    points = bytes(chunks.get(b"cICP", b""))
    if len(points) == 4 and points[2:] == b"\0\1":  # RGB without a matrix, full range
        profile = png_profile_of(CodePoints(*points[:2]), gray)
        if profile is not None:
            return profile
    if b"iCCP" in chunks:
        profile = plausible_profile(inflate(chunks[b"iCCP"]))
        if profile is not None:
            return profile
    intent = bytes(chunks.get(b"sRGB", b""))
    if len(intent) == 1 and intent[0] < INTENTS:
        return None
    return _by_gamma(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""), gray)


def _by_gamma(gamma_chunk: Buffer, primaries_chunk: Buffer, gray: bool) -> bytes | None:
    """gAMA maps light to samples (11.3.2.2); cHRM holds x and y of white, red, green and blue (11.3.2.1)."""
    if len(gamma_chunk) != 4:
        return None
    (gamma,) = struct.unpack(">I", gamma_chunk)
    primaries, name = BT709, f"gAMA {gamma / UNIT}"
    if len(primaries_chunk) == 32:
        white, red, green, blue = struct.iter_unpack(">II", primaries_chunk)
        primaries = Primaries(*((x / UNIT, y / UNIT) for x, y in (red, green, blue, white)))
        name += " and cHRM"
    elif abs(gamma / SRGB_GAMMA - 1) < SRGB_MARGIN:
        return None
    if gamma == 0:
        return None
    curve = Curve(0, (UNIT / gamma,))
    profile = rgb_profile(name, primaries, curve)
    return gray_profile(name, curve) if gray and profile is not None else profile
