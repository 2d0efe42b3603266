"""Every encoder against an independent reader: Pillow, or zlib by hand where a file is not finished yet."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from app.errors import InvalidParameterError, OutputFormatError, OutputTooLargeError
from app.images.encoders import FORMATS, Encoder, Options, Picture, create_encoder
from app.images.encoders.jpeg import BAND_ROWS, MAX_EXIF, MAX_ICC, JpegEncoder
from app.images.encoders.png import COLOUR_TYPES, SLICE_BYTES, PngEncoder, adler32_combine
from harness import ROOT

JPEG_KINDS = [(3, "4:2:0"), (3, "4:4:4"), (1, "4:2:0"), (1, "4:4:4")]
EXIF = Image.Exif()
EXIF[0x010E] = "a description"
EXIF_TIFF = EXIF.tobytes().removeprefix(b"Exif\0\0")


def photo(height: int, width: int, channels: int) -> np.ndarray:
    """Waves with noise, uint8 ``[height, width, channels]``, from black to white."""
    y, x, c = np.ogrid[:height, :width, :channels]
    noise = np.random.default_rng(height * width).normal(0, 0.05, (height, width, channels))
    return ((np.sin(x / 17 + c) + np.cos(y / 23 - c) + noise) * 64 + 128).clip(0, 255).astype(np.uint8)


def picture_of(pixels: np.ndarray) -> Picture:
    height, width, channels = pixels.shape
    return Picture(width, height, channels)


def bands(pixels: np.ndarray, cuts: list[int]) -> Iterator[np.ndarray]:
    """The picture cut at the given heights; a height given twice makes an empty band."""
    for top, bottom in pairwise([0, *sorted(cuts), len(pixels)]):
        yield pixels[top:bottom]


def encode(encoder: Encoder, pixels: np.ndarray, cuts: list[int]) -> bytes:
    return b"".join([encoder.begin(), *(encoder.write(band) for band in bands(pixels, cuts)), encoder.finish()])


def decode(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.atleast_3d(np.asarray(image))


def random_cuts(height: int, count: int) -> list[int]:
    return [int(cut) for cut in np.random.default_rng(height).integers(0, height + 1, count)]


# -- PNG ---------------------------------------------------------------------------------------------------------


def chunks_of(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and data of each chunk, the CRCs checked with zlib; ``file`` may end behind any chunk."""
    offset = 8
    while offset < len(file):
        length, name = struct.unpack_from(">I4s", file, offset)
        data = file[offset + 8 : offset + 8 + length]
        (crc,) = struct.unpack_from(">I", file, offset + 8 + length)
        assert crc == zlib.crc32(name + data), f"CRC of {name!r} at {offset}"
        yield name, data
        offset += 12 + length


