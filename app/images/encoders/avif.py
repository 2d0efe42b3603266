"""AVIF through Pillow's libavif, which wants the whole picture at once."""

import io

from app.images.encoders.base import DEFAULT_QUALITY, OutputFormat, Picture, Rows, Subsampling, check_quality
from app.images.encoders.whole import Canvas, check_size

MAX_SIDE = 16384

# Measured peaks in bytes a pixel beside the collected picture's 4 (4:2:0, quality 90): RGB 20, RGBA and noise 26.
# 2^24 pixels (4096 x 4096) therefore need 0.5 GiB, and a minute.
MAX_PIXELS, HELD = 2**24, 4 + 26

SPEED = 9  # of libavif's 0 to 10: 2.3 s a megapixel on one core of the test machine; 8: 5 s for a file 3 % smaller
MODES = {1: "L", 2: "RGBA", 3: "RGB", 4: "RGBA"}  # channels -> Pillow mode


class AvifEncoder:
    """Collects the rows and encodes in ``finish``. Gray is one channel (4:0:0); gray with alpha becomes equal ones."""

    def __init__(self, picture: Picture, quality: int = DEFAULT_QUALITY, subsampling: Subsampling = "4:2:0") -> None:
        check_quality(quality)
        check_size(picture, "AVIF", MAX_SIDE, MAX_PIXELS)
        self._picture, self._quality = picture, quality
        self._subsampling = "4:0:0" if picture.channels == 1 else subsampling
        self._canvas = Canvas(picture, MODES)

    def begin(self) -> bytes:
        self._canvas.begin()
        return b""

    def write(self, rows: Rows) -> bytes:
        self._canvas.write(rows)
        return b""

    def finish(self) -> bytes:
        file = io.BytesIO()
        self._canvas.finish().save(
            file,
            "AVIF",
            quality=self._quality,
            subsampling=self._subsampling,
            speed=SPEED,
            max_threads=1,  # the cores are the networks'
            icc_profile=self._canvas.icc_profile,
            exif=self._picture.exif or b"",
            xmp=self._picture.xmp or b"",
        )
        return file.getvalue()


FORMAT = OutputFormat(
    name="avif",
    media_type="image/avif",
    suffixes=(".avif",),
    create=lambda picture, options: AvifEncoder(picture, options.quality_or_default, options.subsampling),
    held=HELD,
    streamed=False,
    quality=True,
    subsampling=True,
    max_side=MAX_SIDE,
    max_pixels=MAX_PIXELS,
)
