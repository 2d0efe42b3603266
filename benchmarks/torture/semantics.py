"""Files that lie: built from numbers that a bound may have been forgotten for, not by flipping bits of sound ones.

For each format and each block that is parsed: sizes told twice and differently, counts that multiply, text that
expands, each at its limit, one beyond, and far beyond. ``CORPUS`` has the ones that were thought of; ``lies`` makes
more of the same kinds, without end and always the same ones for a seed.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
from numpy.random import Generator
from PIL import Image

from app.images.formats.isobmff import MAX_PARTS
from app.images.formats.xmltree import MAX_DEPTH, MAX_NODES
from harness import files
from harness import hostile as say
from harness import hostile_avif as heif
from harness import hostile_heic as hevc

SIZES = (0, 1, 2, 7, 8, 64, 255, 256, 1023, 4096, 7071, 16_383, 16_384, 32_767, 32_768, 32_769, 65_535)
COUNTS = (0, 1, 2, 3, 16, 255, 256, 999, 1000, 1001, 4095, 4096, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
REPEATS = (0, 1, 2, 100, 999, 1000, 1001, 4000, 5000)  # of what takes bytes
ZEROS = (0, 1000, 65_000, 130_000, 131_073, 1 << 20, 4 << 20, (4 << 20) + 1, 16 << 20)  # deflated

Lie = Callable[[Generator], bytes]


def pick(random: Generator, numbers: tuple[int, ...]) -> int:
    return int(random.choice(numbers))


def side(random: Generator) -> int:
    """At least one pixel; small, mostly."""
    return max(1, pick(random, SIZES[:7] if random.random() < 0.7 else SIZES))


# -- text that expands -------------------------------------------------------------------------------------------


def xmp(random: Generator) -> bytes:
    """A packet, sound or not, of one kind of node many times, in some encoding, perhaps with a document type."""
    piece = random.choice(
        (
            *("<a/>", "<dc:title/>", "<b>t</b>&#65;", '<dc:title xml:lang="x">y</dc:title>', "<!-- -->", "<?p i?>"),
            *("<![CDATA[x]]>", '<dc:a xmlns:p="q"/>', "&e;", "<dc:d>" * 20 + "</dc:d>" * 20, "x" * 40),
        )
    )
    count = pick(random, (0, 1, 100, MAX_NODES // 2, MAX_NODES - 20, MAX_NODES, 20_000))
    depth = pick(random, (0, 1, MAX_DEPTH - 4, MAX_DEPTH, 3000))
    inner = "<dc:x>" * depth + str(piece) * count + "</dc:x>" * depth
    doctype = str(random.choice(("", "", *say.DOCTYPES.values())))
    encoding = str(random.choice(("utf-8", "utf-8", "utf-16", "utf-16-be", "iso-8859-1")))
    return say.packet(inner, doctype).encode(encoding)[: pick(random, (70_000, 300_000, 3_000_000))]


def deflated(random: Generator) -> bytes:
    """Few bytes of much; cut, damaged or whole."""
    content = zlib.compress(bytes(pick(random, ZEROS)), 9) if random.random() < 0.7 else zlib.compress(xmp(random))
    end = random.random()
    return content[:-6] if end < 0.2 else content[:-6] + b"damage" if end < 0.4 else content


def packet_in_a_file(random: Generator) -> bytes:
    kind = str(random.choice(("png", "png deflated", "jpeg", "webp", "tiff", "avif")))
    packet = xmp(random)
    return say.with_packet(kind, packet[:65_000] if kind == "jpeg" else packet)


# -- PNG -----------------------------------------------------------------------------------------------------------


def png(random: Generator) -> bytes:
    bits, colour = (int(random.choice(each)) for each in ((1, 2, 4, 8, 16, 3), (0, 2, 3, 4, 6, 5)))
    names = (b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"PLTE", b"tRNS", b"pHYs", b"eXIf", b"gAMA", b"cICP", b"acTL", b"IHDR")
    chunks = b""
    for _ in range(pick(random, (1, 2, 5, 20))):
        name = names[random.integers(len(names))]
        chunks += files.chunk(name, png_payload(random, name)) * pick(random, (1, 1, 1, 2, 50))
    chunks += files.chunk(b"quIz") * pick(random, (*REPEATS, 16_380, 16_390))
    raw = bytes(pick(random, (0, 1, 4, 100, 100_000)))
    header = files.ihdr(pick(random, SIZES), pick(random, SIZES), bits, colour)
    return files.png(header, raw, chunks[: 1 << 21])


def png_payload(random: Generator, name: bytes) -> bytes:
    head = {b"zTXt": b"k\0\0", b"iCCP": b"n" * pick(random, (0, 1, 79, 80, 5000)) + b"\0\0"}.get(name, b"")
    if name == b"iTXt":
        key = b"XML:com.adobe.xmp" if random.random() < 0.5 else b"comment"
        head = key + b"\0" + bytes((random.integers(3),)) + b"\0en\0key\0"
    if head:
        return head + deflated(random)
    if name == b"eXIf":
        return exif(random)
    return bytes(pick(random, (0, 1, 2, 4, 6, 9, 768, 769, 771, 100_000)))


# -- TIFF and Exif -------------------------------------------------------------------------------------------------

TAGS = (*say.POINTING, 254, 258, 270, 273, 278, 279, 282, 283, 305, 320, 322, 323, 324, 325, 330, 338, 339, 347)
OTHER_TAGS = (513, 514, 529, 530, 532, 700, 33_432, 34_665, 34_675, 34_853, 37_500, 50_706)
ENTRY = struct.Struct("<HHII")


def directory(random: Generator, entries: dict[int, bytes], length: int, next_one: int = 0) -> bytes:
    """A directory with some of its entries replaced by lies about types, counts and places in a file of ``length``."""
    for _ in range(pick(random, (0, 1, 2, 8))):
        tag = int(random.choice((*TAGS, *OTHER_TAGS)))
        kind, place = int(random.choice((1, 2, 3, 4, 5, 7, 12, 16, 99))), pick(random, (0, 8, length // 2, 2**31))
        entries[tag] = ENTRY.pack(tag, kind, pick(random, COUNTS), place)
    told = len(entries) if random.random() < 0.9 else pick(random, (0, 1000, 1001, 65_535))
    return struct.pack("<H", told) + b"".join(each for _, each in sorted(entries.items())) + struct.pack("<I", next_one)


def tiff(random: Generator) -> bytes:
    width, height, body = side(random), side(random), bytes(pick(random, (1, 100, 70_000, 400_000)))
    values = {256: width, 257: height, 258: int(random.choice((1, 8, 16, 12, 32))), 259: int(random.choice((1, 5, 8)))}
    values |= {262: int(random.choice((0, 1, 2, 3, 5, 6))), 273: 8, 277: int(random.choice((1, 3, 4, 7)))}
    values |= {278: pick(random, SIZES), 279: pick(random, COUNTS), 284: int(random.choice((1, 2)))}
    entries = {tag: ENTRY.pack(tag, 4, 1, value) for tag, value in values.items()}
    start = 8 + len(body)
    return struct.pack("<2sHI", b"II", 42, start) + body + directory(random, entries, start, start)


def exif(random: Generator) -> bytes:
    body = bytes(pick(random, (0, 100, 8192, 60_000)))
    start = 8 + len(body)
    count = pick(random, (0, 1, 8, 100, 1000, 1001))
    entries = {40_000 + n: ENTRY.pack(40_000 + n, 1, 8192, 8) for n in range(count)}
    entries[274] = ENTRY.pack(274, 3, 1, int(random.integers(10)))
    entries[34_665] = ENTRY.pack(34_665, 4, 1, int(random.choice((0, start, start - 2, 2**31))))
    return struct.pack("<2sHI", b"II", 42, start) + body + directory(random, entries, start)


def exif_in_a_file(random: Generator) -> bytes:
    block = exif(random)
    if random.random() < 0.5:
        return files.png(files.ihdr(1, 1), bytes(4), files.chunk(b"eXIf", block))
    return say.jpeg_with(say.segment(0xE1, b"Exif\0\0" + block[:65_000]) * pick(random, (1, 1, 2, 20)))


# -- JPEG, WebP, GIF, BMP ------------------------------------------------------------------------------------------


def jpeg(random: Generator) -> bytes:
    """Segments of every marker before a sound picture, with rubbish between; frames that tell another size."""
    parts = []
    for _ in range(pick(random, (1, 2, 10, 100))):
        marker = int(random.choice((0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xD0, 0xDA)))
        parts.append(say.segment(marker, jpeg_payload(random, marker)))
    rubbish = bytes(random.choice((0, 0xFF), pick(random, (0, 1, 100, 1 << 20, 3 << 20))).astype(np.uint8))
    whole = say.jpeg_with(*parts, *([say.segment(0xEC, b"")] * pick(random, REPEATS)), say.segment(0xEC, b""), rubbish)
    return whole + b"\xff\0" * pick(random, (0, 100, 1 << 20)) + b"\xff\xda" * pick(random, (0, 99, 100, 101, 5000))


def jpeg_payload(random: Generator, marker: int) -> bytes:
    if marker in (0xC0, 0xC2):
        sampling = bytes((1, int(random.choice((0x11, 0x22, 0x41, 0xFF))), 0)) * 3
        return struct.pack(">BHHB", 8, pick(random, SIZES), pick(random, SIZES), 3) + sampling
    if marker == 0xE2:
        numbers = bytes((pick(random, (0, 1, 2, 255)), pick(random, (0, 1, 2, 255))))
        return b"ICC_PROFILE\0" + numbers + bytes(pick(random, (0, 1, 128, 65_000)))
    if marker == 0xE1:
        return b"http://ns.adobe.com/xap/1.0/\0" + xmp(random)[:65_000]
    return bytes(pick(random, (0, 1, 5, 14, 64, 65_000)))


def webp(random: Generator) -> bytes:
    width, height = side(random), side(random)
    told = (width, height) if random.random() < 0.5 else (min(side(random), 16_383), min(side(random), 16_383))
    still = (b"VP8L", say.vp8l(min(told[0], 16_383), min(told[1], 16_383)))
    if random.random() < 0.5:
        still = (b"VP8 ", say.vp8(told[0] & 0x3FFF, told[1] & 0x3FFF))
    junk = [(b"JUNK", b"")] * pick(random, REPEATS[:7])
    others = [(b"ICCP", bytes(pick(random, ZEROS[:6]))), (b"EXIF", exif(random)), (b"XMP ", xmp(random))]
    kept = [each for each in others if random.random() < 0.4]
    if random.random() < 0.4:
        still = (b"ANMF", say.anmf(2 * int(random.integers(9)), 0, width, height, still))
    return say.riff((b"VP8X", say.vp8x(width, height, int(random.choice((0, 2, 0x10, 0x3F))))), *kept, *junk, still)


def gif(random: Generator) -> bytes:
    block = bytes((0x21, int(random.choice((0xF9, 0xFE, 0xFF, 0x01))))) + b"\4\1\0\0\1\0"
    before = block * pick(random, (*REPEATS, 16_384, 16_385)) + b"!\xfe" + b"\1x" * pick(random, REPEATS) + b"\0"
    frame = files.gif_frame(*(pick(random, SIZES) for _ in range(4)))
    return files.gif(pick(random, SIZES), pick(random, SIZES), frame * pick(random, (1, 1, 1000)), before=before)


def bmp(random: Generator) -> bytes:
    head, bits = (int(random.choice(each)) for each in ((12, 40, 56, 108, 124), (1, 4, 8, 16, 24, 32, 7)))
    told = (
        head,
        side(random),
        int(random.choice((1, -1))) * side(random),
        1,
        bits,
        int(random.choice((0, 1, 2, 3, 9))),
    )
    rest = (pick(random, (0, 2**31 - 1)), 0, 0, pick(random, COUNTS), 0)
    start = pick(random, (0, 54, 1078, 2**31))
    header = struct.pack("<IiiHHIIiiII", *told, *rest).ljust(head, b"\0")
    return (
        b"BM" + struct.pack("<IHHI", pick(random, COUNTS), 0, 0, start) + header + bytes(pick(random, (0, 4, 100_000)))
    )


# -- AVIF ----------------------------------------------------------------------------------------------------------


def stream(random: Generator, width: int, height: int) -> heif.Av1:
    """That agrees with the box, mostly."""
    if random.random() < 0.4:
        width, height = side(random), side(random)
    reduced, own = random.random() < 0.7, random.random() < 0.2
    return heif.Av1(width, height, int(random.choice((1, 1, 1, 2, 8, 9))), bool(reduced), bool(own and not reduced))


def avif(random: Generator) -> bytes:
    width, height = min(side(random), 65_535), min(side(random), 65_535)
    picture = heif.picture(stream(random, width, height), (width, height))
    if random.random() < 0.3:
        rows, columns = (int(random.choice((1, 2, 16, 17))) for _ in range(2))
        tiles = int(random.choice((rows * columns, rows * columns - 1)))
        whole = heif.grid(rows, columns, (min(width * columns, 65_535), min(height * rows, 65_535)), 2)
        return heif.avif(whole, *[picture] * tiles, before=free(random))
    entries = [picture]
    if random.random() < 0.5:
        entries.append(heif.alpha_of(heif.picture(stream(random, width, height), (side(random), side(random)))))
    return heif.avif(*entries, before=free(random), within=free(random), replaced=tables(random))


def free(random: Generator) -> bytes:
    return heif.box(b"free") * pick(random, (0, 0, 0, 1, 100, MAX_PARTS - 30, MAX_PARTS + 1))


def tables(random: Generator) -> dict[bytes, bytes]:
    """Perhaps one of the tables of ``meta``, counting what it does not have, or has too often."""
    count, words = pick(random, COUNTS) & 0xFFFF, bytes(2 * pick(random, REPEATS))
    lies = {
        b"iloc": (heif.FULL, bytes((int(random.choice((0, 0x44, 0x88))), 0)), struct.pack(">H", count), words),
        b"iinf": (
            heif.FULL,
            struct.pack(">H", count),
            heif.box(b"infe", b"\2\0\0\0", bytes(9)) * pick(random, REPEATS),
        ),
        b"iref": (heif.FULL, heif.box(b"auxl", struct.pack(">HH", 1, count), words) * pick(random, (1, 2, 100))),
        b"iprp": (
            heif.box(b"ipco", heif.box(b"free") * pick(random, REPEATS)),
            heif.box(b"ipma", heif.FULL, struct.pack(">I", pick(random, COUNTS)), words) * pick(random, (1, 2, 100)),
        ),
    }
    name = (b"iloc", b"iinf", b"iref", b"iprp")[random.integers(4)]
    return {name: heif.box(name, *lies[name])} if random.random() < 0.3 else {}


# -- HEIC ----------------------------------------------------------------------------------------------------------


def heic(random: Generator) -> bytes:
    width, height = min(side(random), 65_535), min(side(random), 65_535)
    told = (width, height) if random.random() < 0.7 else (side(random), side(random))
    picture = hevc.picture(parameter_set(random, *told), (width, height), units=units(random))
    if random.random() < 0.3:
        rows, columns = (int(random.choice((1, 2, 16, 17))) for _ in range(2))
        tiles = int(random.choice((rows * columns, rows * columns - 1)))
        whole = heif.grid(rows, columns, (min(width * columns, 65_535), min(height * rows, 65_535)), 2)
        return hevc.heic(whole, *[picture] * tiles, before=free(random))[: 8 << 20]
    entries = [picture]
    if random.random() < 0.5:
        alpha = hevc.picture(parameter_set(random, width, height), (side(random), side(random)), units=units(random))
        entries.append(heif.alpha_of(alpha))
    return hevc.heic(*entries, before=free(random), within=free(random), replaced=tables(random))


def parameter_set(random: Generator, width: int, height: int) -> hevc.Hevc:
    counts = {"chroma": (0, 1, 2, 3, 4, 99), "depth": (8, 10, 12, 16), "lists": (0, 0, 1, 2), "sets": (0, 0, 1, 64, 65)}
    counts |= {"layers": (0, 0, 6, 7)}
    told = {name: int(random.choice(each)) for name, each in counts.items()}
    points = (int(random.integers(256)), int(random.integers(256))) if random.random() < 0.5 else None
    return hevc.Hevc(width, height, **told, points=points)


def units(random: Generator) -> tuple[bytes, ...]:
    """Perhaps more of them before the picture: parameter sets, pictures, nothing."""
    unit = (parameter_set(random, side(random), side(random)).unit(), hevc.SLICE, b"")[random.integers(3)]
    return (unit[: pick(random, (1, 20, 2000))],) * pick(random, (0, 0, 0, 1, 100, 600))


# -- all -----------------------------------------------------------------------------------------------------------

LIES: dict[str, Lie] = {
    "XMP": packet_in_a_file,
    "Exif": exif_in_a_file,
    **{"PNG": png, "TIFF": tiff, "JPEG": jpeg, "WebP": webp, "GIF": gif, "BMP": bmp, "AVIF": avif, "HEIC": heic},
}


def corpus() -> dict[str, bytes]:
    """Those that were thought of, by kind."""
    found = {f"AVIF {name}": data for name, data in heif.TOO_LARGE.items()}
    found |= {f"AVIF {name}": data for name, data in (heif.CONTRADICTORY | heif.MULTIPLIED).items()}
    found |= {f"HEIC {name}": data for name, data in (hevc.TOO_LARGE | hevc.CONTRADICTORY | hevc.MULTIPLIED).items()}
    found["HEIC at its bounds"] = hevc.AT_ITS_BOUNDS
    tiles = [heif.picture(heif.SMALL)] * 256
    alphas = [heif.alpha_of(heif.picture(heif.SMALL), number) for number in range(2, 258)]
    found["AVIF tiles with alphas"] = heif.avif(heif.grid(16, 16, (128, 128), 2), *tiles, *alphas)
    for name, doctype in say.DOCTYPES.items():
        for kind in ("png", "png deflated", "jpeg", "webp", "tiff", "avif"):
            packet = say.packet("<dc:title>&f;</dc:title>", doctype).encode("utf-16")
            found[f"XMP {name} in {kind}"] = say.with_packet(kind, packet)
    found["XMP siblings"] = say.with_packet("png deflated", say.packet("<dc:a/>" * (MAX_NODES - 20)).encode())
    found["PNG text"] = files.png(files.ihdr(1, 1), bytes(4), files.chunk(b"zTXt", b"a\0\0" + say.DEFLATED[:-9]) * 1000)
    found["PNG chunks"] = files.png(files.ihdr(1, 1), bytes(4), files.chunk(b"quIz") * 16_380)
    found["PNG pixels"] = files.png(files.ihdr(1, 1), bytes(4), files.chunk(b"IDAT") * 16_370)
    found["PNG profile"] = files.png(files.ihdr(1, 1), bytes(4), files.chunk(b"iCCP", b"n\0\0" + say.DEFLATED))
    for steps in (100, 100_000):
        profile = say.chained_profile(steps)
        found[f"ICC chain of {steps} steps"] = files.saved(files.smooth(), "png", icc_profile=profile)
        ink, profile = Image.new("CMYK", (16, 16)), say.chained_profile(steps, b"CMYK")
        found[f"ICC chain of {steps} steps for ink"] = files.saved(ink, "jpeg", icc_profile=profile)
    found["TIFF values"] = say.tiff_of_many(*say.POINTING)
    found["TIFF sizes"] = say.tiff_of_many(279)
    strips = 3 * 32_768
    tags = [tag for tag in files.tiff_tags(1, 32_768, (8, 8, 8), 2, 1) if tag[0] not in (273, 278, 279)]
    tags += [(273, "I", (8,) * strips), (278, "I", (1,)), (279, "I", (1,) * strips), (284, "H", (2,))]
    found["TIFF strips"] = files.tiff(tags, b"\0" * 8)
    found["JPEG rubbish"] = say.jpeg_with(say.segment(0xEC, b""), b"\xff\0" * (1 << 20))
    found["JPEG segments"] = say.jpeg_with(*[say.segment(0xE1, b"Exif\0\0" + bytes(5000))] * 4080)
    found["JPEG scans"] = files.progressive_jpeg(5000)
    found["GIF extensions"] = files.gif(1, 1, files.gif_frame(), before=b"!\xfe" + b"\1x" * 16_000 + b"\0")
    return found


def lies(seed: int) -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(seed)
    for kind in cycle(LIES):
        yield f"lie: {kind}", LIES[kind](random)
