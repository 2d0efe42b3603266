"""Files that libpng, libjpeg and the browsers show: what only metadata spoils is decoded without that metadata."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from app.errors import CorruptImageError, EnlargerError, TooComplexError, TooManyPixelsError, UnsupportedFormatError
from app.images.decoder import DecodeLimits, SourceImage, decode, inspect
from tests.support.profiles import P3, rgb_profile

Pixels = NDArray[np.generic]
LIMITS = DecodeLimits()
PROFILE = rgb_profile(P3, 1.0)


def picture(height: int = 24, width: int = 31, channels: int = 3) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels


def smooth(height: int = 61, width: int = 83) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    channels = (128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 7), 255 * (x + y) / (height + width))
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def opened(data: bytes) -> SourceImage:
    """Decoded, and seen the same by its header alone."""
    header, source = inspect(data, LIMITS), decode(data, LIMITS)
    assert (header.width, header.height) == (source.width, source.height)
    assert (header.has_alpha, header.gray) == (source.has_alpha, source.gray)
    return source


def colour(source: SourceImage) -> Pixels:
    return source.rows(0, source.height)


def alpha(source: SourceImage) -> Pixels | None:
    return source.alpha_rows(0, source.height)[:, :, 0] if source.has_alpha else None


# -- PNG ---------------------------------------------------------------------------------------------------------


def chunk(name: bytes, payload: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload) ^ damage)


def png(
    pixels: Pixels, before: bytes = b"", after: bytes = b"", bits: int = 8, colour_type: int | None = None
) -> bytes:
    """Of 8 or 16 bits, or packed samples of fewer; ``before`` and ``after`` stand around the pixels."""
    kind = {2: 0, 3: 2}[pixels.ndim] if colour_type is None else colour_type
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, kind, 0, 0, 0)
    rows = pixels.astype(">u2") if bits == 16 else pixels
    if bits < 8:
        unpacked = np.unpackbits(pixels[:, :, None].astype(np.uint8), axis=2)[:, :, 8 - bits :]
        rows = np.packbits(unpacked.reshape(len(pixels), -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    whole = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(raw)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


ANCILLARY = {
    b"pHYs": struct.pack(">IIB", 3000, 3000, 1),
    b"gAMA": struct.pack(">I", 100_000),
    b"cHRM": struct.pack(">8I", *(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    b"sRGB": b"\0",
    b"iCCP": b"x\0\0" + zlib.compress(PROFILE),
    b"cICP": bytes((12, 13, 0, 1)),
    b"tRNS": struct.pack(">HHH", 1, 2, 3),
    b"eXIf": struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, 6, 0, 0),
    b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0<x/>",
    b"zTXt": b"Comment\0\0" + zlib.compress(b"hello"),
    b"tEXt": b"Comment\0hello",
    b"tIME": bytes((7, 234, 1, 1, 0, 0, 0)),
    b"bKGD": bytes(6),
    b"sBIT": b"\5\6\5",
    b"hIST": bytes(4),
    b"sPLT": b"name\0\x08" + bytes(6),
    b"acTL": bytes(8),
    b"mDCV": bytes(24),
    b"cLLI": bytes(8),
    b"abCd": b"whatever",
}


@pytest.mark.parametrize("name", ANCILLARY, ids=bytes.decode)
@pytest.mark.parametrize("kind", ["checksum", "empty", "a byte short", "a byte long", "noise"])
def test_a_damaged_ancillary_png_chunk_is_as_good_as_none(name: bytes, kind: str) -> None:
    payload, pixels = ANCILLARY[name].replace(b"\1\0\0\0\6\0", b"\1\0\0\0\1\0"), picture()  # Exif that turns nothing
    noise = np.random.default_rng(len(payload)).bytes(len(payload) + 3)
    damaged = {
        "checksum": chunk(name, payload, damage=0x8000),
        "empty": chunk(name, b""),
        "a byte short": chunk(name, payload[:-1]),
        "a byte long": chunk(name, payload + b"\0"),
        "noise": chunk(name, noise),
    }
    source = opened(png(pixels, before=damaged[kind]))
    np.testing.assert_array_equal(colour(source), pixels)
    assert not source.has_alpha
    # zlib knows its end by itself, and a missing byte is only its checksum's.
    assert source.icc_profile is None or (name == b"iCCP" and kind in ("a byte short", "a byte long"))
    assert source.dpi is None


@pytest.mark.parametrize("name", ANCILLARY, ids=bytes.decode)
def test_a_png_chunk_out_of_place_changes_nothing_that_is_shown(name: bytes) -> None:
    source, pixels = opened(png(picture(), after=chunk(name, ANCILLARY[name]))), picture()
    np.testing.assert_array_equal(colour(source), pixels)
    assert (source.icc_profile, source.has_alpha) == (None, False)


@pytest.mark.parametrize("name", [b"tEXt", b"iTXt", b"abCd"], ids=bytes.decode)
def test_what_is_cut_short_after_the_pixels_is_not_missed(name: bytes) -> None:
    whole = png(picture())[:-12]
    for rest in (
        struct.pack(">I4s", 900, name) + b"abc",
        struct.pack(">I4s", 2**31, name),
        b"\0\0\1",
        b"\0\0\0\4\1\2\3\4ab12",
    ):
        np.testing.assert_array_equal(colour(opened(whole + rest)), picture())


def test_an_intact_chunk_counts_after_a_damaged_one_of_its_kind() -> None:
    first, second = chunk(b"pHYs", ANCILLARY[b"pHYs"], damage=1), chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))
    assert opened(png(picture(), first + second)).dpi == pytest.approx((300, 300), rel=1e-3)
    third = chunk(b"pHYs", struct.pack(">IIB", 2000, 2000, 1))
    assert opened(png(picture(), second + third)).dpi == pytest.approx((300, 300), rel=1e-3)


def test_exif_after_the_pixels_turns_nothing() -> None:
    """A browser has shown the picture by then (Chromium 156)."""
    exif = chunk(b"eXIf", ANCILLARY[b"eXIf"])
    assert (opened(png(picture(), after=exif)).width, opened(png(picture(), before=exif)).width) == (31, 24)


@pytest.mark.parametrize(("bits", "high"), [(1, 0xFFFE), (2, 0x0104), (4, 0x7F30), (8, 0x6400), (8, 0xFF00)])
def test_of_a_gray_key_the_lower_bits_count(bits: int, high: int) -> None:
    levels = (np.arange(16).reshape(2, 8) % (1 << bits)).astype(np.uint8)
    key = 1
    plain, odd = (opened(png(levels, chunk(b"tRNS", struct.pack(">H", key | more)), bits=bits)) for more in (0, high))
    expected = np.where(levels == key, 0, 255)
    np.testing.assert_array_equal(alpha(plain), expected)
    np.testing.assert_array_equal(alpha(odd), expected)


@pytest.mark.parametrize("high", [0x0100, 0x4300, 0xFF00])
def test_of_a_colour_key_the_lower_bits_count(high: int) -> None:
    pixels = picture()
    key = pixels[3, 4].astype(np.uint16)
    source = opened(png(pixels, chunk(b"tRNS", struct.pack(">HHH", *(key | high)))))
    np.testing.assert_array_equal(alpha(source), np.where((pixels == key).all(axis=2), 0, 255))


def test_a_key_of_16_bits_counts_whole() -> None:
    levels = np.array([[0x6464, 0x0064, 0x6400]], np.uint16)
    source = opened(png(levels, chunk(b"tRNS", struct.pack(">H", 0x6464)), bits=16))
    np.testing.assert_array_equal(alpha(source), [[0, 65535, 65535]])


PALETTE = bytes(range(24))


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        (chunk(b"PLTE", PALETTE) + chunk(b"tRNS", b"\0\x80"), [0, 128, 255, 255, 255, 255, 255, 255]),
        (chunk(b"PLTE", PALETTE) + chunk(b"tRNS", bytes(8)), [0] * 8),
        (chunk(b"PLTE", PALETTE) + chunk(b"tRNS", bytes(9)), None),
        (chunk(b"PLTE", PALETTE) + chunk(b"tRNS", bytes(21)), None),
        (chunk(b"PLTE", PALETTE) + chunk(b"tRNS", bytes(300)), None),
        (chunk(b"PLTE", PALETTE) + chunk(b"tRNS", b""), None),
        (chunk(b"PLTE", PALETTE) + chunk(b"tRNS", bytes(8), damage=1), None),
        (chunk(b"tRNS", bytes(8)) + chunk(b"PLTE", PALETTE), None),
    ],
)
def test_alpha_of_a_palette_counts_as_libpng_counts_it(before: bytes, shown: list[int] | None) -> None:
    indices = np.arange(8, dtype=np.uint8)[None]
    source = opened(png(indices, before, colour_type=3))
    assert source.has_alpha == (shown is not None)
    if shown is not None:
        np.testing.assert_array_equal(alpha(source), [shown])
    else:
        np.testing.assert_array_equal(colour(source)[0], np.frombuffer(PALETTE, np.uint8).reshape(8, 3))


def test_a_palette_is_checked_where_it_is_needed_alone() -> None:
    damaged = chunk(b"PLTE", PALETTE, damage=1)
    np.testing.assert_array_equal(colour(opened(png(picture(), damaged))), picture())
    with pytest.raises(CorruptImageError, match="PLTE"):
        decode(png(np.zeros((1, 8), np.uint8), damaged, colour_type=3), LIMITS)


# -- JPEG --------------------------------------------------------------------------------------------------------

JPEGS = {
    "baseline": {"quality": 90},
    "finest": {"quality": 100, "subsampling": 0},
    "coarse": {"quality": 20},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 4},
    "optimised": {"optimize": True},
}


def jpeg(name: str, mode: str = "RGB") -> bytes:
    return saved(smooth().convert(mode), "JPEG", **JPEGS[name])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_lacks_its_end_alone_is_whole(name: str, mode: str) -> None:
    whole = jpeg(name, mode)
    expected = colour(opened(whole))
    for data in (
        whole[:-1],
        whole[:-2],
        whole[:-2] + bytes(700),
        whole[:-2] + b"\xff\xff\xff",
        whole[:-2] + b"\x55" * 9,
    ):
        np.testing.assert_array_equal(colour(opened(data)), expected)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_lacks_pixels_is_not(name: str, mode: str) -> None:
    whole = jpeg(name, mode)
    scan = whole.index(b"\xff\xda") + 14
    for cut in (3, 4, 5, 9, 33, 150, (len(whole) - scan) // 2, len(whole) - scan):
        with pytest.raises(CorruptImageError):
            decode(whole[:-cut], LIMITS)


def test_a_progressive_jpeg_that_ends_between_two_scans_lacks_pixels() -> None:
    whole = jpeg("progressive")
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    tables = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xc4"]
    assert len(scans) > 4
    for scan in scans[1:]:
        start = max((at for at in tables if scans[0] < at < scan), default=scan)
        with pytest.raises(CorruptImageError):
            decode(whole[: min(start, scan)], LIMITS)


@pytest.mark.parametrize("rest", [b"garbage", bytes(5000), b"\xff" * 40, b"\xff\xd8\xff\xe0\0\x10", b"<html>"])
def test_what_comes_after_the_end_of_a_jpeg_is_not_read(rest: bytes) -> None:
    np.testing.assert_array_equal(colour(opened(jpeg("baseline") + rest)), colour(opened(jpeg("baseline"))))


def segment(marker: int, payload: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2 if length is None else length) + payload


HARMLESS = {
    "JFIF cut short": segment(0xE0, b"JFIF\0\1"),
    "JFIF of nothing but its name": segment(0xE0, b"JFIF\0"),
    "Adobe cut short": segment(0xEE, b"Adobe\0"),
    "length of 0": segment(0xE5, b"", 0),
    "length of 1": segment(0xFE, b"", 1),
    "Exif of noise": segment(0xE1, b"Exif\0\0" + bytes(range(60))),
    "Exif of nothing": segment(0xE1, b"Exif\0\0"),
    "Exif whose directory lies outside": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "XMP that is none": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"),
    "a profile's second part of three": segment(0xE2, b"ICC_PROFILE\0\2\3" + PROFILE),
    "a profile without its numbers": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile without its parts": segment(0xE2, b"ICC_PROFILE\0\1"),
    "a profile of noise": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(200)),
    "Photoshop's resources cut short": segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\xff\xff\x1c\2"),
    "an index of pictures that are not there": segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
    "a comment that is no text": segment(0xFE, bytes(range(256))),
    "rubbish between segments": segment(0xFE, b"x") + b"\0\0\0",
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_harmless_jpeg_segments(name: str, kind: str) -> None:
    data = jpeg(kind)
    expected = colour(opened(data))
    for at in (2, 20):  # before and after JFIF
        source = opened(data[:at] + HARMLESS[name] + data[at:])
        np.testing.assert_array_equal(colour(source), expected)
        assert (source.icc_profile, source.exif, source.xmp) == (None, None, None)


def test_a_frame_of_the_wrong_length_is_no_metadata() -> None:
    data = jpeg("baseline")
    at = data.index(b"\xff\xc0")
    with pytest.raises(CorruptImageError):
        decode(data[: at + 2] + b"\0\1" + data[at + 4 :], LIMITS)


# -- WebP --------------------------------------------------------------------------------------------------------


def webp(*after: bytes, flags: int = 0, **options: object) -> bytes:
    """A WebP with an extended header and chunks behind the picture; its length is told as it is."""
    simple = saved(smooth(), "WEBP", **options)
    header = b"VP8X\x0a\0\0\0" + struct.pack("<I", flags) + struct.pack("<I", 82)[:3] + struct.pack("<I", 60)[:3]
    body = b"WEBP" + header + simple[12:] + b"".join(after)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff(name: bytes, payload: bytes, length: int | None = None) -> bytes:
    return name + struct.pack("<I", len(payload) if length is None else length) + payload + b"\0" * (len(payload) % 2)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}], ids=["lossless", "lossy"])
@pytest.mark.parametrize(
    ("flags", "after"),
    [
        (8, riff(b"EXIF", b"Exif\0\0II*\0\xff\xff\xff\xff")),
        (8, riff(b"EXIF", b"")),
        (8, riff(b"EXIF", bytes(20), 300)),
        (4, riff(b"XMP ", b"<x:xmpmeta")),
        (4, riff(b"XMP ", b"<x/>", 2**31)),
        (0, riff(b"JUNK", b"abc", 77)),
        (8, b"EXI"),
        (0, riff(b"ICCP", PROFILE)),  # which the flags deny: browsers do not look for it
        (0x20, b""),  # which they promise, and is not there
        (0x20, riff(b"ICCP", b"noise" * 40)),
    ],
)
def test_broken_webp_metadata_is_left_out(flags: int, after: bytes, options: dict[str, object]) -> None:
    source = opened(webp(after, flags=flags, **options))
    np.testing.assert_array_equal(
        colour(source), np.asarray(Image.open(io.BytesIO(saved(smooth(), "WEBP", **options))))
    )
    assert (source.icc_profile, source.exif, source.xmp) == (None, None, None)


def test_webp_metadata_cut_off_with_the_file() -> None:
    whole = webp(riff(b"EXIF", bytes(300)), flags=8, lossless=True)
    for cut in (1, 10, 299, 304, 308):
        np.testing.assert_array_equal(colour(opened(whole[:-cut])), np.asarray(smooth()))
    with pytest.raises(CorruptImageError):
        decode(whole[:-320], LIMITS)


# -- TIFF --------------------------------------------------------------------------------------------------------


def tiff(pixels: Pixels, **options: object) -> bytes:
    file = io.BytesIO()
    kinds = {2: "minisblack", 3: "rgb"}
    options.setdefault("photometric", kinds[pixels.ndim])
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file.getvalue()


def levels(kind: str, channels: int, height: int = 21, width: int = 35) -> tuple[Pixels, Pixels]:
    """Samples of a type ``[h, w, channels]`` or ``[h, w]``, and the 16 bits that they mean."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    wanted = np.random.default_rng(channels).integers(0, 65536, shape).astype(np.uint16)
    if kind == "u4":
        return wanted.astype(np.uint32) * np.uint32(65537), wanted
    samples = (wanted / 65535).astype(kind)
    return samples, np.rint(np.clip(samples.astype(np.float64), 0, 1) * 65535).astype(np.uint16)


