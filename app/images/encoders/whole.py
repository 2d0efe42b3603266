"""For formats whose libraries need the whole image at once: collects the rows, then lets Pillow write the file."""

import io
from collections.abc import Mapping

from PIL import Image

from app.images.encoders.base import OutputFormat, Picture, RowCounter, Rows
from app.images.icc import for_rgb


class WholeEncoder:
    """Collects the rows and encodes them in ``finish``; ``begin`` allocates the image.

    ``modes``: the Pillow mode for each number of channels; ``options``: those of Pillow's ``save``.
    """

    def __init__(
        self, picture: Picture, kind: OutputFormat, modes: Mapping[int, str], options: Mapping[str, object]
    ) -> None:
        self._picture, self._kind, self._options = picture, kind, options
        self._mode = modes[picture.channels]
        self._counter = RowCounter(picture)
        self._image: Image.Image | None = None
        self._filled = 0

    def begin(self) -> bytes:
        self._image = Image.new(self._mode, (self._picture.width, self._picture.height))
        return b""

    def write(self, rows: Rows) -> bytes:
        if self._image is None:
            raise ValueError("write comes after begin and before finish")
        self._counter.accept(rows)
        if len(rows):
            band = Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)
            self._image.paste(band.convert(self._mode), (0, self._filled))
            self._filled += len(rows)
        return b""

    def finish(self) -> bytes:
        self._counter.complete()
        if self._image is None:
            raise ValueError("finish comes once, after begin")
        picture, profile, file = self._picture, self._picture.icc_profile, io.BytesIO()
        self._image.save(
            file,
            self._kind.name,
            icc_profile=for_rgb(profile) if self._mode.startswith("RGB") else profile,
            exif=picture.exif or b"",
            xmp=picture.xmp or b"",
            **self._options,
        )
        self._image = None  # freed while the file is still being sent
        return file.getvalue()
