"""Fixtures for tests of files and pixels."""

import pytest
from PIL import Image, ImageFile


@pytest.fixture
def _no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever touches Pillow's codecs fails the test."""

    def fail(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "__init__", fail)
    monkeypatch.setattr(Image.core, "new", fail)