LAYOUTS = ({}, {"tile": (16, 16)}, {"byteorder": ">"}, {"compression": "zlib"}, {"rowsperstrip": 5, "byteorder": ">"})


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "u4"])
def test_tiffs_of_floats_and_of_32_bits(kind: str, channels: int, layout: dict[str, object]) -> None:
    samples, expected = levels(kind, channels)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    source = opened(tiff(samples, planarconfig="contig" if channels > 1 else None, **extra, **layout))
    assert source.depth == 16
    shown = expected if channels > 1 else expected[:, :, None].repeat(3, axis=2)
    off = np.abs(colour(source).astype(int) - shown[:, :, :3]).max()
    assert off <= (1 if (kind, channels) == ("f4", 1) else 0)
    if channels == 4:
        np.testing.assert_array_equal(alpha(source), expected[:, :, 3])


def predicted(samples: Pixels, predictor: int, order: str, tile: int) -> bytes:
    """Rows, in runs of ``tile`` pixels, as TIFF's predictors 2 and 3 store them (section 14, technical note 3)."""
    _, width, count = samples.shape
    stored = b""
    for row in samples:
        for left in range(0, width, tile):
            run = row[left : left + tile]
            if predictor == 2:
                whole = run.view(f"u{run.itemsize}")
                stored += np.diff(whole, axis=0, prepend=whole[:1] * 0).astype(f"{order}u{run.itemsize}").tobytes()
            else:
                planes = (
                    run.astype(">" + run.dtype.str[1:]).view(np.uint8).reshape(-1, run.itemsize).T.reshape(-1, count)
                )
                stored += np.diff(planes, axis=0, prepend=planes[:1] * 0).tobytes()
    return stored


