"""GIF (GIF89a specification). Of an animation only the first frame is read."""

import struct

from PIL.GifImagePlugin import GifImageFile

from app.errors import CorruptImageError, TooComplexError
from app.images.formats.base import Container, DecodeLimits, ImageHeader, InputFormat, is_gray_palette

MAX_SUB_BLOCKS = 16_384  # of 255 bytes, in the extensions before the first image: 4 MB
_EXTENSION, _PICTURE, _GRAPHIC_CONTROL = 0x21, 0x2C, 0xF9


def read_gif(data: bytes, limits: DecodeLimits) -> Container:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    start = 13 + _palette_size(flags)
    position, transparent = _first_picture(data, start)
    left, top, frame_width, frame_height, frame_flags = struct.unpack_from("<HHHHB", data, position + 1)
    # A frame that extends beyond the edge enlarges the image, as in Pillow.
    width, height = max(width, left + frame_width), max(height, top + frame_height)
    limits.check(width, height)
    own = data[position + 10 : position + 10 + _palette_size(frame_flags)]
    palette = own or data[13:start]
    control = () if transparent is None else (bytes((_EXTENSION, _GRAPHIC_CONTROL, 4, 1, 0, 0, transparent, 0)),)
    view = memoryview(data)
    return Container(
        header=ImageHeader(
            format="gif",
            width=width,
            height=height,
            gray=is_gray_palette(palette),
            has_alpha=transparent is not None,
        ),
        stream=(view[:start], *control, view[position:]),
        palette_alpha=None if transparent is None else b"\xff" * transparent + b"\0",
    )


def _palette_size(flags: int) -> int:
    """The size in bytes of the colour table that the flags of a screen or an image announce (sections 18 and 20)."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _first_picture(data: bytes, position: int) -> tuple[int, int | None]:
    """The offset of the first image's descriptor, and the palette index that is transparent in it."""
    transparent = None
    blocks = 0
    while data[position] != _PICTURE:
        if data[position] != _EXTENSION:
            raise CorruptImageError("The GIF contains no image")
        if data[position + 1] == _GRAPHIC_CONTROL and data[position + 2] >= 4:
            transparent = data[position + 6] if data[position + 3] & 1 else None
        position += 2
        while size := data[position]:  # sub-blocks: a length, then as many bytes; a zero ends them
            position += 1 + size
            blocks += 1
        position += 1
        blocks += 1
        if blocks > MAX_SUB_BLOCKS:
            raise TooComplexError("The GIF has too many extensions before its image", limit=MAX_SUB_BLOCKS)
    return position, transparent


FORMAT = InputFormat(
    name="gif",
    suffixes=(".gif",),
    matches=lambda data: data[:6] in (b"GIF87a", b"GIF89a"),
    read=read_gif,
    plugin=GifImageFile,
)
