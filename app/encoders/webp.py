"""WebP (RFC 9649) through Pillow's libwebp, which wants the whole picture at once."""

import io

from PIL import Image

from app.encoders.base import DEFAULT_QUALITY, Picture, RowCounter, Rows, check_quality
from app.errors import OutputTooLargeError

MAX_SIDE = 16383  # libwebp's WEBP_MAX_DIMENSION: 14 bits in the bitstream, RFC 9649 section 2.5

# Here memory grows with the picture: measured peaks in bytes a pixel, the 4 of the collected picture included, are
#   lossy RGB 14-17 on photographs, 37 on noise; lossy RGBA 35 and 44; lossless 35-41 and 44.
# 2^25 pixels (8192 x 4096) therefore need 0.5 GiB as a lossy photograph and 44 x 2^25 = 1.4 GiB at the very worst.
MAX_PIXELS = 2**25

MODES = {1: "RGB", 2: "RGBA", 3: "RGB", 4: "RGBA"}  # channels -> Pillow mode; WebP has no gray


class WebpEncoder:
    """Collects the rows and encodes in ``finish``. ``lossless`` keeps the colour under transparent pixels as well."""

    media_type = "image/webp"

    def __init__(self, picture: Picture, quality: int = DEFAULT_QUALITY, lossless: bool = False) -> None:
        check_quality(quality)
        _check_limits(picture)
        self._picture = picture
        self._quality = quality
        self._lossless = lossless
        self._counter = RowCounter(picture)
        self._canvas: Image.Image | None = None
        self._filled_rows = 0

    def begin(self) -> bytes:
        picture = self._picture
        self._canvas = Image.new(MODES[picture.channels], (picture.width, picture.height))
        return b""

    def write(self, rows: Rows) -> bytes:
        if self._canvas is None:
            raise ValueError("write comes after begin and before finish")
        self._counter.accept(rows)
        if len(rows):
            band = Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)
            self._canvas.paste(band.convert(self._canvas.mode), (0, self._filled_rows))
            self._filled_rows += len(rows)
        return b""

    def finish(self) -> bytes:
        self._counter.complete()
        if self._canvas is None:
            raise ValueError("finish comes once, after begin")
        file = io.BytesIO()
        self._canvas.save(
            file,
            "WEBP",
            quality=self._quality,
            lossless=self._lossless,
            exact=self._lossless,
            icc_profile=self._picture.icc_profile,
            exif=self._picture.exif or b"",
        )
        self._canvas = None  # frees it while the file is still being sent
        return file.getvalue()


def _check_limits(picture: Picture) -> None:
    longest = max(picture.width, picture.height)
    if longest > MAX_SIDE:
        raise OutputTooLargeError(f"A WebP side has at most {MAX_SIDE} pixels", limit=MAX_SIDE, actual=longest)
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        raise OutputTooLargeError(f"A WebP result may have {MAX_PIXELS} pixels", limit=MAX_PIXELS, actual=pixels)