@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "predictor"), [("f2", 3), ("f4", 3), ("f8", 3), ("f4", 2), ("u4", 2), ("u2", 2)])
def test_predictors_of_wide_samples(kind: str, predictor: int, order: str, tile: int | None) -> None:
    """Tiles reach over the right edge, and a row of bytes' planes is undone as a whole."""
    if kind == "u2":
        samples = expected = np.random.default_rng(1).integers(0, 65536, (7, 37, 3)).astype(np.uint16)
    else:
        samples, expected = levels(kind, 3, 7, 37)
    height, width = samples.shape[:2]
    across = -(-width // tile) * tile if tile else width
    padded = np.pad(samples, ((0, (16 - height) if tile else 0), (0, across - width), (0, 0)))
    blocks = [padded[:, left : left + (tile or across)] for left in range(0, across, tile or across)]
    data = [zlib.compress(predicted(np.ascontiguousarray(block), predictor, order, tile or across)) for block in blocks]
    source = opened(raw_tiff(samples, data, order, predictor, tile))
    np.testing.assert_array_equal(colour(source), expected)


def raw_tiff(samples: Pixels, blocks: list[bytes], order: str, predictor: int, tile: int | None) -> bytes:
    """A directory after the header, then the blocks, compressed as they are."""
    height, width, count = samples.shape
    kind = 3 if samples.dtype.kind == "f" else 1
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [8 * samples.itemsize] * count), 259: ("H", [8]),
        262: ("H", [2]), 277: ("H", [count]), 284: ("H", [1]), 317: ("H", [predictor]), 339: ("H", [kind] * count),
    }  # fmt: skip
    sizes = [len(block) for block in blocks]
    places = {322: ("I", [tile]), 323: ("I", [16]), 324: None, 325: ("I", sizes)} if tile else {
        273: None, 278: ("I", [height]), 279: ("I", sizes)
    }  # fmt: skip
    start = 8 + 2 + 12 * (len(tags) + len(places)) + 4
    extra, entries = b"", []
    first = start + 512  # room for values that do not fit the directory
    offsets = [first + sum(sizes[:index]) for index in range(len(sizes))]
    for tag, told in sorted({**tags, **places}.items()):
        letter, numbers = told or ("I", offsets)
        value = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(value) > 4:
            value, extra = struct.pack(order + "I", start + len(extra)), extra + value
        entries.append(struct.pack(order + "HHI4s", tag, {"H": 3, "I": 4}[letter], len(numbers), value.ljust(4, b"\0")))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return (head + directory + extra).ljust(first, b"\0") + b"".join(blocks)


