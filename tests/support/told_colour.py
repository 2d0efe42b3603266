"""Pictures that tell their colour in every way there is, made byte by byte; the same patches in all."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.profiles import P3, SRGB_CURVE, gray_profile, rgb_profile

Pixels = NDArray[np.uint8]

BLOCK = 16  # pixels of one colour each way, so that a lossy codec's own error stays small
ROWS, COLUMNS = 4, 6
HEIGHT, WIDTH = ROWS * BLOCK, COLUMNS * BLOCK
P3_CHRM = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
LINEAR_P3 = rgb_profile(P3, 1.0)


def patches() -> Pixels:
    """uint8 ``[HEIGHT, WIDTH, 3]``: grays, and colours that a wrong curve or wrong primaries would move."""
    colours = np.random.default_rng(7).integers(0, 256, (ROWS, COLUMNS, 3))
    colours[0] = np.linspace(12, 255, COLUMNS)[:, None]
    colours[1, :3] = (200, 60, 60), (60, 200, 60), (60, 60, 200)
    return colours.astype(np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)


def chunk(name: bytes, payload: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload) ^ damage)


def png(*between: bytes, mode: str = "RGB") -> bytes:
    data = saved(Image.fromarray(patches()).convert(mode), "PNG")
    return data[:33] + b"".join(between) + data[33:]


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def cicp(*points: int) -> bytes:
    return chunk(b"cICP", bytes(points))


def gama(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def chrm(values: tuple[int, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *values))


def iccp(profile: bytes, damage: int = 0) -> bytes:
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(profile), damage)


def avif(primaries: int, transfer: int, mode: str = "RGB", in_box: bool = True) -> bytes:
    """Pillow writes sRGB's numbers into ``colr`` (twice 16 bits) and, 8 bits each, into the AV1 sequence header."""
    gray = mode == "L"
    image = Image.fromarray(patches()).convert(mode)
    data = saved(image, "AVIF", quality=100, subsampling="4:0:0" if gray else "4:4:4")
    at = data.index(b"colrnclx")
    if in_box:
        return data[: at + 8] + struct.pack(">HH", primaries, transfer) + data[at + 12 :]
    bits = bin(int.from_bytes(data[at + 15 :]))[2:].zfill(8 * len(data[at + 15 :]))
    told, wanted = (f"1{first:08b}{second:08b}00000110" for first, second in ((1, 13), (primaries, transfer)))
    assert bits.count(told) == 1  # color_description_present_flag, primaries, transfer, matrix 6 (AV1 5.5.2)
    changed = int(bits.replace(told, wanted), 2).to_bytes(len(bits) // 8)
    return data[:at] + b"free" + data[at + 4 : at + 15] + changed


def exif(index: bytes) -> bytes:
    """An Exif block with ColorSpace "uncalibrated" and the interoperability index of DCF 2.0."""
    block = Image.Exif()
    details = block.get_ifd(0x8769)
    details[0xA001] = 65535
    details.setdefault(0xA005, {})[1] = index.decode()
    return block.tobytes()


def bmp(profile: bytes) -> bytes:
    """BITMAPV5HEADER with an embedded profile behind the pixels."""
    pixels = patches()[::-1, :, ::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack("<4I4s48x4I", 0, 0, 0, 0, b"DEBM", 4, 124 + len(pixels), len(profile), 0)
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels) + len(profile), 0, 0, 138) + head + pixels + profile


def photo(fmt: str, mode: str = "RGB", **options: object) -> bytes:
    if fmt == "JPEG":
        options |= {"quality": 100, "subsampling": "4:4:4"}
    return saved(Image.fromarray(patches()).convert(mode), fmt, **options)


def unflagged(webp: bytes) -> bytes:
    return webp[:20] + bytes((webp[20] & ~0x20,)) + webp[21:]


