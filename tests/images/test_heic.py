"""HEIC: what libheif's encoder writes comes out as it went in; no header gets libheif to decode what was not seen."""

import io
import struct

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from app.errors import CorruptImageError, EnlargerError, TooComplexError, TooManyPixelsError, UnsupportedFormatError
from app.images import formats
from app.images.decoder import DecodeLimits, SourceImage, decode, inspect
from app.images.formats.hevc import size_of
from app.images.formats.isobmff import MAX_PARTS, Meta
from app.images.icc import tag_table
from tests.support.profiles import P3, SRGB_CURVE, rgb_profile

LIMITS = DecodeLimits()
DISPLAY_P3 = rgb_profile(P3, *SRGB_CURVE)


def smooth(width: int = 203, height: int = 150) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    channels = (128 + 100 * np.sin(x / 19), 128 + 100 * np.cos(y / 17), 255 * (x + y) / (height + width))
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def heic(image: Image.Image, **options: object) -> bytes:
    """By x265 in libheif, nearly lossless."""
    file = io.BytesIO()
    written = pillow_heif.from_pillow(image)
    written.save(file, **{"quality": 95, "chroma": 444, **options})
    return file.getvalue()


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


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused(transfer: int) -> None:
    with pytest.raises(UnsupportedFormatError, match="HDR"):
        inspect(nclx(heic(smooth()), 9, transfer), LIMITS)


# -- hostile -----------------------------------------------------------------------------------------------------


def parameter_set(width: int, height: int) -> bytes:
    """The beginning of an SPS (H.265, 7.3.2.2), as far as the size."""

    def exponential(value: int) -> str:
        digits = f"{value + 1:b}"
        return "0" * (len(digits) - 1) + digits

    bits = "0000" + "000" + "1" + "0" * 96 + exponential(0) + exponential(1) + exponential(width) + exponential(height)
    bits += "1" * (-len(bits) % 8)
    raw = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return b"\x42\x01" + raw.replace(b"\0\0\0", b"\0\0\3\0")


@pytest.mark.parametrize("size", [(64, 64), (203, 150), (8192, 4320), (100_000, 3)])
def test_the_size_of_a_parameter_set(size: tuple[int, int]) -> None:
    assert size_of(parameter_set(*size)) == size


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def with_set_of(data: bytes, width: int, height: int) -> bytes:
    """The first set of the configuration replaced by one of another size, as long as the old one."""
    at = data.index(b"hvcC") + 4
    position = at + 23
    while data[position] & 0x3F != 33:
        (size,) = struct.unpack_from(">H", data, position + 3)
        position += 5 + size
    (size,) = struct.unpack_from(">H", data, position + 3)
    unit = parameter_set(width, height).ljust(size, b"\x80")
    assert len(unit) == size
    return data[: position + 5] + unit + data[position + 5 + size :]


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
def test_a_stream_larger_than_its_container_says_is_refused(size: tuple[int, int]) -> None:
    data = heic(smooth(64, 64))
    for hostile in (with_set_of(data, *size), with_unit(data, parameter_set(*size))):
        with pytest.raises(CorruptImageError):
            inspect(hostile, LIMITS)


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