@pytest.mark.parametrize(("kind", "peak"), [("f2", 1), ("f4", 1), ("f8", 1), ("u2", 65535), ("u4", 2**32 - 1)])
def test_gray_from_white_to_black(kind: str, peak: int) -> None:
    samples = (np.linspace(0, 1, 20).reshape(4, 5) * peak).astype(kind)
    source = opened(tiff(samples, photometric="miniswhite"))
    expected = 65535 - samples.astype(np.float64) / peak * 65535
    assert np.abs(colour(source)[:, :, 0] - expected).max() <= 1


def test_floats_outside_of_0_to_1_are_clipped_and_no_number_is_black() -> None:
    samples = np.array([[[-1, 0, 0.5], [1, 2, np.nan], [np.inf, -np.inf, 1e-9]]], np.float32)
    source = opened(tiff(samples, planarconfig="contig"))
    np.testing.assert_array_equal(colour(source), [[[0, 0, 32768], [65535, 65535, 0], [65535, 0, 0]]])


def test_premultiplied_floats_are_divided_out() -> None:
    samples = np.array([[[0.25, 0.1, 0.5, 0.5], [0, 0, 0, 0], [1, 1, 1, 1]]], np.float32)
    source = opened(tiff(samples, planarconfig="contig", extrasamples=["assocalpha"]))
    assert np.abs(colour(source)[0, 0].astype(int) - [32768, 13107, 65535]).max() <= 2
    np.testing.assert_array_equal(alpha(source), [[32768, 0, 65535]])


