"""WebP (RFC 9649) through Pillow's libwebp."""

from app.images.encoders.base import Encoder, Options, OutputFormat, Picture
from app.images.encoders.whole import WholeEncoder

# Memory grows with the image. Measured peaks in bytes per pixel, including the 4 of the collected image:
#   lossy RGB 14-17 on photographs, 37 on noise; lossy RGBA 35 and 44; lossless 35-41 and 44.
# 2^25 pixels (8192 x 4096) therefore need 0.5 GiB as a lossy photograph and 44 x 2^25 = 1.4 GiB at the very worst.
MAX_PIXELS, HELD = 2**25, 44

MODES = {1: "RGB", 2: "RGBA", 3: "RGB", 4: "RGBA"}  # channels -> Pillow mode; WebP has no gray


def create(picture: Picture, options: Options) -> Encoder:
    """``exact`` also keeps the colour of transparent pixels."""
    saving = {"quality": options.quality_or_default, "lossless": options.lossless, "exact": options.lossless}
    return WholeEncoder(picture, FORMAT, MODES, saving)


FORMAT = OutputFormat(
    name="webp",
    media_type="image/webp",
    suffixes=(".webp",),
    create=create,
    held=HELD,
    streamed=False,
    quality=True,
    lossless=True,
    max_side=16383,  # libwebp's WEBP_MAX_DIMENSION: 14 bits in the bitstream, RFC 9649 section 2.5
    max_pixels=MAX_PIXELS,
)
