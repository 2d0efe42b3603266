"""Files that are hostile by what they say: text that expands, counts that multiply, sizes that disagree."""

import struct
import zlib

from PIL import Image

from harness.files import chunk, saved, smooth, tiff, tiff_tags

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"


def packet(properties: str = "", doctype: str = "", attributes: str = "") -> str:
    return (
        f'{doctype}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:dc="{DC}" {attributes}>{properties}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
    )


ENTITIES = (
    "<!DOCTYPE x [<!ENTITY a '"
    + "a" * 50
    + "'>"
    + "".join(f"<!ENTITY {name} '{f'&{before};' * 20}'>" for before, name in zip("abcde", "bcdef", strict=True))
)
DOCTYPES = {
    "entities": ENTITIES + "]>",
    "parameter entities": "<!DOCTYPE x [<!ENTITY % p '<!ENTITY f \"f\">'> %p;]>",
    "outside": '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
    "plain": "<!DOCTYPE x>",
    "attributes by default": "<!DOCTYPE x [<!ATTLIST dc:title a CDATA 'aaaaaaaaaaaaaaaa'>]>",
}


def with_packet(container: str, content: bytes) -> bytes:
    """A picture of 9 x 7 that carries an XMP packet."""
    if container.startswith("png"):
        deflated = container != "png"
        text = (
            b"XML:com.adobe.xmp\0" + bytes((deflated,)) + b"\0\0\0" + (zlib.compress(content) if deflated else content)
        )
        plain = saved(smooth((9, 7)), "png")
        return plain[:33] + chunk(b"iTXt", text) + plain[33:]
    if container == "tiff":
        exif = Image.Exif()
        exif[700] = content
        return saved(smooth((9, 7)), "tiff", exif=exif)
    return saved(smooth((9, 7)), container, xmp=content)


DEFLATED = zlib.compress(bytes(8 << 20), 9)


MILLIONS = 5_000_000
POINTING = [256, 257, 259, 262, 266, 274, 277, 284, 292, 293, 296, 317, 531]


def tiff_of_many(*tags: int, kind: int = 4, value: int = 1) -> bytes:
    """A TIFF of one pixel whose ``tags`` each point at the same millions of values."""
    plain = tiff([each for each in tiff_tags(1, 1, (8,), 1, 1) if each[0] not in tags], b"\x09")
    (at,) = struct.unpack_from("<I", plain, 4)
    (count,) = struct.unpack_from("<H", plain, at)
    entries = [plain[at + 2 + 12 * n : at + 14 + 12 * n] for n in range(count)]
    end = len(plain) + 12 * (len(tags) + count) + 6
    entries += [struct.pack("<HHII", tag, kind, MILLIONS, end) for tag in tags]
    table = struct.pack("<H", len(entries)) + b"".join(
        sorted(entries, key=lambda entry: struct.unpack("<H", entry[:2]))
    )
    body = plain[:4] + struct.pack("<I", len(plain)) + plain[8:] + table + bytes(4)
    size = {1: "B", 3: "H", 4: "I"}[kind]
    return body.ljust(end, b"\0") + struct.pack(f"<{size}", value) * MILLIONS


def jpeg_with(*segments: bytes) -> bytes:
    data = saved(smooth(), "jpeg")
    return data[:2] + b"".join(segments) + data[2:]


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<4sI", name, len(payload)) + payload + b"\0" * (len(payload) % 2) for name, payload in chunks
    )
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WEBP") + body


def vp8x(width: int, height: int, flags: int = 0) -> bytes:
    return bytes((flags, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def vp8l(width: int, height: int) -> bytes:
    return struct.pack("<BI", 0x2F, (width - 1) | (height - 1) << 14) + bytes(20)


def vp8(width: int, height: int) -> bytes:
    return b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(20)


def anmf(left: int, top: int, width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    numbers = (left // 2, top // 2, width - 1, height - 1, 0)
    return b"".join(number.to_bytes(3, "little") for number in numbers) + b"\0" + riff(*chunks)[12:]


# -- ICC profiles ------------------------------------------------------------------------------------------------


def chained_profile(steps: int, space: bytes = b"RGB ", **more: bytes) -> bytes:
    """A profile whose way to XYZ is a chain of so many steps, all but the first of them the same bytes.

    ``more``: other tags, by their names.
    """
    channels = {b"RGB ": 3, b"CMYK": 4}[space]

    def matrix(inputs: int) -> bytes:
        unit = [float(row == column) for row in range(3) for column in range(inputs)]
        return b"matf\0\0\0\0" + struct.pack(f">HH{len(unit) + 3}f", inputs, 3, *unit, 0, 0, 0)

    first, other, start = matrix(channels), matrix(3), 16 + 8 * steps
    table = struct.pack(">II", start, len(first)) + struct.pack(">II", start + len(first), len(other)) * (steps - 1)
    chain = b"mpet\0\0\0\0" + struct.pack(">HHI", channels, 3, steps) + table + first + other
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061)
    tags = {b"D2B0": chain, b"D2B1": chain, b"wtpt": white} | {name.encode(): tag for name, tag in more.items()}
    listed, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        listed += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(tag))
        body += tag + b"\0" * (-len(tag) % 4)
    head = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"lcms", 0x04300000, b"prtr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return head.ljust(128, b"\0") + listed + body