def test_wide_samples_are_bounded_by_their_bytes() -> None:
    samples, _ = levels("f8", 3, 20, 30)
    limits = DecodeLimits(max_pixels=1000)  # of 8 bytes
    with pytest.raises(TooManyPixelsError) as refused:
        inspect(tiff(samples, planarconfig="contig"), limits)
    assert (refused.value.limit, refused.value.actual) == (8000, 20 * 30 * 24)
    assert inspect(tiff(samples.astype(np.float16), planarconfig="contig"), limits).width == 30


@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        (np.zeros((4, 4, 3), np.int16), {}, "3 samples of 16 bits, signed"),
        (np.zeros((3, 4, 4), np.float32), {"planarconfig": "separate"}, "32 bits, floating point, in separate planes"),
        (np.zeros((4, 4), np.complex64), {}, "64 bits, complex"),
        (np.zeros((4, 4), np.int64), {}, "64 bits, signed"),
    ],
)
def test_what_is_not_supported_is_not_called_damaged(pixels: Pixels, options: dict[str, object], words: str) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    with pytest.raises(UnsupportedFormatError, match=words):
        decode(tiff(pixels, photometric=photometric, **options), LIMITS)


@pytest.mark.parametrize(
    "tag",
    [
        (305, 2, 3, "x\xe9", True),  # text that is no ASCII
        (34675, 7, 9, b"no profil", True),
        (700, 1, 4, b"<x/>", True),
        (34665, 4, 1, 2**31, True),  # an Exif directory outside of the file
        (33723, 7, 6, b"\x1c\x02\x78\xff\xff\x00", True),
        (50000, 12, 2, (1.0, 2.0), True),
        (282, 5, 1, (0, 0), True),
        (274, 3, 1, 77, True),
    ],
)
def test_odd_but_harmless_tiff_tags(tag: tuple[object, ...]) -> None:
    source = opened(tiff(picture(), planarconfig="contig", extratags=[tag]))
    np.testing.assert_array_equal(colour(source), picture())
    assert (source.icc_profile, source.xmp) == (None, None)


