"""WebP (RFC 9649) through Pillow's libwebp, which wants the whole picture at once."""

import io

from app.images.encoders.base import DEFAULT_QUALITY, OutputFormat, Picture, Rows, check_quality
from app.images.encoders.whole import Canvas, check_size

MAX_SIDE = 16383  # libwebp's WEBP_MAX_DIMENSION: 14 bits in the bitstream, RFC 9649 section 2.5

# Here memory grows with the picture: measured peaks in bytes a pixel, the 4 of the collected picture included, are
#   lossy RGB 14-17 on photographs, 37 on noise; lossy RGBA 35 and 44; lossless 35-41 and 44.
# 2^25 pixels (8192 x 4096) therefore need 0.5 GiB as a lossy photograph and 44 x 2^25 = 1.4 GiB at the very worst.
MAX_PIXELS, HELD = 2**25, 44

MODES = {1: "RGB", 2: "RGBA", 3: "RGB", 4: "RGBA"}  # channels -> Pillow mode; WebP has no gray


class WebpEncoder:
    """Collects the rows and encodes in ``finish``. ``lossless`` keeps the colour under transparent pixels as well."""

    def __init__(self, picture: Picture, quality: int = DEFAULT_QUALITY, lossless: bool = False) -> None:
        check_quality(quality)
        check_size(picture, "WebP", MAX_SIDE, MAX_PIXELS)
        self._picture, self._quality, self._lossless = picture, quality, lossless
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
            "WEBP",
            quality=self._quality,
            lossless=self._lossless,
            exact=self._lossless,
            icc_profile=self._canvas.icc_profile,
            exif=self._picture.exif or b"",
            xmp=self._picture.xmp or b"",
        )
        return file.getvalue()


FORMAT = OutputFormat(
    name="webp",
    media_type="image/webp",
    suffixes=(".webp",),
    create=lambda picture, options: WebpEncoder(picture, options.quality_or_default, options.lossless),
    held=HELD,
    streamed=False,
    quality=True,
    lossless=True,
    max_side=MAX_SIDE,
    max_pixels=MAX_PIXELS,
)
