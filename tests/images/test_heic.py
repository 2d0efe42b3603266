"""HEIC: what libheif's encoder writes comes out as it went in; no header gets libheif to decode what was not seen."""

import io
import struct
from collections import Counter
from contextlib import suppress
from itertools import product

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from app.errors import CorruptImageError, EnlargerError, TooComplexError, TooManyPixelsError, UnsupportedFormatError
from app.images import formats
from app.images.decoder import DecodeLimits, SourceImage, decode, inspect
from app.images.formats.hevc import format_of, points_of
from app.images.formats.isobmff import MAX_PARTS, Meta
from app.images.icc import tag_table
from harness.files import heic
from harness.hostile_heic import AT_ITS_BOUNDS, CONTRADICTORY, MULTIPLIED, TOO_LARGE, Hevc
from tests.support.profiles import P3, SRGB_CURVE, rgb_profile

LIMITS = DecodeLimits()
DISPLAY_P3 = rgb_profile(P3, *SRGB_CURVE)


def smooth(width: int = 203, height: int = 150) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    channels = (128 + 100 * np.sin(x / 19), 128 + 100 * np.cos(y / 17), 255 * (x + y) / (height + width))
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def opened(data: bytes) -> SourceImage:
    header, source = inspect(data, LIMITS), decode(data, LIMITS)
    facts = source.format, source.width, source.height, source.gray, source.has_alpha, source.depth
    assert (header.format, header.width, header.height, header.gray, header.has_alpha, header.depth) == facts
    assert source.format == "heic"
    return source


def colour(source: SourceImage) -> NDArray[np.int64]:
    return source.rows(0, source.height).astype(np.int64)