def webp_tiff(pixels: NDArray[np.uint8], tile: int | None, rows: int = 20, **options: object) -> bytes:
    """A TIFF of lossless WebPs: tiles as GDAL writes them, or strips."""
    height, width, count = pixels.shape
    blocks = []
    for top in range(0, height, tile or rows):
        for left in range(0, width, tile or width):
            block = pixels[top : top + (tile or rows), left : left + (tile or width)]
            if tile:
                block = np.pad(block, ((0, tile - block.shape[0]), (0, tile - block.shape[1]), (0, 0)))
            blocks.append(saved(Image.fromarray(block), "WEBP", lossless=True, exact=True, **options))
    places = (324, 325) if tile else (273, 279)
    first = 1024
    offsets = [first + sum(map(len, blocks[:index])) for index in range(len(blocks))]
    tags = {
        256: [width], 257: [height], 258: [8] * count, 259: [50001], 262: [2], 277: [count], 284: [1],
        places[0]: offsets, places[1]: [len(block) for block in blocks],
        **({322: [tile], 323: [tile]} if tile else {278: [rows]}), **({338: [2]} if count == 4 else {}),
    }  # fmt: skip
    entries, extra, start = b"", b"", 8 + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        value = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(value) > 4:
            value, extra = struct.pack("<I", start + len(extra)), extra + value
        entries += struct.pack("<HHI4s", tag, 4, len(numbers), value)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + extra
    return head.ljust(first, b"\0") + b"".join(blocks)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("tile", "rows"), [(None, 100), (None, 20), (32, 0)])
