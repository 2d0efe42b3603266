"""ICC profiles on their way to LittleCMS, which computes whatever a stranger's profile asks for."""

import io
import struct

from PIL import ImageCms

MAX_TAGS = 100  # as in LittleCMS; the fullest in use have some thirty

_CHAINS = frozenset(f"{way}{number}".encode() for way in ("D2B", "B2D") for number in range(4))
"""Tags of ``multiProcessElementsType`` (ICC.1 9.2.17 to 9.2.28): chains of as many steps as one likes, all of which may
stand at the same place of the file. A profile of 24 kB takes a second, one of 4 MB three minutes. They only repeat, in
floating point, what the tables and curves say that every profile must have."""


def open_profile(profile: bytes) -> ImageCms.ImageCmsProfile:
    """For a transform, without the tags that may cost any time. Raises ``OSError`` for what is no profile."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        if count > MAX_TAGS:
            raise OSError("a profile of too many tags")
        names = [bytes(profile[at : at + 4]) for at in range(132, 132 + 12 * count, 12)]
    except struct.error as error:
        raise OSError("no profile") from error
    harmless = bytearray(profile)
    for number, name in enumerate(names):
        if name in _CHAINS:
            harmless[132 + 12 * number : 136 + 12 * number] = b"----"
    return ImageCms.ImageCmsProfile(io.BytesIO(harmless))