def readable_rows(file: bytes, picture: Picture) -> np.ndarray:
    """The rows that a reader can show of a PNG that has only begun, uint8 ``[rows, width, channels]``."""
    raw = zlib.decompressobj().decompress(b"".join(data for name, data in chunks_of(file) if name == b"IDAT"))
    row_bytes = picture.width * picture.channels
    complete = len(raw) // (1 + row_bytes)
    filtered = np.frombuffer(raw, np.uint8, complete * (1 + row_bytes)).reshape(complete, 1 + row_bytes)
    assert (filtered[:, 0] == 2).all(), "a filter other than up, which this reader does not know"
    return np.cumsum(filtered[:, 1:], axis=0, dtype=np.uint8).reshape(complete, picture.width, picture.channels)


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(st.data())
def test_png_keeps_every_pixel_of_any_size_in_any_bands(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    channels = data.draw(st.sampled_from([1, 2, 3, 4]))
    cuts = data.draw(st.lists(st.integers(0, height), max_size=6))
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode(PngEncoder(picture_of(pixels)), pixels, cuts)), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (700, 2000), (3, 400_000)])
def test_png_keeps_every_pixel_across_slices(height, width, channels):
    pixels = photo(height, width, channels)
    file = encode(PngEncoder(picture_of(pixels)), pixels, random_cuts(height, 2))
    np.testing.assert_array_equal(decode(file), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_can_be_read_up_to_the_last_row_written(channels):
    pixels = photo(331, 257, channels)
    picture = picture_of(pixels)
    encoder = PngEncoder(picture)
    file, written = encoder.begin(), 0
    for band in bands(pixels, [0, 1, 2, 40, 40, 300]):
        file += encoder.write(band)
        written += len(band)
        np.testing.assert_array_equal(readable_rows(file, picture), pixels[:written])


def test_png_has_its_chunks_in_order_and_one_whole_zlib_stream():
    pixels = photo(50, 60, 3)
    picture = Picture(60, 50, 3, icc_profile=b"profile", exif=EXIF_TIFF, dpi=(300, 150))
    chunks = list(chunks_of(encode(PngEncoder(picture), pixels, [20])))
    names = [name for name, _ in chunks if name != b"IDAT"]
    assert names == [b"IHDR", b"iCCP", b"pHYs", b"eXIf", b"IEND"]
    assert {name for name, _ in chunks[4:-1]} == {b"IDAT"}, "IDAT chunks must stand together"
    stream = zlib.decompressobj()
    stream.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
    assert (stream.eof, stream.unused_data) == (True, b""), "the stream must end, checksum and all, where IDAT ends"


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_png_has_the_colour_type_of_its_channels(channels, mode):
    pixels = photo(2, 3, channels)
    with Image.open(io.BytesIO(encode(PngEncoder(picture_of(pixels)), pixels, []))) as image:
        assert (image.mode, image.size) == (mode, (3, 2))


def test_png_is_the_same_from_two_threads():
    pixels = photo(1500, 1000, 3)
    assert pixels.nbytes > 4 * SLICE_BYTES
    one = encode(PngEncoder(picture_of(pixels)), pixels, [700])
    with ThreadPoolExecutor(2) as pool:
        two = encode(PngEncoder(picture_of(pixels), map_slices=pool.map), pixels, [700])
    assert one == two


def test_png_does_not_look_at_a_band_it_was_given_before():
    pixels = photo(20, 30, 3)
    encoder = PngEncoder(picture_of(pixels))
    band = pixels[:10].copy()
    file = encoder.begin() + encoder.write(band)
    band[:] = 0  # the stitcher fills the same buffer again
    file += encoder.write(pixels[10:]) + encoder.finish()
    np.testing.assert_array_equal(decode(file), pixels)


def test_png_size_is_near_that_of_pillow():
    pixels = photo(400, 600, 3)
    pillow = io.BytesIO()
    Image.fromarray(pixels).save(pillow, "PNG")
    ratio = len(encode(PngEncoder(picture_of(pixels)), pixels, [])) / len(pillow.getvalue())
    assert ratio < 1.3, f"{ratio:.2f} times Pillow's file"


def test_png_of_noise_is_hardly_larger_than_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1000, 3), dtype=np.uint8)
    assert len(encode(PngEncoder(picture_of(pixels)), pixels, [])) < 1.01 * pixels.nbytes


@pytest.mark.parametrize("sizes", [(0, 0), (0, 9), (9, 0), (65521, 65521), (70_000, 5_000_000)])
def test_adler32_of_two_strings_joined(sizes):
    first, second = (np.random.default_rng(size).bytes(size) for size in sizes)
    combined = adler32_combine(zlib.adler32(first), zlib.adler32(second), len(second))
    assert combined == zlib.adler32(first + second)


# -- JPEG --------------------------------------------------------------------------------------------------------


def pillow_jpeg(pixels: np.ndarray, quality: int, subsampling: str, restart_rows: int = 0) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    image.save(file, "JPEG", quality=quality, subsampling=subsampling, restart_marker_rows=restart_rows)
    return file.getvalue()