def test_webps_in_a_tiff(channels: int, tile: int | None, rows: int) -> None:
    pixels = picture(50, 70, channels)
    if channels == 4:
        pixels[:, :, 3] |= 1  # no hole, whose colour would be filled
    source = opened(webp_tiff(pixels, tile, rows))
    np.testing.assert_array_equal(colour(source), pixels[:, :, :3])
    if channels == 4:
        np.testing.assert_array_equal(alpha(source), pixels[:, :, 3])


def test_a_block_of_another_size_or_kind_is_damage() -> None:
    whole = webp_tiff(picture(40, 30, 3), None, 20)
    larger = saved(Image.new("RGB", (300, 300)), "WEBP", lossless=True)
    for other in (larger, saved(Image.new("RGB", (30, 20)), "PNG"), whole, b"", b"RIFF"):
        with pytest.raises(EnlargerError):
            decode(whole[:1024] + other.ljust(len(whole) - 1024, b"\0"), LIMITS)


def test_a_tiff_of_very_many_webps_is_too_complex() -> None:
    with pytest.raises(TooComplexError):
        inspect(many_strips(5000), LIMITS)


def many_strips(count: int) -> bytes:
    tags = {256: 1, 257: count, 258: 8, 259: 50001, 262: 2, 277: 3, 278: 1, 284: 1}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()) if tag < 273)
    entries += struct.pack("<HHII", 273, 4, count, start)
    entries += b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in (277, 278))
    entries += struct.pack("<HHII", 279, 4, count, start) + struct.pack("<HHII", 284, 4, 1, 1)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags) + 2) + entries + bytes(4) + bytes(4 * count)


# -- gain maps ---------------------------------------------------------------------------------------------------


def with_gain_map() -> Iterator[tuple[str, bytes]]:
    data, xmp = jpeg("baseline"), b"http://ns.adobe.com/xap/1.0/\0"
    rdf = '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description {}="{}"/></rdf:RDF>'
    for name, namespace in (
        ("hdrgm", "http://ns.adobe.com/hdr-gain-map/1.0/"),
        ("HDRGainMap", "http://ns.apple.com/HDRGainMap/1.0/"),
    ):
        packet = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{rdf.format('xmlns:' + name, namespace)}</x:xmpmeta>".encode()
        yield f"{name} in XMP", data[:2] + segment(0xE1, xmp + packet) + data[2:] + data
    yield "ISO 21496-1", data[:2] + segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)) + data[2:] + data
    yield "PNG", png(picture(), chunk(b"gmAP", bytes(40)))
    avif = saved(smooth(), "AVIF", xmp=b"<x/>")
    yield "AVIF", avif.replace(b"mime", b"tmap", 1)  # what kind an item is


@pytest.mark.parametrize("name", dict(with_gain_map()))
def test_a_gain_map_is_noticed(name: str) -> None:
    assert inspect(dict(with_gain_map())[name], LIMITS).gain_map
    assert not inspect(jpeg("baseline"), LIMITS).gain_map
