"""The decoder: exact pixels for every kind of file, every limit, and no way for a hostile file to be our fault."""

import io
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from app.errors import (
    CorruptImageError,
    EmptyImageError,
    EnlargerError,
    TooComplexError,
    TooManyPixelsError,
    UnsupportedFormatError,
)
from app.images import decoder
from app.images.decoder import DecodeLimits, SourceImage, decode, inspect
from app.images.formats import read_container
from app.images.formats.jpeg import check_scans
from harness.files import (
    BOMB,
    DEEP,
    HUGE,
    SMALL_FILES,
    bmp_rle8,
    chunk,
    data_at,
    exif_block,
    frames,
    gif,
    gif_frame,
    ihdr,
    png,
    progressive_jpeg,
    saved,
    smooth,
    tiff,
    tiff_tags,
)

Pixels = NDArray[np.uint8]
LIMITS = DecodeLimits()
FORMATS = ("png", "jpeg", "webp", "avif", "bmp", "tiff", "gif")


# -- building files ----------------------------------------------------------------------------------------------


def pattern(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels


def sample(fmt: str) -> bytes:
    image = smooth((9, 7))
    if fmt == "gif":
        image = image.quantize(16)
    return saved(image, fmt, **({"lossless": True} if fmt == "webp" else {}))


# -- looking at results ------------------------------------------------------------------------------------------


def colour(source: SourceImage) -> Pixels:
    """All rows, taken in bands of an odd height."""
    return np.concatenate([source.rows(top, min(top + 3, source.height)) for top in range(0, source.height, 3)])


def alpha(source: SourceImage) -> Pixels:
    assert source.alpha is not None
    assert source.alpha.dtype == (np.uint8 if source.depth == 8 else np.uint16)
    assert (source.alpha.width, source.alpha.height) == (source.width, source.height)
    return source.alpha_rows(0, source.height)[:, :, 0]


def decoded(data: bytes, limits: DecodeLimits = LIMITS) -> SourceImage:
    """Decode, and hold ``inspect`` to the same facts."""
    header = inspect(data, limits)
    source = decode(data, limits)
    facts = (source.format, source.width, source.height, source.gray, source.has_alpha)
    assert (header.format, header.width, header.height, header.gray, header.has_alpha) == facts
    assert colour(source).shape == (source.height, source.width, 3)
    return source


def gray3(levels: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.repeat(np.asarray(levels)[:, :, None], 3, axis=2)


# -- pixels, by mode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["png", "webp", "bmp", "tiff"])
def test_rgb_is_exact(fmt: str) -> None:
    pixels = pattern(7, 5)
    source = decoded(saved(Image.fromarray(pixels), fmt, **({"lossless": True} if fmt == "webp" else {})))
    np.testing.assert_array_equal(colour(source), pixels)
    assert (source.format, source.gray, source.has_alpha) == (fmt, False, False)


def test_jpeg_is_what_pillow_decodes() -> None:
    data = saved(smooth(), "jpeg", quality=90)
    np.testing.assert_array_equal(colour(decoded(data)), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("fmt", ["png", "jpeg", "bmp", "tiff", "gif"])
def test_gray_stays_gray(fmt: str) -> None:
    levels = np.asarray(smooth().convert("L"))
    data = saved(Image.fromarray(levels), fmt)
    source = decoded(data)
    np.testing.assert_array_equal(colour(source), gray3(np.asarray(Image.open(io.BytesIO(data)).convert("L"))))
    if fmt != "jpeg":
        np.testing.assert_array_equal(colour(source), gray3(levels))
    assert source.gray
    assert source._colour.channels == 1, "gray shall take one byte a pixel"


@pytest.mark.parametrize("fmt", ["png", "bmp", "tiff", "gif"])
def test_one_bit(fmt: str) -> None:
    bits = pattern(5, 11, 1) > 127
    source = decoded(saved(Image.fromarray(bits), fmt))
    np.testing.assert_array_equal(colour(source), gray3(bits * 255))
    assert source.gray


@pytest.mark.parametrize(("bits", "levels"), [(1, (0, 255)), (2, (0, 85, 170, 255)), (4, range(0, 256, 17))])
def test_png_of_few_bits_with_a_transparent_gray(bits: int, levels: Iterable[int]) -> None:
    levels = list(levels)
    count = len(levels)
    row = int("".join(f"{value:0{bits}b}" for value in range(count)).ljust(8 * -(-count * bits // 8), "0"), 2)
    raw = b"\0" + row.to_bytes(-(-count * bits // 8), "big")
    source = decoded(png(ihdr(count, 1, bits, 0), raw, chunk(b"tRNS", struct.pack(">H", count - 1))))
    assert alpha(source).tolist() == [[255] * (count - 1) + [0]]
    assert colour(source)[0, : count - 1, 0].tolist() == levels[:-1]


def test_palette() -> None:
    indices = pattern(6, 5, 1) % 4
    palette = pattern(4, 3, 1)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    for fmt in ("png", "bmp", "tiff", "gif"):
        source = decoded(saved(image, fmt))
        np.testing.assert_array_equal(colour(source), palette[indices], err_msg=fmt)
        assert not source.gray


@pytest.mark.parametrize("fmt", ["png", "bmp", "tiff", "gif"])
def test_a_palette_of_grays_is_gray(fmt: str) -> None:
    indices = pattern(6, 5, 1) % 4
    levels = np.array([7, 200, 90, 31], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(np.repeat(levels, 3).tobytes())
    source = decoded(saved(image, fmt))
    np.testing.assert_array_equal(colour(source), gray3(levels[indices]))
    assert source.gray


@pytest.mark.parametrize("transparency", [b"\x00\x80\xff\x40", 2])
def test_palette_with_transparency(transparency: bytes | int) -> None:
    indices = np.arange(4, dtype=np.uint8)[None].repeat(3, axis=0)
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 200]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    levels = np.array(list(transparency) if isinstance(transparency, bytes) else [255, 255, 0, 255])
    source = decoded(saved(image, "png", transparency=transparency))
    np.testing.assert_array_equal(alpha(source), levels[indices])
    seen = levels[indices] > 0
    np.testing.assert_array_equal(colour(source)[seen], palette[indices][seen])


def test_gif_with_transparency() -> None:
    control = b"!\xf9\x04\x01\0\0\x01\0"
    source = decoded(gif(2, 2, gif_frame(), before=control))
    assert alpha(source).tolist() == [[0, 0], [0, 0]], "outside the frame a GIF is transparent, if anything in it is"
    assert source.gray
    source = decoded(gif(1, 1, gif_frame(), before=b"!\xf9\x04\x01\0\0\x00\0"))
    assert alpha(source).tolist() == [[255]]
    assert colour(source).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("fmt", ["png", "tiff", "webp"])
def test_rgba(fmt: str) -> None:
    pixels = pattern(5, 6, 4)
    pixels[:, :, 3] |= 1  # no hole
    source = decoded(
        saved(Image.fromarray(pixels), fmt, **({"lossless": True, "exact": True} if fmt == "webp" else {}))
    )
    np.testing.assert_array_equal(colour(source), pixels[:, :, :3])
    np.testing.assert_array_equal(alpha(source), pixels[:, :, 3])


@pytest.mark.parametrize("fmt", ["png", "tiff"])
def test_gray_with_alpha(fmt: str) -> None:
    pixels = pattern(5, 6, 2)
    pixels[:, :, 1] |= 1
    image = Image.merge("LA", [Image.fromarray(np.ascontiguousarray(pixels[:, :, n])) for n in (0, 1)])
    source = decoded(saved(image, fmt))
    np.testing.assert_array_equal(colour(source), gray3(pixels[:, :, 0]))
    np.testing.assert_array_equal(alpha(source), pixels[:, :, 1])
    assert source.gray


def test_opaque_alpha_is_still_alpha() -> None:
    source = decoded(saved(Image.new("RGBA", (3, 2), (1, 2, 3, 255)), "png"))
    assert source.has_alpha
    assert (alpha(source) == 255).all()


def test_rgb_with_a_transparent_colour() -> None:
    row = bytes((10, 20, 30, 10, 20, 31, 99, 20, 30))
    source = decoded(png(ihdr(3, 1), b"\0" + row, chunk(b"tRNS", struct.pack(">HHH", 10, 20, 30))))
    assert alpha(source).tolist() == [[0, 255, 255]]
    assert colour(source)[0, 1:].tolist() == [[10, 20, 31], [99, 20, 30]]


def test_bmp_with_alpha_masks() -> None:
    pixels = pattern(3, 4, 4) | 1
    masks = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 124, 4, -3, 1, 32, 3, 48, 0, 0, 0, 0) + masks
    header = header.ljust(124, b"\0")
    source = decoded(b"BM" + struct.pack("<IHHI", 14 + 124 + 48, 0, 0, 138) + header + pixels.tobytes())
    np.testing.assert_array_equal(np.dstack([colour(source), alpha(source)]), pixels)


def test_run_length_bmp() -> None:
    source = decoded(bmp_rle8(4, 2, b"\x04\x10\0\0\x01\x20\x03\x30\0\x01"))
    blue = [[0x20, 0x30, 0x30, 0x30], [0x10] * 4]  # from the bottom row up
    assert colour(source)[:, :, 2].tolist() == blue


# -- more than 8 bits --------------------------------------------------------------------------------------------


def test_16_bit_gray_png_keeps_its_samples() -> None:
    source = decoded(png(ihdr(6, 2, 16, 0), b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)))
    np.testing.assert_array_equal(colour(source), gray3(DEEP))
    assert (source.gray, source.depth, colour(source).dtype) == (True, 16, np.uint16)
    assert inspect(png(ihdr(6, 2, 16, 0), b""), LIMITS).bits == 16


def test_16_bit_is_told_by_the_header_not_by_the_pixels() -> None:
    """A dark picture, all of whose samples would fit 8 bits."""
    source = decoded(png(ihdr(2, 1, 16, 0), b"\0" + struct.pack(">HH", 100, 255)))
    assert colour(source)[0, :, 0].tolist() == [100, 255]


def test_16_bit_transparent_gray_is_compared_in_16_bits() -> None:
    raw = b"\0" + struct.pack(">HHH", 0x1234, 0x1235, 0x1134)
    source = decoded(png(ihdr(3, 1, 16, 0), raw, chunk(b"tRNS", struct.pack(">H", 0x1234))))
    assert alpha(source).tolist() == [[0, 65535, 65535]]


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_and_alpha_keep_their_samples(colour_type: int, channels: int) -> None:
    samples = np.random.default_rng(1).integers(256, 65536, (2, 3, channels)).astype(">u2")
    source = decoded(png(ihdr(3, 2, 16, colour_type), b"".join(b"\0" + row.tobytes() for row in samples)))
    np.testing.assert_array_equal(colour(source), gray3(samples[:, :, 0]) if channels == 2 else samples[:, :, :3])
    if channels != 3:
        np.testing.assert_array_equal(alpha(source), samples[:, :, -1])
    assert source.gray == (channels == 2)


def test_16_bit_transparent_colour() -> None:
    raw = b"\0" + struct.pack(">6H", 0x1000, 0x2000, 0x3000, 0x1001, 0x2000, 0x3000)
    source = decoded(png(ihdr(2, 1, 16, 2), raw, chunk(b"tRNS", struct.pack(">HHH", 0x1000, 0x2000, 0x3000))))
    assert alpha(source).tolist() == [[0, 65535]]


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


# -- TIFF's own ways ---------------------------------------------------------------------------------------------


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


# -- ink and Lab -------------------------------------------------------------------------------------------------


def cmyk() -> Image.Image:
    return Image.fromarray(np.asarray(smooth((16, 16)).resize((16, 16)).convert("CMYK")), "CMYK")


@pytest.mark.parametrize("fmt", ["jpeg", "tiff"])
def test_cmyk_without_a_profile(fmt: str) -> None:
    data = saved(smooth().convert("CMYK"), fmt)
    source = decoded(data)
    np.testing.assert_array_equal(colour(source), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    difference = np.abs(colour(source).astype(int) - np.asarray(smooth()))
    assert difference.max() < 60, f"inverted or swapped? up to {difference.max()} off"


def ycck_jpeg() -> bytes:
    """A CMYK JPEG made YCCK by its Adobe segment: the channels are then read as YCbCr of inverted CMY, and K."""
    data = saved(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "jpeg", quality=100)
    at = data.index(b"Adobe")
    return data[: at + 11] + b"\x02" + data[at + 12 :]


def test_ycck() -> None:
    data = ycck_jpeg()
    np.testing.assert_array_equal(colour(decoded(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_lab() -> None:
    image = Image.merge("LAB", [Image.new("L", (2, 2), n) for n in (136, 208, 195)])  # L 53, a 80, b 67: sRGB red
    red = colour(decoded(saved(image, "tiff")))[0, 0]
    assert red[0] > 240, red
    assert red[1:].max() < 40, red


def gray_ink_profile() -> bytes:
    """An ICC profile for CMYK in which every ink, however much, prints the same mid gray: nobody else's formula."""
    identity = bytes(range(256))
    grid = bytes((128, 128, 128)) * 16  # L = 50, a = b = 0, at each of the 2^4 corners
    matrix = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + grid + identity * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"A2B0": lut, b"A2B1": lut, b"wtpt": white}
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("fmt", ["jpeg", "tiff"])
def test_cmyk_by_its_own_profile(fmt: str) -> None:
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    source = decoded(saved(image, fmt, icc_profile=gray_ink_profile()))
    plain = decoded(saved(image, fmt))
    assert colour(plain)[0, 0].tolist() == [0, 255, 255]
    red, green, blue = colour(source)[0, 0].tolist()
    assert abs(red - green) <= 2
    assert abs(green - blue) <= 2
    assert 90 < red < 150
    assert source.icc_profile is None, "the profile no longer holds"


def test_cmyk_with_a_broken_profile_falls_back() -> None:
    profile = gray_ink_profile()
    broken = profile[:128] + bytes(len(profile) - 128)
    source = decoded(saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "tiff", icc_profile=broken))
    assert colour(source)[0, 0].tolist() == [0, 255, 255]


# -- profiles, resolution, Exif ----------------------------------------------------------------------------------

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "tiff"])
def test_a_profile_is_passed_on(fmt: str) -> None:
    assert decoded(saved(smooth(), fmt, icc_profile=SRGB)).icc_profile == SRGB


@pytest.mark.parametrize(
    ("mode", "profile", "kept"),
    [
        ("RGB", SRGB, True),
        ("P", SRGB, True),
        ("RGBA", SRGB, True),
        ("L", GRAY_PROFILE, True),
        ("L", SRGB, False),
        ("RGB", GRAY_PROFILE, False),
        ("RGB", SRGB[:-1], False),
        ("RGB", b"no profile at all", False),
        ("RGB", SRGB[:36] + b"xxxx" + SRGB[40:], False),
    ],
)
def test_a_profile_that_does_not_fit_is_dropped(mode: str, profile: bytes, kept: bool) -> None:
    image = smooth().quantize(16) if mode == "P" else smooth().convert(mode)
    assert decoded(saved(image, "png", icc_profile=profile)).icc_profile == (profile if kept else None)


def test_a_profile_in_several_jpeg_segments() -> None:
    profile = bytearray(SRGB.ljust(150_000, b"\x55"))
    profile[:4] = struct.pack(">I", len(profile))
    data = saved(smooth(), "jpeg", icc_profile=bytes(profile))
    assert data.count(b"ICC_PROFILE\0") == 3
    assert decoded(data).icc_profile == bytes(profile)
    second = data.index(b"ICC_PROFILE\0", data.index(b"ICC_PROFILE\0") + 1)
    lost = data[: second + 12] + b"\x07" + data[second + 13 :]
    assert decoded(lost).icc_profile is None


def test_a_broken_png_profile_is_dropped() -> None:
    source = decoded(png(ihdr(1, 1), bytes(4), chunk(b"iCCP", b"name\0\0not deflated")))
    assert source.icc_profile is None


@pytest.mark.parametrize("fmt", ["png", "jpeg", "tiff", "bmp"])
def test_resolution(fmt: str) -> None:
    dpi = decoded(saved(smooth(), fmt, dpi=(300, 150))).dpi
    assert dpi is not None
    assert dpi == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "gif"])
def test_no_resolution(fmt: str) -> None:
    assert decoded(sample(fmt)).dpi is None


def test_tiff_resolution_in_centimetres() -> None:
    tags = [*tiff_tags(1, 1, (8,), 1, 1), (282, "r", (100,)), (283, "r", (50,)), (296, "H", (3,))]
    assert decoded(tiff(tags, b"\0")).dpi == (254.0, 127.0)


def read_back(exif: bytes | None) -> Image.Exif:
    assert exif is not None
    assert exif[:2] in (b"II", b"MM"), "no Exif prefix"
    read = Image.Exif()
    read.load(exif)
    return read


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "tiff"])
def test_exif_travels_without_place_thumbnail_and_orientation(fmt: str) -> None:
    exif = read_back(decoded(saved(smooth(), fmt, exif=exif_block(6, gps=True))).exif)
    assert exif[271] == "Maker"
    assert set(exif) == {271, 34665}
    assert exif.get_ifd(34665) == {33434: 0.5}


def test_exif_of_orientation_alone_is_none() -> None:
    exif = Image.Exif()
    exif[274] = 3
    assert decoded(saved(smooth(), "jpeg", exif=exif)).exif is None


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",  # orientation 99
        b"II+\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_broken_exif_is_not_fatal(block: bytes) -> None:
    source = decoded(saved(smooth(), "jpeg", exif=b"Exif\0\0" + block))
    assert source.exif is None
    assert (source.width, source.height) == (16, 16)


def test_random_exif_neither_warns_nor_fails() -> None:
    random_source = random.Random(7)
    good = exif_block(1, gps=True)
    for _ in range(300):
        block = bytearray(good)
        for _ in range(random_source.randint(1, 6)):
            block[random_source.randrange(6, len(block))] = random_source.randrange(256)
        decode(png(ihdr(1, 1), bytes(4), chunk(b"eXIf", bytes(block[6:]))), LIMITS)


# -- orientation -------------------------------------------------------------------------------------------------

TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""What makes a stored picture upright: 6, the telephone held upright, is a quarter turn clockwise."""


TURNED = [(fmt, mode) for fmt in ("png", "tiff") for mode in ("L", "RGB", "RGBA")]
TURNED += [("jpeg", "L"), ("jpeg", "RGB"), ("webp", "RGB"), ("webp", "RGBA")]


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("fmt", "mode"), TURNED)
def test_orientation(fmt: str, mode: str, orientation: int) -> None:
    pixels = pattern(5, 4, len(mode)) | 1
    options = {"lossless": True, "exact": True} if fmt == "webp" else {}
    plain = decoded(saved(Image.fromarray(pixels), fmt, **options))
    turned = decoded(saved(Image.fromarray(pixels), fmt, exif=exif_block(orientation), **options))
    np.testing.assert_array_equal(colour(turned), TURNS[orientation](colour(plain)))
    if plain.has_alpha:
        np.testing.assert_array_equal(alpha(turned), TURNS[orientation](alpha(plain)))
    assert 274 not in read_back(turned.exif)


def test_orientation_of_deep_gray() -> None:
    data = DEEP.astype("<u2").tobytes()
    source = decoded(tiff([*tiff_tags(6, 2, (16,), 1, len(data)), (274, "H", (6,))], data))
    np.testing.assert_array_equal(colour(source), TURNS[6](gray3(DEEP)))


# -- rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("top", "bottom"), [(-1, 2), (0, 8), (3, 3), (4, 2), (7, 8)])
def test_rows_checks_its_range(top: int, bottom: int) -> None:
    source = decode(sample("png"), LIMITS)
    assert source.height == 7
    with pytest.raises(ValueError, match="rows"):
        source.rows(top, bottom)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_rows_are_contiguous_bytes(mode: str) -> None:
    rows = decode(saved(smooth().convert(mode), "png"), LIMITS).rows(2, 5)
    assert rows.shape == (3, 16, 3)
    assert rows.dtype == np.uint8
    assert rows.flags.c_contiguous


# -- holes -------------------------------------------------------------------------------------------------------


def test_holes_take_the_colour_around_them() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :20] = (200, 100, 50, 255)
    pixels[:, 40:] = (10, 20, 220, 3)
    pixels[40:, :20] = 0
    source = decoded(saved(Image.fromarray(pixels), "png"))
    seen = pixels[:, :, 3] > 0
    np.testing.assert_array_equal(colour(source)[seen], pixels[:, :, :3][seen])
    np.testing.assert_array_equal(alpha(source), pixels[:, :, 3])
    np.testing.assert_allclose(colour(source)[:30, 20:24], np.full((30, 4, 3), (200, 100, 50)), atol=2)
    np.testing.assert_allclose(colour(source)[:30, 38:40], np.full((30, 2, 3), (10, 20, 220)), atol=4)
    assert not (colour(source) == 0).all(axis=2).any(), "black is left in the hole"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (17, 3), (2100, 1030)])
def test_holes_of_any_size(size: tuple[int, int]) -> None:
    """One visible pixel colours the picture, whatever the bands and the odd edges of the pyramid."""
    width, height = size
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[height // 2, width // 2] = (120, 60, 240, 255)
    source = decode(saved(Image.fromarray(pixels), "png", compress_level=1), LIMITS)
    difference = np.abs(colour(source).astype(np.int16) - (120, 60, 240))
    assert difference.max() <= 12, difference.max()


def test_holes_in_gray() -> None:
    levels, opaque = np.full((8, 8), 77, np.uint8), np.full((8, 8), 255, np.uint8)
    levels[2:5, 2:5] = opaque[2:5, 2:5] = 0
    image = Image.merge("LA", [Image.fromarray(levels), Image.fromarray(opaque)])
    assert (colour(decoded(saved(image, "png"))) == 77).all()


def test_a_picture_that_is_one_hole() -> None:
    source = decoded(saved(Image.new("RGBA", (5, 4), (9, 8, 7, 0)), "png"))
    assert (alpha(source) == 0).all()


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def _no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever touches Pillow's codecs fails the test."""

    def fail(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "__init__", fail)
    monkeypatch.setattr(Image.core, "new", fail)


@pytest.mark.usefixtures("_no_pixels")
@pytest.mark.parametrize("call", [inspect, decode])
@pytest.mark.parametrize("name", HUGE)
def test_too_many_pixels_is_told_from_the_header(name: str, call: Callable[[bytes, DecodeLimits], object]) -> None:
    tracemalloc.start()
    with pytest.raises(TooManyPixelsError) as caught:
        call(HUGE[name], LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.limit == LIMITS.max_pixels
    assert caught.value.actual is not None
    assert caught.value.actual > 200_000_000
    assert peak < 200_000, f"{peak} bytes for a header"


@pytest.mark.parametrize("fmt", FORMATS)
def test_limits_are_met_exactly(fmt: str) -> None:
    data = sample(fmt)  # 9 x 7
    assert decode(data, DecodeLimits(max_pixels=63, max_side=9)).width == 9
    for limits, limit, actual in ((DecodeLimits(max_pixels=62), 62, 63), (DecodeLimits(max_side=8), 8, 9)):
        with pytest.raises(TooManyPixelsError) as caught:
            decode(data, limits)
        assert (caught.value.limit, caught.value.actual) == (limit, actual)


@pytest.mark.parametrize("arguments", [{"max_pixels": 0}, {"max_side": 0}, {"max_pixels": 100_000_000}])
def test_impossible_limits(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="max_pixels"):
        DecodeLimits(**arguments)


def test_the_largest_picture_allowed_draws_no_warning() -> None:
    """Pillow warns from 89.5 million pixels on; this is the highest limit that can be set."""
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    data = png(ihdr(8192, limit // 8192, 1, 0), bytes(1025) * (limit // 8192))
    source = decode(data, DecodeLimits(max_pixels=limit))
    assert source.rows(source.height - 9, source.height).shape == (9, 8192, 3)


@pytest.mark.parametrize("fmt", FORMATS)
def test_one_pixel_and_one_row(fmt: str) -> None:
    for size in ((1, 1), (1, 40), (40, 1)):
        image = smooth(size)
        source = decoded(saved(image.quantize(8) if fmt == "gif" else image, fmt))
        assert (source.width, source.height) == size


def test_no_size_at_all() -> None:
    for data in (png(ihdr(0, 5), b""), gif(0, 0, gif_frame(0, 0)), tiff(tiff_tags(0, 1, (8,), 1, 1), b"\0")):
        with pytest.raises(CorruptImageError):
            inspect(data, LIMITS)


# -- bombs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(chunk(b"iCCP", b"profile\0\0" + BOMB), id="iCCP"),
        pytest.param(chunk(b"quIz") * 40_000, id="many chunks"),
    ],
)
@pytest.mark.usefixtures("_no_pixels")
def test_png_bombs(payload: bytes) -> None:
    data = png(ihdr(1, 1), bytes(4), payload)
    tracemalloc.start()
    with pytest.raises(TooComplexError):
        inspect(data, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000, f"a bomb of 64 MB took {peak}"


def test_ordinary_png_text_is_no_bomb() -> None:
    text = chunk(b"tEXt", b"a\0b") + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text " * 100_000)) + chunk(b"zTXt", b"")
    text += chunk(b"iTXt", b"a\0\0\0\0\0plain") + chunk(b"iTXt", b"broken") + chunk(b"zTXt", b"a\0\0damaged")
    assert decoded(png(ihdr(1, 1), bytes(4), text)).width == 1


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
    noise = b"\xff\xda" * 500
    assert decoded(saved(smooth(), "jpeg", comment=noise) + noise).width == 16, "no scans of this picture"


def test_jpeg_metadata_without_end() -> None:
    data = saved(smooth(), "jpeg")
    with pytest.raises(TooComplexError):
        inspect(data[:2] + b"\xff\xec\0\x02" * 5000 + data[2:], LIMITS)
    assert decoded(data[:2] + b"\xff" * 1_000_000 + data[2:]).width == 16, "fill bytes are legal"


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


def test_run_length_bmp_bomb() -> None:
    with pytest.raises(TooComplexError):
        inspect(bmp_rle8(7000, 7000, b"\0\0" * 7000), LIMITS)


def test_gif_extensions_without_end() -> None:
    with pytest.raises(TooComplexError):
        inspect(gif(1, 1, gif_frame(), before=b"!\xfe\0" * 20_000), LIMITS)
    with pytest.raises(TooComplexError):
        inspect(gif(1, 1, gif_frame(), before=b"!\xfe" + b"\x01x" * 20_000 + b"\0"), LIMITS)


def test_webp_chunks_without_end() -> None:
    data = saved(smooth(), "webp", lossless=True, icc_profile=SRGB)
    body = data[12:30] + b"JUNK\0\0\0\0" * 2000 + data[30:]
    with pytest.raises(TooComplexError):
        inspect(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body, LIMITS)


# -- several pictures in one file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "options"), [("png", {}), ("gif", {}), ("webp", {"lossless": True}), ("tiff", {}), ("mpo", {})]
)
def test_the_first_picture_counts(fmt: str, options: dict[str, object]) -> None:
    first, *others = frames()
    data = saved(first, fmt, save_all=True, append_images=others, **options)
    source = decoded(data)
    assert np.abs(colour(source).astype(int) - (255, 0, 0)).max() <= (2 if fmt == "mpo" else 0)
    assert source.format == ("jpeg" if fmt == "mpo" else fmt)


def test_apng_with_a_default_image_of_its_own() -> None:
    default, *others = frames()
    data = saved(default, "png", save_all=True, append_images=others, default_image=True)
    assert colour(decoded(data))[0, 0].tolist() == [255, 0, 0]


def test_an_invalid_apng_is_a_png() -> None:
    for control in (bytes(8), b"\xff" * 8, struct.pack(">II", 2, 0) * 2, b""):  # Pillow would warn or refuse
        assert decoded(png(ihdr(1, 1), bytes(4), chunk(b"acTL", control), chunk(b"acTL", control))).width == 1


def test_of_ten_thousand_frames_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[int] = []
    seek = GifImagePlugin.GifImageFile._seek

    def counted(self: GifImagePlugin.GifImageFile, frame: int, update_image: bool = True) -> None:
        sought.append(frame)
        seek(self, frame, update_image)

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_seek", counted)
    source = decoded(gif(1, 1, *[gif_frame()] * 10_000))
    assert sought == [0]
    assert colour(source).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("fmt", ["png", "webp"])
def test_later_frames_are_kept_from_the_codec(fmt: str) -> None:
    first, *others = (Image.fromarray(pattern(32, 32, seed=n)) for n in range(30))
    one = len(saved(first, fmt, lossless=True))
    all_of_them = saved(first, fmt, save_all=True, append_images=others, lossless=True)
    passed_on = sum(map(len, read_container(all_of_them, LIMITS).stream))
    assert len(all_of_them) > 20 * one
    assert passed_on < one + 300


def test_a_malformed_mpo_is_a_jpeg() -> None:
    """Pillow's factory would warn of this one."""
    first, *others = frames()
    data = saved(first, "mpo", save_all=True, append_images=others)
    at = data.index(b"MPF\0")
    assert decoded(data[: at + 8] + b"\xff" * 40 + data[at + 48 :]).width == 6


# -- foreign files -----------------------------------------------------------------------------------------------

FOREIGN = {
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
    "psd": b"8BPS\0\x01" + bytes(20),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "jpeg 2000": saved(smooth(), "jpeg2000"),
    "ico": saved(smooth(), "ico"),
    "ppm": saved(smooth(), "ppm"),
    "dib": saved(smooth(), "dib"),
    "zip": b"PK\x03\x04" + bytes(40),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "text": b"BMW builds motorcycles.",
    "one byte": b"\x89",
    "random": random.Random(1).randbytes(500),
}


@pytest.mark.usefixtures("_no_pixels")
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_formats(name: str) -> None:
    with pytest.raises(UnsupportedFormatError) as caught:
        decode(FOREIGN[name], LIMITS)
    for fmt in FORMATS:
        assert fmt.upper() in caught.value.detail


def test_nothing_at_all() -> None:
    for call in (inspect, decode):
        with pytest.raises(EmptyImageError):
            call(b"", LIMITS)


def test_a_signature_without_a_picture_is_corrupt() -> None:
    for data in (
        b"\x89PNG\r\n\x1a\n\0\0",
        b"\xff\xd8\xff\xe0",
        b"GIF89a\x01",
        b"II*\0",
        b"RIFF\0\0\0\0WEBP",
        b"BM\0\0",
    ):
        with pytest.raises(CorruptImageError):
            decode(data, LIMITS)


def test_varieties_that_are_not_supported_say_so() -> None:
    twelve_bits = saved(smooth(), "jpeg").replace(b"\x08\0\x10\0\x10\x03", b"\x0c\0\x10\0\x10\x03")
    lzma = [tag if tag[0] != 259 else (259, "H", (34925,)) for tag in tiff_tags(1, 1, (8,), 1, 1)]
    raw = [*tiff_tags(1, 1, (8,), 1, 1), (50706, "B", (1, 4, 0, 0))]
    thumbnail = [*tiff_tags(1, 1, (8,), 1, 1), (254, "I", (1,))]
    many_samples = tiff_tags(1, 1, (8,) * 40, 1, 40)
    for data in (twelve_bits, *(tiff(tags, b"\0") for tags in (lzma, raw, thumbnail, many_samples))):
        with pytest.raises(UnsupportedFormatError):
            inspect(data, LIMITS)


def test_the_content_counts_and_no_declared_type() -> None:
    assert decode(saved(smooth(), "webp"), LIMITS).format == "webp"


# -- damage ------------------------------------------------------------------------------------------------------


def blame_the_client(error: EnlargerError) -> None:
    assert 400 <= error.status < 500, f"{error.status} {error}"


@pytest.mark.parametrize("name", SMALL_FILES)
def test_truncated_at_every_byte(name: str) -> None:
    """Refused, or, where only bytes after the last pixel are missing, the very same picture."""
    data = SMALL_FILES[name]
    whole = colour(decode(data, LIMITS))
    for length in range(len(data)):
        try:
            source = decode(data[:length], LIMITS)
        except EnlargerError as error:
            blame_the_client(error)
        else:
            upright = colour(source)
            if upright.shape != whole.shape:  # the orientation was behind the pixels and is lost
                upright = TURNS[6](upright)
            np.testing.assert_array_equal(upright, whole, err_msg=f"{name} cut to {length} of {len(data)} bytes")


@pytest.mark.parametrize("name", SMALL_FILES)
def test_flipped_bits(name: str) -> None:
    """2,000 files in all, each with one to three flipped bits, half of them near the beginning where headers are."""
    random_source = random.Random(name)
    limits = DecodeLimits(max_pixels=100_000)
    for _ in range(-(-2000 // len(SMALL_FILES))):
        data = bytearray(SMALL_FILES[name])
        reach = len(data) if random_source.random() < 0.5 else min(len(data), 100)
        for _ in range(random_source.randint(1, 3)):
            data[random_source.randrange(reach)] ^= 1 << random_source.randrange(8)
        try:
            colour(decode(bytes(data), limits))
        except EnlargerError as error:
            blame_the_client(error)


def test_a_flipped_bit_in_png_pixels_is_seen() -> None:
    """Stored, not deflated, pixels: any change inflates without complaint, and only the checksum tells."""
    raw = zlib.compress(b"\0" + bytes(30), 0)
    data = b"\x89PNG\r\n\x1a\n" + ihdr(10, 1) + chunk(b"IDAT", raw) + chunk(b"IEND")
    at = data.index(b"IDAT") + 20
    with pytest.raises(CorruptImageError, match="checksum"):
        decode(data[:at] + b"\x01" + data[at + 1 :], LIMITS)


@pytest.mark.parametrize(
    "failure",
    [
        *(OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, IndexError, KeyError, OverflowError),
        *(Image.DecompressionBombError, RuntimeWarning, RecursionError),
    ],
)
def test_whatever_a_codec_raises_is_a_corrupt_image(failure: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise failure("codec's words")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(CorruptImageError) as caught:
        decode(sample("png"), LIMITS)
    assert "codec's words" not in caught.value.detail


def test_a_codec_out_of_memory_is_too_complex(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", fail)
    with pytest.raises(TooComplexError):
        decode(sample("tiff"), LIMITS)


def test_a_codec_that_sees_another_size_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Larger(JpegImagePlugin.JpegImageFile):
        def _open(self) -> None:
            super()._open()
            self._size = (9999, 9999)

    monkeypatch.setitem(decoder._PLUGINS, "jpeg", Larger)  # type: ignore[misc]
    with pytest.raises(CorruptImageError, match="another size"):
        decode(sample("jpeg"), LIMITS)


def test_pillow_is_left_as_it_was() -> None:
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


# -- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_compressed_bytes_are_not_kept(fmt: str) -> None:
    data = saved(
        Image.fromarray(pattern(200, 200)).quantize(64) if fmt == "gif" else Image.fromarray(pattern(200, 200)), fmt
    )
    tracemalloc.start()
    source = decode(data, LIMITS)
    kept = tracemalloc.get_traced_memory()[0] - source.rows(0, 200).nbytes
    tracemalloc.stop()
    assert kept < 20_000, f"{kept} bytes are kept of {len(data)}"