@pytest.mark.parametrize("size", [(203, 150), (64, 64), (33, 200), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_of_any_size(mode: str, size: tuple[int, int]) -> None:
    image = smooth(*size).convert(mode)
    source = opened(heic(image))
    assert ((source.width, source.height), source.gray) == (size, mode == "L")
    assert np.abs(colour(source) - np.asarray(image.convert("RGB"))).mean() < 3


@pytest.mark.parametrize(("size", "tile"), [((300, 200), 128), ((301, 213), 64), ((128, 128), 64)])
def test_a_grid_of_tiles(size: tuple[int, int], tile: int) -> None:
    """As telephones store every picture."""
    data = heic(smooth(*size), tile_size=tile)
    assert Meta(data).item(Meta(data).primary).kind == b"grid"
    assert np.abs(colour(opened(data)) - np.asarray(smooth(*size))).mean() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha(mode: str) -> None:
    image = smooth().convert(mode)
    image.putalpha(Image.linear_gradient("L").resize(image.size).point([max(1, level) for level in range(256)]))
    source = opened(heic(image))
    alpha = source.alpha_rows(0, source.height)[:, :, 0].astype(int)
    assert np.abs(alpha - np.asarray(image.getchannel("A"))).mean() < 2


def test_deep_gray_keeps_16_bits_and_deep_colour_gets_8() -> None:
    levels = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    deep = pillow_heif.from_bytes("I;16", (64, 48), levels.tobytes())
    file = io.BytesIO()
    deep.save(file, quality=95)
    source = opened(file.getvalue())
    assert source.depth == 16
    assert np.abs(colour(source)[:, :, 0] - levels).mean() < 300
    wide = pillow_heif.from_bytes("RGB;16", (64, 48), np.repeat(levels[:, :, None], 3, axis=2).tobytes())
    file = io.BytesIO()
    wide.save(file, quality=95, chroma=444)
    source = opened(file.getvalue())
    assert source.depth == 8
    assert np.abs(colour(source)[:, :, 0] - levels / 257).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    """Written as rotation and mirror of the container, of which libheif is told nothing."""
    exif = Image.Exif()
    exif[274], exif[271] = orientation, "Maker"
    source = opened(heic(smooth(), exif=exif.tobytes()))
    turned = smooth()
    turned.getexif()[274] = orientation
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    if orientation in turns:
        turned = smooth().transpose(Image.Transpose(turns[orientation]))
    assert np.abs(colour(source) - np.asarray(turned)).mean() < 3
    assert source.exif is not None
    assert Image.open(io.BytesIO(heic_exif(source.exif))).getexif().get(271) == "Maker"


def heic_exif(block: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "JPEG", exif=b"Exif\0\0" + block)
    return file.getvalue()


def nclx(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_colour_told_by_a_profile_and_by_code_points() -> None:
    assert opened(heic(smooth(), icc_profile=DISPLAY_P3)).icc_profile == DISPLAY_P3
    told = opened(nclx(heic(smooth()), 12, 13)).icc_profile
    assert told is not None
    red, ours = (tag_table(each)[b"rXYZ"] for each in (told, DISPLAY_P3))
    assert np.abs(np.frombuffer(red[8:], ">i4") - np.frombuffer(ours[8:], ">i4")).max() <= 16  # of 65,536ths
    profile = ImageCms.ImageCmsProfile(io.BytesIO(told))
    assert ImageCms.getProfileName(profile).strip() == "H.273 primaries 12, transfer 13"
    assert opened(heic(smooth())).icc_profile is None  # sRGB


def without_boxes_of_colour(data: bytes) -> bytes:
    assert data.count(b"colrnclx") == 1
    return data.replace(b"colrnclx", b"freenclx")


@pytest.mark.parametrize(("primaries", "transfer"), [(12, 13), (9, 1), (1, 8), (5, 4), (1, 13)])
def test_colour_told_by_the_stream_alone(primaries: int, transfer: int) -> None:
    """As by the same numbers in the container; what that says goes first."""
    points = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 6}
    data = heic(smooth(), save_nclx_profile=True, full_range_flag=1, **points)
    told = opened(data).icc_profile
    assert opened(without_boxes_of_colour(data)).icc_profile == told
    assert (told is None) == ((primaries, transfer) == (1, 13))
    assert opened(nclx(data, 1, 13)).icc_profile is None


def test_hdr_told_by_the_stream_alone_is_refused() -> None:
    data = heic(smooth(), enc_params={"x265:colorprim": "bt2020", "x265:transfer": "smpte2084"})
    with pytest.raises(UnsupportedFormatError, match="HDR"):
        inspect(without_boxes_of_colour(data), LIMITS)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused(transfer: int) -> None:
    with pytest.raises(UnsupportedFormatError, match="HDR"):
        inspect(nclx(heic(smooth()), 9, transfer), LIMITS)


# -- hostile -----------------------------------------------------------------------------------------------------


SETS = [
    (Hevc(64, 64), 1.5),
    (Hevc(203, 150, chroma=3, points=(12, 13), lists=1), 3),
    (Hevc(8192, 4320, depth=10, points=(9, 16), lists=2, sets=5), 3),
    (Hevc(100_000, 3, chroma=0, sets=64, layers=6), 1),
    (Hevc(100, 100, chroma=2, depth=16, points=(1, 8), sets=1, layers=1), 4),
]


@pytest.mark.parametrize(("told", "pixel_bytes"), SETS)
def test_what_a_parameter_set_tells(told: Hevc, pixel_bytes: float) -> None:
    assert format_of(told.unit()) == (told.width, told.height, pixel_bytes)
    assert points_of(told.unit()) == (told.points or (2, 2))


def test_parameter_sets_cut_anywhere_and_of_noise() -> None:
    unit, random = SETS[2][0].unit(), np.random.default_rng(0)
    for hostile in (*(unit[:end] for end in range(len(unit) - 8)), *(random.bytes(1600) for _ in range(300))):
        with suppress(CorruptImageError):
            points_of(hostile)


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def with_unit(data: bytes, *units: bytes) -> bytes:
    """More units before those of the picture, which is the last thing of the file."""
    meta = Meta(data)
    ((offset, length),) = meta.item(meta.primary).extents
    longer = b"".join(struct.pack(">I", len(unit)) + unit for unit in units)
    assert offset + length == len(data)
    told = data.index(struct.pack(">I", length), data.index(b"iloc"), data.index(b"iinf"))
    data = data[:told] + struct.pack(">I", length + len(longer)) + data[told + 4 :]
    box = offset - 8
    assert data[box + 4 : box + 8] == b"mdat"
    size = struct.pack(">I", len(data) + len(longer) - box)
    return data[:box] + size + data[box + 4 : offset] + longer + data[offset:]


def test_the_helpers_leave_a_picture_a_picture() -> None:
    plain = heic(smooth(64, 64))
    assert opened(with_unit(plain, b"\x4e\x01\x05\x00\x80")).width == 64  # SEI: said beside the picture


@pytest.mark.parametrize("size", [(10_000, 10_000), (64, 20_000), (128, 128), (56, 64)])
def test_a_stream_that_brings_another_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CorruptImageError, match="different size"):
        inspect(with_unit(heic(smooth(64, 64)), Hevc(*size).unit()), LIMITS)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        *((name, data, TooManyPixelsError) for name, data in TOO_LARGE.items()),
        *((name, data, CorruptImageError) for name, data in CONTRADICTORY.items()),
        *((name, data, TooComplexError) for name, data in MULTIPLIED.items()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_lies_is_refused_by_its_header(name: str, data: bytes, error: type[EnlargerError]) -> None:
    with pytest.raises(error):
        inspect(data, LIMITS)


def test_a_file_at_its_bounds_is_read() -> None:
    assert inspect(AT_ITS_BOUNDS, LIMITS).width == 64


def test_deep_samples_with_alpha_count_for_more() -> None:
    """libheif holds 21 bytes a pixel of them, where the limit reckons with 16."""
    file = io.BytesIO()
    pillow_heif.from_bytes("RGBA;16", (64, 64), bytes(64 * 64 * 8)).save(file, chroma=444)
    with pytest.raises(TooManyPixelsError, match="so many bits"):
        inspect(file.getvalue(), DecodeLimits(max_pixels=64 * 64))
    assert inspect(file.getvalue(), DecodeLimits(max_pixels=64 * 64 * 21 // 16)).has_alpha


def test_sizes_are_limited_by_the_header() -> None:
    data = heic(smooth(64, 64))
    ispe = b"ispe\0\0\0\0" + struct.pack(">II", 64, 64)
    for size in ((50_000, 50_000), (40_000, 1), (0, 64)):
        with pytest.raises((TooManyPixelsError, CorruptImageError)):
            inspect(patched(data, ispe, ispe[:8] + struct.pack(">II", *size)), LIMITS)
    with pytest.raises(TooManyPixelsError):
        inspect(data, DecodeLimits(max_pixels=64 * 64 - 1))
    assert inspect(data, DecodeLimits(max_pixels=64 * 64)).width == 64


def test_a_grid_is_what_it_says() -> None:
    data = heic(smooth(256, 128), tile_size=64)
    grid = struct.pack(">BBBBHH", 0, 0, 1, 3, 256, 128)
    for other in (struct.pack(">BBBBHH", 0, 0, 255, 255, 256, 128), struct.pack(">BBBBHH", 0, 0, 1, 3, 25600, 12800)):
        with pytest.raises(EnlargerError):
            inspect(patched(data, grid, other), LIMITS)


def test_several_pictures_in_one_item_are_refused() -> None:
    data = heic(smooth(64, 64))
    with pytest.raises(CorruptImageError, match="more than one"):
        inspect(with_unit(data, b"\x28\x01\xaf" + bytes(20)), LIMITS)  # an IDR slice that begins a picture


def test_units_are_counted() -> None:
    with pytest.raises(TooComplexError):
        inspect(with_unit(heic(smooth(64, 64)), *[b""] * (MAX_PARTS + 1)), LIMITS)


def test_a_sequence_without_a_still_picture_is_not_supported() -> None:
    for box in (b"", struct.pack(">I4s", 8, b"moov"), struct.pack(">I4s", 100, b"free")):
        with pytest.raises(UnsupportedFormatError, match="none of the formats"):
            inspect(struct.pack(">I", 24) + b"ftyphevc\0\0\0\0msf1hevc" + box, LIMITS)


def test_truncated_at_every_place() -> None:
    data = heic(smooth(64, 64), exif=b"Exif\0\0" + bytes(20))
    for end in [*range(0, 700, 3), *range(700, len(data) - 1, 61)]:
        with pytest.raises(EnlargerError) as refused:
            decode(data[:end], LIMITS)
        assert 400 <= refused.value.status < 500


def test_what_is_not_decoded_is_not_handed_on() -> None:
    """Thumbnails, metadata and other pictures stay behind."""
    exif = Image.Exif()
    exif[271] = "Maker"
    data = heic(smooth(), exif=exif.tobytes(), thumbnails=[64])
    stream = b"".join(formats.read_container(data, LIMITS).stream)
    assert len(Meta(data).items) > 2
    assert [item.kind for item in Meta(stream).items.values()] == [b"hvc1"]
    assert b"Maker" not in stream


def test_without_the_extra_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {name: each for name, each in formats.INPUTS.items() if name != "heic"}
    monkeypatch.setattr(formats, "INPUTS", others)
    with pytest.raises(UnsupportedFormatError, match="extra `heif`"):
        inspect(heic(smooth(64, 64)), LIMITS)


def test_a_clean_aperture_elsewhere_is_refused_or_kept() -> None:
    """libheif does not cut where the cut would lie outside the image: the size is then another than the header's."""
    data, ends = heic(smooth(7, 9)), Counter[str]()
    at = data.index(b"clap") + 4
    whole = opened(data)
    for place, value in product(range(8), (0, 1, 2, 8, 64, 255, 0x10FFFFC9, 0x50FFFFFF, 0xEFFFFFC9, 0xFFFFFFFF)):
        changed = data[: at + 4 * place] + value.to_bytes(4, "big") + data[at + 4 * place + 4 :]
        try:
            source = opened(changed)
        except EnlargerError as error:
            ends[error.code] += 1
        else:
            ends["whole" if (source.height, source.width) == (whole.height, whole.width) else "another size"] += 1
    assert ends["corrupt_image"] > 10, ends
