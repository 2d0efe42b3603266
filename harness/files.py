"""Picture files of every format, made byte by byte: ordinary, small, huge by their headers, hostile."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

import numpy as np
from PIL import Image


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def heic(image: Image.Image, **options: object) -> bytes:
    """By x265 in libheif, nearly lossless; needs the extra ``heif``."""
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **{"quality": 95, "chroma": 444, **options})
    return file.getvalue()


def smooth(size: tuple[int, int] = (16, 16)) -> Image.Image:
    """A picture that lossy codecs keep nearly."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    channels = (
        x * 255 // max(width - 1, 1),
        y * 255 // max(height - 1, 1),
        (x + y) * 255 // max(width + height - 2, 1),
    )
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def chunk(name: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def ihdr(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def png(header: bytes, raw: bytes, *between: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND")


def gif(width: int, height: int, *frames: bytes, palette: bytes = b"\0\0\0\xff\xff\xff", before: bytes = b"") -> bytes:
    """A GIF of a two-colour palette; ``before`` stands between palette and frames."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + palette + before + b"".join(frames) + b";"


def gif_frame(width: int = 1, height: int = 1, left: int = 0, top: int = 0) -> bytes:
    """A frame whose data is the one pixel of index 1: clear (4), 1, end (5), in 3-bit codes, lowest bit first."""
    codes = 0b101_001_100
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02\x02" + struct.pack("<H", codes) + b"\0"


TIFF_TYPES = {"B": 1, "s": 2, "H": 3, "I": 4, "r": 5, "Q": 16}


def tiff(tags: Iterable[tuple[int, str, tuple[int, ...]]], data: bytes, order: str = "<", big: bool = False) -> bytes:
    """A TIFF with ``data`` behind its header, at ``data_at(big)``. ``r`` is a rational of a numerator over 1."""
    word, head = ("Q", "HHHQ") if big else ("I", "HI")
    start = data_at(big) + len(data)
    start += start % 2
    entries, values = b"", b""
    sorted_tags = sorted(tags)
    size = struct.calcsize("<" + word)
    end = start + (8 if big else 2) + len(sorted_tags) * (4 + 2 * size) + size
    for tag, kind, numbers in sorted_tags:
        packed = b"".join(
            struct.pack(order + "II", n, 1) if kind == "r" else struct.pack(order + kind, n) for n in numbers
        )
        inline = packed.ljust(size, b"\0")
        if len(packed) > size:
            inline = struct.pack(order + word, end + len(values))
            values += packed
        entries += struct.pack(order + "HH" + word, tag, TIFF_TYPES[kind], len(numbers)) + inline
    magic = (43, 8, 0, start) if big else (42, start)
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + head, *magic)
    count = struct.pack(order + ("Q" if big else "H"), len(sorted_tags))
    return (header + data).ljust(start, b"\0") + count + entries + b"\0" * size + values


def data_at(big: bool = False) -> int:
    return 16 if big else 8


def tiff_tags(
    width: int, height: int, bits: tuple[int, ...], photometric: int, size: int, at: int = 8
) -> list[tuple[int, str, tuple[int, ...]]]:
    return [
        (256, "I", (width,)),
        (257, "I", (height,)),
        (258, "H", bits),
        (259, "H", (1,)),
        (262, "H", (photometric,)),
        (273, "I", (at,)),
        (277, "H", (len(bits),)),
        (278, "I", (height,)),
        (279, "I", (size,)),
    ]


def exif_block(orientation: int, gps: bool = False) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    exif[271] = "Maker"
    exif.get_ifd(34665)[33434] = 0.5  # exposure time
    exif.get_ifd(34665)[37500] = b"private"
    if gps:
        exif.get_ifd(34853)[1] = "N"
        exif.get_ifd(34853)[2] = (52.0, 30.0, 0.0)
    return exif.tobytes()


def bmp_rle8(width: int, height: int, data: bytes) -> bytes:
    palette = b"".join(bytes((n, n // 2, 0, 0)) for n in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 1024 + len(data), 0, 0, 1078) + header + palette + data


DEEP = np.array([[0, 1, 128, 129, 256, 257], [300, 32767, 32768, 65407, 65534, 65535]], np.uint16)


HUGE = {
    "png": png(ihdr(60000, 60000), b""),
    "png cut short": png(ihdr(60000, 60000), b"")[:40],
    "gif": gif(65535, 65535, gif_frame()),
    "gif frame": gif(1, 1, gif_frame(60000, 60000)),
    "gif frame beside": gif(1, 1, gif_frame(1, 1, 65000, 65000)),
    "bmp": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 60000, -60000, 1, 24, 0, 0, 0, 0, 0, 0),
    "tiff": tiff(tiff_tags(60000, 60000, (8,), 1, 1), b"\0"),
    "tiff tile": tiff(
        [
            *(tag for tag in tiff_tags(8, 8, (8,), 1, 1) if tag[0] not in (273, 278, 279)),
            *((322, "I", (60000,)), (323, "I", (60000,)), (324, "I", (8,)), (325, "I", (1,))),
        ],
        b"\0",
    ),
    "jpeg": saved(smooth(), "jpeg").replace(b"\x08\0\x10\0\x10\x03", b"\x08\xea\x60\xea\x60\x03"),
    "webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\x5f\xea\0\x5f\xea\0",
    "webp lossless": b"RIFF" + struct.pack("<I", 18) + b"WEBPVP8L" + struct.pack("<IBI", 5, 0x2F, 0xFFFFFFF) + b"\0",
    "webp lossy": b"RIFF"
    + struct.pack("<I", 22)
    + b"WEBPVP8 "
    + struct.pack("<I", 10)
    + b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f",
}


BOMB = zlib.compress(bytes(64 << 20), 9)


def progressive_jpeg(scans: int) -> bytes:
    """A progressive JPEG with its last scan repeated until there are ``scans``."""
    data = saved(smooth(), "jpeg", progressive=True)
    count, last = data.count(b"\xff\xda"), data.rindex(b"\xff\xda")
    assert data.endswith(b"\xff\xd9")
    return data[:-2] + data[last:-2] * (scans - count) + b"\xff\xd9"


def frames() -> list[Image.Image]:
    return [Image.new("RGB", (6, 4), shade) for shade in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]


def small_files() -> Iterator[tuple[str, bytes]]:
    image = smooth((9, 7))
    exif = exif_block(6, gps=True)
    yield "png", saved(image.convert("RGBA"), "png", exif=exif, dpi=(72, 72))
    yield "png palette", saved(image.quantize(8), "png", transparency=b"\x10\x20")
    yield "png deep", png(ihdr(6, 2, 16, 0), b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP))
    yield "apng", saved(frames()[0], "png", save_all=True, append_images=frames()[1:])
    yield "jpeg", saved(image, "jpeg", exif=exif, dpi=(72, 72))
    yield "jpeg progressive", saved(image, "jpeg", progressive=True)
    yield "jpeg cmyk", saved(image.convert("CMYK"), "jpeg")
    yield "webp lossy", saved(image, "webp", exif=exif[6:])
    yield "webp lossless", saved(image.convert("RGBA"), "webp", lossless=True)
    yield "webp animated", saved(frames()[0], "webp", save_all=True, append_images=frames()[1:])
    yield "bmp", saved(image, "bmp")
    yield "bmp palette", saved(image.quantize(8), "bmp")
    yield "bmp run-length", bmp_rle8(4, 2, b"\x04\x10\0\0\x01\x20\x03\x30\0\x01")
    yield "tiff", saved(image, "tiff", exif=exif)
    yield "tiff lzw", saved(image, "tiff", compression="tiff_lzw")
    yield "tiff deep", tiff(tiff_tags(6, 2, (16,), 1, 24), DEEP.astype("<u2").tobytes())
    yield "gif", saved(image.quantize(8), "gif", transparency=3)
    yield "avif", saved(image.convert("RGBA"), "avif", exif=exif)
    yield "avif animated", saved(frames()[0], "avif", save_all=True, append_images=frames()[1:])
    if find_spec("pillow_heif"):
        yield "heic", heic(image.convert("RGBA"), exif=exif)
        yield "heic tiles", heic(smooth((70, 66)), tile_size=64)
    yield "gif animated", saved(frames()[0], "gif", save_all=True, append_images=frames()[1:])


SMALL_FILES = dict(small_files())
