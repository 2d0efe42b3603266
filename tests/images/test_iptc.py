"""IPTC-IIM becomes XMP: what a caption writer wrote decades ago travels on with the picture."""

import io
import struct
from xml.etree import ElementTree

import httpx
import pytest
import tifffile
from PIL import Image

from app.images.decoder import DecodeLimits, decode
from app.images.formats.iptc import photoshop_iptc, xmp_properties

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DC = "{http://purl.org/dc/elements/1.1/}"
PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
UTF8 = (1, 90, b"\x1b%G")
LIMITS = DecodeLimits()


def iim(*datasets: tuple[int, int, bytes]) -> bytes:
    return b"".join(
        struct.pack(">BBBH", 0x1C, record, number, len(value)) + value for record, number, value in datasets
    )


def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    pascal = bytes((len(name),)) + name
    pascal += b"\0" * (len(pascal) % 2)
    return b"8BIM" + struct.pack(">H", number) + pascal + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)


def jpeg(block: bytes, xmp: bytes = b"", before: bytes = b"", split: int | None = None) -> bytes:
    """A JPEG with Photoshop's resources, ``split`` over two segments."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 60, 30)).save(file, "JPEG", xmp=xmp)
    resources = before + resource(0x0404, block)
    parts = [resources[:split], resources[split:]] if split else [resources]
    segments = (b"\xff\xed" + struct.pack(">H", len(part) + 16) + b"Photoshop 3.0\0" + part for part in parts)
    return file.getvalue()[:2] + b"".join(segments) + file.getvalue()[2:]


def properties(packet: bytes | None) -> dict[str, list[str]]:
    """The texts of each property, whatever it is held in."""
    assert packet is not None
    root = ElementTree.fromstring(packet)
    found: dict[str, list[str]] = {}
    for description in root.iter(f"{RDF}Description"):
        for element in description:
            listed = [each.text or "" for each in element.iter(f"{RDF}li")]
            found.setdefault(element.tag, []).extend(listed or [element.text or ""])
    return found


def read(data: bytes) -> dict[str, list[str]]:
    return properties(decode(data, LIMITS).xmp)


ALL = iim(
    UTF8,
    (2, 5, b"Titel"),
    (2, 25, b"one"),
    (2, 25, "zwölf".encode()),
    (2, 25, b"one hundred"),
    (2, 80, b"A. Author"),
    (2, 80, b"B. Author"),
    (2, 85, b"Staff"),
    (2, 105, b"Head & line <b>"),
    (2, 110, b"Agency"),
    (2, 115, b"Source"),
    (2, 40, b"No use after 2030"),
    (2, 55, b"20260131"),
    (2, 60, b"235959+0130"),
    (2, 116, "© Zoë".encode()),
    (2, 120, b"A caption\nof two lines"),
    (2, 122, b"Writer"),
    (2, 90, b"Springfield"),
    (2, 92, b"742 Evergreen Terrace"),
    (2, 101, b"USA"),
    (3, 10, b"not of record 2"),
)
EXPECTED = {
    f"{DC}title": ["Titel"],
    f"{DC}subject": ["one", "zwölf", "one hundred"],
    f"{DC}creator": ["A. Author", "B. Author"],
    f"{PHOTOSHOP}AuthorsPosition": ["Staff"],
    f"{PHOTOSHOP}Headline": ["Head & line <b>"],
    f"{PHOTOSHOP}Credit": ["Agency"],
    f"{PHOTOSHOP}Source": ["Source"],
    f"{PHOTOSHOP}Instructions": ["No use after 2030"],
    f"{PHOTOSHOP}DateCreated": ["2026-01-31T23:59:59+01:30"],
    f"{DC}rights": ["© Zoë"],
    f"{DC}description": ["A caption\nof two lines"],
    f"{PHOTOSHOP}CaptionWriter": ["Writer"],
}


@pytest.mark.parametrize(
    "data",
    [
        jpeg(ALL),
        jpeg(ALL, before=resource(0x03ED, bytes(16)) + resource(0x0422, b"odd", b"a name")),
        jpeg(ALL, split=100),
    ],
    ids=["alone", "among others", "in two segments"],
)
def test_every_property_is_carried_and_no_place(data: bytes) -> None:
    assert read(data) == EXPECTED


@pytest.mark.parametrize(("tag", "block"), [(33723, ALL), (34377, resource(0x0404, ALL))], ids=["IPTC", "Photoshop"])
def test_of_a_tiff(tag: int, block: bytes) -> None:
    file = io.BytesIO()
    pixels = [[[9, 9, 9]] * 4] * 4
    tifffile.imwrite(
        file, pixels, dtype="uint8", photometric="rgb", metadata=None, extratags=[(tag, 7, len(block), block, True)]
    )
    assert read(file.getvalue()) == EXPECTED


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Zoë".encode(), "Zoë"),  # UTF-8 that nobody announced
        ("Zoë".encode("latin-1"), "Zoë"),
        ("„Zoë“".encode("cp1252"), "„Zoë“"),
        (b"a\0b\x07c", "abc"),
        (b"  spaces \0", "spaces"),
    ],
)
def test_texts_of_any_encoding(value: bytes, text: str) -> None:
    assert read(jpeg(iim((2, 120, value))))[f"{DC}description"] == [text]


@pytest.mark.parametrize(
    ("date", "time", "when"),
    [
        (b"20260131", b"", "2026-01-31"),
        (b"20260100", b"", "2026-01"),
        (b"20260000", b"120000+0000", "2026"),
        (b"20260131", b"120000-0800", "2026-01-31T12:00:00-08:00"),
        (b"20260131", b"noon", "2026-01-31"),
        (b"00000000", b"", None),
        (b"31.1.26", b"", None),
    ],
)
def test_dates(date: bytes, time: bytes, when: str | None) -> None:
    found = read(jpeg(iim((2, 120, b"x"), (2, 55, date), (2, 60, time))))
    assert found.get(f"{PHOTOSHOP}DateCreated") == ([when] if when else None)


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:p="http://ns.adobe.com/photoshop/1.0/"
 p:Headline="From XMP"><dc:subject><rdf:Bag><rdf:li>one</rdf:li><rdf:li>two</rdf:li></rdf:Bag></dc:subject>
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">XMP's</rdf:li></rdf:Alt></dc:rights>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_what_xmp_says_itself_goes_first_and_keywords_add_up() -> None:
    block = iim((2, 105, b"From IIM"), (2, 116, b"IIM's"), (2, 25, b"two"), (2, 25, b"three"), (2, 120, b"A caption"))
    xmp = decode(jpeg(block, XMP.encode()), LIMITS).xmp
    found = properties(xmp)
    assert found[f"{DC}subject"] == ["one", "two", "three"]
    assert found[f"{DC}rights"] == ["XMP's"]
    assert found[f"{DC}description"] == ["A caption"]
    assert f"{PHOTOSHOP}Headline" not in found  # as an element: it stays the attribute it was
    assert xmp is not None
    assert b"From XMP" in xmp
    assert b"From IIM" not in xmp


@pytest.mark.parametrize(
    "block",
    [
        ALL[:-3],
        b"\0" + ALL,
        iim((2, 120, b"x"))[:4],
        b"\x1c\2\x78\xff\xff" + b"x" * 100,
        b"\x1c\2\x78\x80\x09" + bytes(9) + b"x",
        b"\x1c\2\x78\x80\x04\xff\xff\xff\xff" + b"x",
        b"",
    ],
)
def test_damage_neither_fails_nor_invents(block: bytes) -> None:
    for each in (photoshop_iptc(resource(0x0404, block)), block):
        assert set(map(tuple, xmp_properties(each).values())) <= set(map(tuple, EXPECTED.values()))
    decode(jpeg(block), LIMITS)


def test_an_extended_dataset() -> None:
    block = b"\x1c\2\x78\x80\x04" + struct.pack(">I", 5) + b"hello" + iim((2, 25, b"kept"))
    assert sorted(xmp_properties(block).values()) == [["hello"], ["kept"]]


def test_what_is_kept_is_bounded() -> None:
    """All of it fits one segment of a JPEG, beside what else an XMP packet says."""
    many = iim(*((2, 25, b"<&>%d" % number) for number in range(20_000)))
    source = decode(jpeg(iim((2, 120, b"A caption")) + many[:64_000]), LIMITS)
    assert source.xmp is not None
    assert len(source.xmp) < 65_000
    assert properties(source.xmp)[f"{DC}description"] == ["A caption"]
    assert sum(map(len, xmp_properties(many))) < 100_000


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "avif", "tiff"])
def test_through_the_service(client: httpx.Client, fmt: str) -> None:
    parameters = {"model": "bicubic", "scale": 2, "format": fmt}
    kept = client.post("/upscale", content=jpeg(ALL), params=parameters)
    stripped = client.post("/upscale", content=jpeg(ALL), params={**parameters, "metadata": "strip"})
    packet = kept.content[kept.content.index(b"<x:xmpmeta") : kept.content.index(b"</x:xmpmeta>") + 12]
    assert EXPECTED.items() <= properties(packet).items()
    assert b"A caption" not in stripped.content
