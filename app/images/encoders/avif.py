"""AVIF through Pillow's libavif."""

from app.images.encoders.base import Encoder, Options, OutputFormat, Picture
from app.images.encoders.whole import WholeEncoder

# Measured peaks in bytes per pixel, on top of the collected image's 4 (4:2:0, quality 90): RGB 20, RGBA and noise 26.
# 2^24 pixels (4096 x 4096) therefore need 0.5 GiB, and a minute.
MAX_PIXELS, HELD = 2**24, 4 + 26

SPEED = 9  # of libavif's 0 to 10: 2.3 s a megapixel on one core of the test machine; 8: 5 s for a file 3 % smaller
MODES = {1: "L", 2: "RGBA", 3: "RGB", 4: "RGBA"}  # channels -> Pillow mode


def create(picture: Picture, options: Options) -> Encoder:
    """Gray has one channel (4:0:0); gray with alpha becomes RGBA."""
    saving = {
        "quality": options.quality_or_default,
        "subsampling": "4:0:0" if picture.channels == 1 else options.subsampling,
        "speed": SPEED,
        "max_threads": 1,  # the cores belong to the networks
    }
    return WholeEncoder(picture, FORMAT, MODES, saving)


FORMAT = OutputFormat(
    name="avif",
    media_type="image/avif",
    suffixes=(".avif",),
    create=create,
    held=HELD,
    streamed=False,
    quality=True,
    subsampling=True,
    max_side=16384,
    max_pixels=MAX_PIXELS,
)
