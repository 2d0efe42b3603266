"""JPEG: what Pillow decodes, scans without end, profiles in parts."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.errors import (
    TooComplexError,
)
from app.images.decoder import decode, inspect
from app.images.formats import read_container
from app.images.formats.jpeg import check_scans
from harness.files import (
    frames,
    progressive_jpeg,
    saved,
    smooth,
)
from tests.support.decoding import LIMITS, SRGB, colour, decoded


def test_jpeg_is_what_pillow_decodes() -> None:
    data = saved(smooth(), "jpeg", quality=90)
    np.testing.assert_array_equal(colour(decoded(data)), np.asarray(Image.open(io.BytesIO(data))))


def test_a_profile_in_several_jpeg_segments() -> None:
    profile = bytearray(SRGB.ljust(150_000, b"\x55"))
    profile[:4] = struct.pack(">I", len(profile))
    data = saved(smooth(), "jpeg", icc_profile=bytes(profile))
    assert data.count(b"ICC_PROFILE\0") == 3
    assert decoded(data).icc_profile == bytes(profile)
    second = data.index(b"ICC_PROFILE\0", data.index(b"ICC_PROFILE\0") + 1)
    lost = data[: second + 12] + b"\x07" + data[second + 13 :]
    assert decoded(lost).icc_profile is None


@pytest.mark.usefixtures("_no_pixels")
def test_a_jpeg_of_thousands_of_scans() -> None:
    with pytest.raises(TooComplexError) as caught:
        decode(progressive_jpeg(2000), LIMITS)
    assert caught.value.limit == 100


def test_ordinary_jpegs_pass_the_count_of_scans() -> None:
    assert decoded(saved(smooth(), "jpeg", progressive=True)).width == 16
    check_scans(read_container(progressive_jpeg(100), LIMITS))
    with pytest.raises(TooComplexError):
        check_scans(read_container(progressive_jpeg(101), LIMITS))
    large = read_container(progressive_jpeg(30), LIMITS)
    check_scans(large)
    header = replace(large.header, width=7000, height=7000)  # whose pixels each scan may visit
    with pytest.raises(TooComplexError) as caught:
        check_scans(replace(large, header=header))
    assert caught.value.limit == 20
    check_scans(replace(read_container(progressive_jpeg(20), LIMITS), header=header))
    noise = b"\xff\xda" * 500
    assert decoded(saved(smooth(), "jpeg", comment=noise) + noise).width == 16, "no scans of this picture"


def test_jpeg_metadata_without_end() -> None:
    data = saved(smooth(), "jpeg")
    with pytest.raises(TooComplexError):
        inspect(data[:2] + b"\xff\xec\0\x02" * 5000 + data[2:], LIMITS)
    assert decoded(data[:2] + b"\xff" * 1_000_000 + data[2:]).width == 16, "fill bytes are legal"


def test_a_malformed_mpo_is_a_jpeg() -> None:
    """Pillow's factory would warn of this one."""
    first, *others = frames()
    data = saved(first, "mpo", save_all=True, append_images=others)
    at = data.index(b"MPF\0")
    assert decoded(data[: at + 8] + b"\xff" * 40 + data[at + 48 :]).width == 6