@pytest.mark.parametrize(("channels", "subsampling"), JPEG_KINDS)
@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 300), (300, 1), (17, 9), (BAND_ROWS, 33), (BAND_ROWS + 1, 50), (3 * BAND_ROWS - 1, 71), (531, 130)],
)
def test_jpeg_equals_pillow_encoding_the_whole_picture(height, width, channels, subsampling):
    pixels = photo(height, width, channels)
    file = encode(JpegEncoder(picture_of(pixels), 90, subsampling), pixels, random_cuts(height, 4))
    assert file == pillow_jpeg(pixels, 90, subsampling, restart_rows=1)
    np.testing.assert_array_equal(decode(file), decode(pillow_jpeg(pixels, 90, subsampling)))


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_jpeg_has_the_quality_asked_for(quality):
    pixels = photo(200, 100, 3)
    file = encode(JpegEncoder(picture_of(pixels), quality), pixels, [])
    np.testing.assert_array_equal(decode(file), decode(pillow_jpeg(pixels, quality, "4:2:0")))


def test_jpeg_gathers_single_rows_into_bands():
    pixels = photo(2 * BAND_ROWS + 3, 40, 3)
    expected = pillow_jpeg(pixels, 90, "4:2:0", restart_rows=1)
    assert encode(JpegEncoder(picture_of(pixels)), pixels, list(range(1, len(pixels)))) == expected


def test_jpeg_does_not_look_at_a_band_it_was_given_before():
    pixels = photo(20, 30, 3)
    encoder = JpegEncoder(picture_of(pixels))
    band = pixels[:10].copy()
    file = encoder.begin() + encoder.write(band)
    band[:] = 0
    file += encoder.write(pixels[10:]) + encoder.finish()
    np.testing.assert_array_equal(decode(file), decode(pillow_jpeg(pixels, 90, "4:2:0")))


def test_jpeg_sends_a_band_as_soon_as_it_is_full():
    pixels = photo(2 * BAND_ROWS, 500, 3)
    encoder = JpegEncoder(picture_of(pixels))
    encoder.begin()
    assert encoder.write(pixels[: BAND_ROWS - 1]) == b""
    assert len(encoder.write(pixels[BAND_ROWS - 1 : BAND_ROWS])) > 1000


