"""The decoder: exact pixels for every kind of file, every limit, and no way for a hostile file to be our fault."""

import io
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from app.errors import (
    CorruptImageError,
    EmptyImageError,
    EnlargerError,
    TooComplexError,
    TooManyPixelsError,
    UnsupportedFormatError,
)
from app.images import decoder
from app.images.decoder import DecodeLimits, decode, inspect
from app.images.formats import read_container
from harness.files import (
    HUGE,
    SMALL_FILES,
    chunk,
    frames,
    gif,
    gif_frame,
    ihdr,
    png,
    saved,
    smooth,
    tiff,
    tiff_tags,
)
from tests.support.decoding import FORMATS, LIMITS, TURNS, alpha, colour, decoded, gray3, pattern, sample

# -- pixels, by mode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["png", "webp", "bmp", "tiff"])
def test_rgb_is_exact(fmt: str) -> None:
    pixels = pattern(7, 5)
    source = decoded(saved(Image.fromarray(pixels), fmt, **({"lossless": True} if fmt == "webp" else {})))
    np.testing.assert_array_equal(colour(source), pixels)
    assert (source.format, source.gray, source.has_alpha) == (fmt, False, False)


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


# -- limits ------------------------------------------------------------------------------------------------------


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

    monkeypatch.setitem(decoder.INPUTS, "jpeg", replace(decoder.INPUTS["jpeg"], plugin=Larger))
    with pytest.raises(CorruptImageError, match="different size"):
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