WAYS: dict[str, bytes] = {
    "png told nothing": png(),
    "png cICP Display P3": png(cicp(12, 13, 0, 1)),
    "png cICP linear": png(cicp(1, 8, 0, 1)),
    "png cICP BT.2020, BT.709's curve": png(cicp(9, 1, 0, 1)),
    "png cICP before iCCP": png(iccp(LINEAR_P3), cicp(12, 13, 0, 1)),
    "png cICP of sRGB before iCCP": png(iccp(LINEAR_P3), cicp(1, 13, 0, 1)),
    "png cICP unspecified, gAMA 1": png(cicp(2, 2, 0, 1), gama(100_000)),
    "png cICP narrow, gAMA 1": png(cicp(12, 13, 0, 0), gama(100_000)),
    "png iCCP linear P3": png(iccp(LINEAR_P3)),
    "png iCCP before sRGB and gAMA": png(chunk(b"sRGB", b"\0"), gama(100_000), iccp(LINEAR_P3)),
    "png iCCP damaged, gAMA 1": png(iccp(LINEAR_P3, damage=1), gama(100_000)),
    "png sRGB before gAMA 1": png(gama(100_000), chunk(b"sRGB", b"\0")),
    "png sRGB of no intent, gAMA 1": png(chunk(b"sRGB", b"\x09"), gama(100_000)),
    "png gAMA 1": png(gama(100_000)),
    "png gAMA 0.3": png(gama(30_000)),
    "png gAMA 0.45455": png(gama(45_455)),
    "png gAMA 0.45455 and cHRM of sRGB": png(gama(45_455), chrm(SRGB_CHRM)),
    "png gAMA 0.5 and cHRM of P3": png(gama(50_000), chrm(P3_CHRM)),
    "png cHRM of P3 alone": png(chrm(P3_CHRM)),
    "png gAMA 1 and an impossible cHRM": png(gama(100_000), chrm((0,) * 8)),
    "png gray gAMA 1": png(gama(100_000), mode="L"),
    "png gray cICP linear": png(cicp(12, 8, 0, 1), mode="L"),
    "png gray iCCP gray": png(iccp(gray_profile(1.0)), mode="L"),
    "png gray iCCP RGB": png(iccp(LINEAR_P3), mode="L"),
    "png gray with alpha, gAMA 1": png(gama(100_000), mode="LA"),
    "png palette gAMA 1": png(gama(100_000), mode="P"),
    "png alpha cICP P3": png(cicp(12, 13, 0, 1), mode="RGBA"),
    "avif nclx Display P3": avif(12, 13),
    "avif nclx linear": avif(1, 8),
    "avif nclx BT.2020, BT.709's curve": avif(9, 1),
    "avif nclx gamma 2.8": avif(1, 5),
    "avif nclx BT.601 of 525 lines": avif(6, 6),
    "avif nclx unspecified": avif(2, 2),
    "avif nclx reserved": avif(0, 8),
    "avif nclx P3, a curve nobody knows": avif(12, 200),
    "avif sequence header Display P3": avif(12, 13, in_box=False),
    "avif sequence header linear": avif(1, 8, in_box=False),
    "avif gray nclx linear": avif(1, 8, mode="L"),
    "avif ICC": photo("AVIF", icc_profile=LINEAR_P3, quality=100, subsampling="4:4:4"),
    "jpeg ICC": photo("JPEG", icc_profile=LINEAR_P3),
    "jpeg DCF R03": photo("JPEG", exif=exif(b"R03")),
    "jpeg DCF R98": photo("JPEG", exif=exif(b"R98")),
    "jpeg gray, RGB ICC": photo("JPEG", "L", icc_profile=LINEAR_P3),
    "jpeg RGB, gray ICC": photo("JPEG", icc_profile=gray_profile(1.0)),
    "jpeg ICC of P3": photo("JPEG", icc_profile=rgb_profile(P3, *SRGB_CURVE)),
    "webp ICC": photo("WEBP", lossless=True, icc_profile=LINEAR_P3),
    "webp ICC that its flags deny": unflagged(photo("WEBP", lossless=True, icc_profile=LINEAR_P3)),
    "webp DCF R03": photo("WEBP", lossless=True, exif=exif(b"R03")),
    "bmp embedded ICC": bmp(LINEAR_P3),
    "gif": photo("GIF", "P"),
}