# -- WebP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (37, 52)])
def test_lossless_webp_keeps_every_pixel(height, width, channels, mode):
    pixels = photo(height, width, channels)
    if channels in (2, 4):
        pixels[: height // 2 + 1, :, -1] = 0  # the colour under transparent pixels is kept too
    image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
    assert image.mode == mode
    expected = np.asarray(image.convert("RGBA" if channels in (2, 4) else "RGB"))
    file = encode(create_encoder("webp", picture_of(pixels), Options(lossless=True)), pixels, random_cuts(height, 3))
    np.testing.assert_array_equal(decode(file), expected)


@pytest.mark.parametrize("quality", [10, 90])
def test_lossy_webp_equals_pillow_encoding_the_whole_picture(quality):
    pixels = photo(90, 61, 3)
    expected = io.BytesIO()
    Image.fromarray(pixels).save(expected, "WEBP", quality=quality)
    assert encode(create_encoder("webp", picture_of(pixels), Options(quality)), pixels, [40]) == expected.getvalue()


# -- what travels beside the pixels ------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", FORMATS)
def test_profile_exif_and_resolution_come_back(format_name):
    pixels = photo(20, 30, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Picture(30, 20, 3, profile, EXIF_TIFF, (300.0, 150.0))
    with Image.open(io.BytesIO(encode(create_encoder(format_name, picture), pixels, [7]))) as image:
        assert image.info["icc_profile"] == profile
        assert image.getexif()[0x010E] == "a description"
        if format_name not in ("webp", "avif"):  # which have no place for it but Exif
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)  # PNG counts whole dots a metre


@pytest.mark.parametrize("format_name", FORMATS)
def test_nothing_travels_that_was_not_given(format_name):
    pixels = photo(20, 30, 3)
    with Image.open(io.BytesIO(encode(create_encoder(format_name, picture_of(pixels)), pixels, []))) as image:
        told = set(image.info) - ({"dpi"} if format_name == "tiff" else set())  # Pillow reads 1 where TIFF says nothing
        assert not {"icc_profile", "exif", "dpi"} & told


def test_jpeg_parts_a_profile_larger_than_a_segment():
    pixels = photo(20, 30, 3)
    profile = np.random.default_rng(0).bytes(200_000)
    with Image.open(io.BytesIO(encode(JpegEncoder(Picture(30, 20, 3, profile)), pixels, []))) as image:
        assert image.info["icc_profile"] == profile
        image.load()


@pytest.mark.parametrize("format_name", ["png", "jpeg"])
@pytest.mark.parametrize("dpi", [(0, 0), (300, -1), (float("nan"), 300), (300, float("inf")), (1e12, 1e12)])
def test_an_impossible_resolution_is_left_out(format_name, dpi):
    pixels = photo(2, 2, 3)
    with Image.open(io.BytesIO(encode(create_encoder(format_name, Picture(2, 2, 3, dpi=dpi)), pixels, []))) as image:
        assert "dpi" not in image.info


# -- the list of formats and the limits --------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_format_is_what_it_says(format_name):
    pixels = photo(9, 8, 3)
    encoder = create_encoder(format_name, picture_of(pixels), Options(80))
    with Image.open(io.BytesIO(encode(encoder, pixels, []))) as image:
        assert image.format == format_name.upper()
        assert image.get_format_mimetype() == FORMATS[format_name].media_type
    assert Image.registered_extensions()[FORMATS[format_name].extension] == format_name.upper()


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_format_takes_alpha_if_it_says_so(format_name):
    if FORMATS[format_name].alpha:
        pixels = photo(9, 8, 4)
        assert decode(encode(create_encoder(format_name, picture_of(pixels)), pixels, [])).shape == (9, 8, 4)
    else:
        for channels in (2, 4):
            with pytest.raises(InvalidParameterError):
                create_encoder(format_name, Picture(8, 9, channels))


def test_quality_reaches_the_encoder():
    pixels = photo(90, 61, 3)
    for format_name in (name for name, kind in FORMATS.items() if kind.quality):
        sizes = [
            len(encode(create_encoder(format_name, picture_of(pixels), Options(q)), pixels, []))
            for q in (20, None, 100)
        ]
        assert sizes == sorted(set(sizes)), format_name


def test_an_unknown_format_is_answered_with_the_known_ones():
    with pytest.raises(OutputFormatError, match="png, jpeg, webp"):
        create_encoder("gif", Picture(1, 1, 3))


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(("quality", "limit"), [(0, 1), (-5, 1), (101, 100)])
def test_quality_out_of_range(format_name, quality, limit):
    with pytest.raises(InvalidParameterError) as caught:
        create_encoder(format_name, Picture(1, 1, 3), Options(quality))
    assert (caught.value.limit, caught.value.actual) == (limit, quality)


def cases_of_size() -> Iterator[tuple[str, tuple[int, int], tuple[int, int], int, int]]:
    """Of each format that has such limits: what just fits, what does not, the limit, and what is beyond it."""
    for name, kind in FORMATS.items():
        if side := kind.max_side:
            yield name, (side, 1), (side + 1, 1), side, side + 1
            yield name, (1, side), (1, side + 1), side, side + 1
        if pixels := kind.max_pixels:
            yield name, (4096, pixels // 4096), (4096, pixels // 4096 + 1), pixels, pixels + 4096


@pytest.mark.parametrize(("format_name", "fits", "too_large", "limit", "actual"), list(cases_of_size()))
def test_a_picture_too_large_is_refused_before_any_row(format_name, fits, too_large, limit, actual):
    create_encoder(format_name, Picture(*fits, 3))
    with pytest.raises(OutputTooLargeError) as caught:
        create_encoder(format_name, Picture(*too_large, 3))
    assert (caught.value.limit, caught.value.actual) == (limit, actual)


@pytest.mark.parametrize(("block", "limit"), [("exif", MAX_EXIF), ("icc_profile", MAX_ICC)])
def test_jpeg_metadata_at_and_beyond_the_limit(block, limit):
    pixels = photo(2, 2, 3)
    with Image.open(io.BytesIO(encode(JpegEncoder(Picture(2, 2, 3, **{block: bytes(limit)})), pixels, []))) as image:
        assert len(image.info[block].removeprefix(b"Exif\0\0")) == limit
    with pytest.raises(OutputTooLargeError) as caught:
        JpegEncoder(Picture(2, 2, 3, **{block: bytes(limit + 1)}))
    assert (caught.value.limit, caught.value.actual) == (limit, limit + 1)


@pytest.mark.parametrize("format_name", FORMATS)
def test_making_an_encoder_costs_nothing(format_name):
    kind = FORMATS[format_name]
    side = kind.max_side or 10_000
    height = min(side, (kind.max_pixels or side**2) // side)
    picture = Picture(side, height, 4 if kind.alpha else 3)
    create_encoder(format_name, Picture(1, 1, 3))  # whatever is imported
    tracemalloc.start()
    create_encoder(format_name, picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    table = 100_000 if format_name == "tiff" else 0  # of its strips
    assert peak < 10_000 + table, f"{peak} bytes"


# -- faults in our own code --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 7, 3), np.uint8),  # width
        np.zeros((2, 8, 4), np.uint8),  # channels
        np.zeros((2, 24), np.uint8),  # dimensions
        np.zeros((2, 8, 3), np.float32),  # dtype
        np.zeros((11, 8, 3), np.uint8),  # more rows than the picture has
    ],
    ids=["width", "channels", "dimensions", "dtype", "height"],
)
def test_a_band_of_another_picture(format_name, rows):
    encoder = create_encoder(format_name, Picture(8, 10, 3))
    encoder.begin()
    with pytest.raises(ValueError, match=r"a band must be|rows given"):
        encoder.write(rows)


@pytest.mark.parametrize("format_name", FORMATS)
def test_rows_too_many_or_too_few(format_name):
    encoder = create_encoder(format_name, Picture(8, 10, 3))
    encoder.begin()
    encoder.write(np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="2 rows given where 1 are missing"):
        encoder.write(np.zeros((2, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="1 rows too early"):
        encoder.finish()


@pytest.mark.parametrize("size", [(0, 1, 3), (1, 0, 3), (1, 1, 0), (1, 1, 5)])
def test_no_such_picture(size):
    with pytest.raises(ValueError, match="no such image"):
        Picture(*size)


def test_every_number_of_channels_has_a_colour_type():
    assert set(COLOUR_TYPES) == {1, 2, 3, 4}


# -- memory ------------------------------------------------------------------------------------------------------

MEASURE = """
import re, sys
import numpy as np
from app.images.encoders import Picture, create_encoder

def status(name):  # in bytes; VmHWM, unlike ru_maxrss, is not inherited from the parent process
    return 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def encode(height, band):
    encoder = create_encoder(sys.argv[1], Picture(4096, height, 3))
    encoder.begin()
    for _ in range(height // len(band)):
        encoder.write(band)
    encoder.finish()

y, x, c = np.ogrid[:1024, :4096, :3]
band = (x // 16 + y // 8 + 9 * c + np.random.default_rng(0).integers(0, 6, (1024, 4096, 3), np.uint8)).astype(np.uint8)
encode(32, band[:32])  # imports
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew from here, Linux proc(5)
before = status("VmRSS")
encode(16 * 1024, band)  # 201 MB of rows
print((status("VmHWM") - before) / band.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("format_name", ["png", "jpeg"])
def test_memory_does_not_grow_with_the_picture(format_name):
    command = [sys.executable, "-c", MEASURE, format_name]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 2.5, f"{run.stdout.strip()} bands of memory for 16 bands of rows"
