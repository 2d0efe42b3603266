"""For formats whose libraries want the whole picture at once: the rows, collected."""

from collections.abc import Mapping

from PIL import Image

from app.errors import OutputTooLargeError
from app.images.encoders.base import Picture, RowCounter, Rows
from app.images.icc import for_rgb


class Canvas:
    """The rows so far as a Pillow image; ``modes`` tells which a number of channels becomes. ``begin`` allocates."""

    def __init__(self, picture: Picture, modes: Mapping[int, str]) -> None:
        self._size = picture.width, picture.height
        self._mode = modes[picture.channels]
        rgb = self._mode.startswith("RGB")
        self.icc_profile = for_rgb(picture.icc_profile) if rgb else picture.icc_profile
        self._counter = RowCounter(picture)
        self._image: Image.Image | None = None
        self._filled = 0

    def begin(self) -> None:
        self._image = Image.new(self._mode, self._size)

    def write(self, rows: Rows) -> None:
        if self._image is None:
            raise ValueError("write comes after begin and before finish")
        self._counter.accept(rows)
        if len(rows):
            band = Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)
            self._image.paste(band.convert(self._mode), (0, self._filled))
            self._filled += len(rows)

    def finish(self) -> Image.Image:
        """The picture, which is forgotten here: it is freed while the file is still being sent."""
        self._counter.complete()
        if self._image is None:
            raise ValueError("finish comes once, after begin")
        image, self._image = self._image, None
        return image


def check_size(picture: Picture, name: str, max_side: int, max_pixels: int) -> None:
    """Raises OutputTooLargeError for what the format, or the memory its library takes, cannot bear."""
    longest, pixels = max(picture.width, picture.height), picture.width * picture.height
    if longest > max_side:
        raise OutputTooLargeError(
            f"A side of a {name} image has at most {max_side} pixels", limit=max_side, actual=longest
        )
    if pixels > max_pixels:
        raise OutputTooLargeError(f"A {name} result has at most {max_pixels} pixels", limit=max_pixels, actual=pixels)
