"""TIFF: compressions, byte orders, tiles, deep samples, directories without end."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from app.errors import (
    CorruptImageError,
    TooComplexError,
)
from app.images.decoder import decode, inspect
from harness.files import (
    DEEP,
    data_at,
    saved,
    smooth,
    tiff,
    tiff_tags,
)
from tests.support.decoding import LIMITS, alpha, colour, decoded, gray3, pattern


@pytest.mark.parametrize(("order", "photometric"), [("<", 0), ("<", 1), (">", 1)])  # Pillow lacks the fourth
def test_16_bit_gray_tiff(order: str, photometric: int) -> None:
    data = DEEP.astype(order + "u2").tobytes()
    source = decoded(tiff(tiff_tags(6, 2, (16,), photometric, len(data)), data, order))
    np.testing.assert_array_equal(colour(source), gray3(DEEP if photometric else 65535 - DEEP))


@pytest.mark.parametrize(
    ("dtype", "bits", "kind", "samples", "expected"),
    [
        ("<i2", 16, 2, [-5, 0, 16384, 32767], [0, 0, 32769, 65535]),
        ("<u4", 32, 1, [0, 2**31, 2**32 - 1, 2**24], [0, 32768, 65535, 256]),
        ("<i4", 32, 2, [-1, 0, 2**30, 2**31 - 1], [0, 0, 32768, 65535]),
        ("<f4", 32, 3, [0.0, 0.5, 1.0, 1e38], [0, 32768, 65535, 65535]),
        ("<f4", 32, 3, [np.nan, -np.inf, np.inf, -1.0], [0, 0, 65535, 0]),
    ],
)
def test_deep_gray_tiff(dtype: str, bits: int, kind: int, samples: list[float], expected: list[int]) -> None:
    data = np.array(samples, dtype).tobytes()
    source = decoded(tiff([*tiff_tags(4, 1, (bits,), 1, len(data)), (339, "H", (kind,))], data))
    assert colour(source)[0, :, 0].tolist() == expected
    assert source.gray


def test_12_bit_tiff() -> None:
    data = bytes.fromhex("000fff7ff800")  # 0, 4095, 2047, 2048
    source = decoded(tiff(tiff_tags(4, 1, (12,), 1, len(data)), data))
    assert colour(source)[0, :, 0].tolist() == [0, 65535, 32759, 32776]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
def test_tiff_compressions(compression: str) -> None:
    pixels = pattern(20, 15)
    data = saved(Image.fromarray(pixels), "tiff", compression=compression)
    np.testing.assert_array_equal(colour(decoded(data)), pixels)


def test_tiff_of_jpeg_and_of_fax() -> None:
    data = saved(smooth(), "tiff", compression="jpeg")
    np.testing.assert_array_equal(colour(decoded(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    bits = pattern(5, 16, 1) > 127
    source = decoded(saved(Image.fromarray(bits), "tiff", compression="group4"))
    np.testing.assert_array_equal(colour(source), gray3(bits * 255))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_byte_orders_and_bigtiff(order: str, big: bool) -> None:
    pixels = pattern(4, 3)
    tags = tiff_tags(3, 4, (8, 8, 8), 2, pixels.size, data_at(big))
    if big:
        tags = [tag if tag[0] != 273 else (273, "Q", tag[2]) for tag in tags]
    np.testing.assert_array_equal(colour(decoded(tiff(tags, pixels.tobytes(), order, big))), pixels)


def test_tiff_in_tiles() -> None:
    pixels = pattern(20, 20, 1)
    padded = np.zeros((32, 32), np.uint8)
    padded[:20, :20] = pixels
    tiles = [padded[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
    tags = [tag for tag in tiff_tags(20, 20, (8,), 1, 0) if tag[0] not in (273, 278, 279)]
    tags += [(322, "H", (16,)), (323, "H", (16,)), (324, "I", (8, 264, 520, 776)), (325, "I", (256,) * 4)]
    np.testing.assert_array_equal(colour(decoded(tiff(tags, b"".join(tiles)))), gray3(pixels))


def test_tiff_premultiplied_alpha_is_divided_out() -> None:
    data = bytes((100, 50, 0, 128, 40, 40, 40, 255))
    tags = [*tiff_tags(2, 1, (8, 8, 8, 8), 2, len(data)), (338, "H", (1,))]
    source = decoded(tiff(tags, data))
    assert alpha(source).tolist() == [[128, 255]]
    assert colour(source).tolist() == [[[199, 99, 0], [40, 40, 40]]]


def test_tiff_tags_that_would_make_pillow_warn() -> None:
    """Too many values for one-value tags, values outside the file, unknown types: legal enough to have pixels."""
    pixels = pattern(2, 2, 1)
    tags = [tag if tag[0] != 262 else (262, "H", (1, 9, 9)) for tag in tiff_tags(2, 2, (8,), 1, 4)]
    data = tiff([*tags, (270, "s", ()), (33432, "B", (65,) * 40)], pixels.tobytes())
    wild = data.replace(struct.pack("<HHI", 33432, 1, 40), struct.pack("<HHI", 33432, 1, 1 << 30))
    assert wild != data
    np.testing.assert_array_equal(colour(decoded(wild)), gray3(pixels))


def test_tiff_resolution_in_centimetres() -> None:
    tags = [*tiff_tags(1, 1, (8,), 1, 1), (282, "r", (100,)), (283, "r", (50,)), (296, "H", (3,))]
    assert decoded(tiff(tags, b"\0")).dpi == (254.0, 127.0)


def test_tiff_directories_without_end() -> None:
    with pytest.raises(TooComplexError):
        inspect(b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65535), LIMITS)
    loop = bytearray(tiff(tiff_tags(1, 1, (8,), 1, 1), b"\x09"))
    loop[-4:] = struct.pack("<I", struct.unpack_from("<I", loop, 4)[0])  # the directory is its own successor
    assert decoded(bytes(loop)).width == 1


def test_tiff_of_very_many_strips() -> None:
    tags = [tag for tag in tiff_tags(1000, 1000, (8,), 1, 1) if tag[0] not in (273, 278, 279)]
    tags += [(322, "I", (1,)), (323, "I", (1,)), (324, "I", (8,)), (325, "I", (1,))]
    with pytest.raises(TooComplexError):
        inspect(tiff(tags, b"\0"), LIMITS)


def test_tiff_whose_strips_do_not_match_its_size() -> None:
    for rows in (1, 3):  # 9 rows announced in strips of 1 or 3, and one strip given
        tags = [tag if tag[0] != 278 else (278, "I", (rows,)) for tag in tiff_tags(9, 9, (8,), 1, 81)]
        with pytest.raises(CorruptImageError):
            decode(tiff(tags, bytes(81)), LIMITS)
