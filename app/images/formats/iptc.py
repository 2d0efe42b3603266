"""IPTC-IIM (Information Interchange Model 4.2): captions, keywords and copyright as news desks and old editors write
them.

They are kept as XMP, by the mapping of the IPTC Photo Metadata Standard. Locations are left out, as in XMP.
"""

import re
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from app.images.formats.base import Buffer

MAX_RESOURCES = 1000  # of Photoshop; a file has about 20
MAX_DATASETS = 2000
MAX_BLOCK = 1 << 20  # bytes that are read
MAX_VALUES = 500  # kept; few images have 50 keywords
MAX_KEPT = 32_768  # bytes of text, all together; a caption has 2,000 at most
IPTC_RESOURCE = 0x0404

_DC = ("dc", "http://purl.org/dc/elements/1.1/")
_PHOTOSHOP = ("photoshop", "http://ns.adobe.com/photoshop/1.0/")
_CORE = ("Iptc4xmpCore", "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/")
_UTF8 = b"\x1b%G"  # of dataset 1:90 (ISO 2022)


class Property(NamedTuple):
    """An XMP property. ``kind``: plain text, or an ``rdf`` container: alternatives by language, a bag or a sequence."""

    prefix: str
    namespace: str
    name: str
    kind: Literal["text", "Alt", "Bag", "Seq"] = "text"


_PROPERTIES = {  # datasets of record 2
    4: Property(*_CORE, "IntellectualGenre"),
    5: Property(*_DC, "title", "Alt"),
    10: Property(*_PHOTOSHOP, "Urgency"),
    12: Property(*_CORE, "SubjectCode", "Bag"),
    15: Property(*_PHOTOSHOP, "Category"),
    20: Property(*_PHOTOSHOP, "SupplementalCategories", "Bag"),
    25: Property(*_DC, "subject", "Bag"),
    40: Property(*_PHOTOSHOP, "Instructions"),
    55: Property(*_PHOTOSHOP, "DateCreated"),
    80: Property(*_DC, "creator", "Seq"),
    85: Property(*_PHOTOSHOP, "AuthorsPosition"),
    103: Property(*_PHOTOSHOP, "TransmissionReference"),
    105: Property(*_PHOTOSHOP, "Headline"),
    110: Property(*_PHOTOSHOP, "Credit"),
    115: Property(*_PHOTOSHOP, "Source"),
    116: Property(*_DC, "rights", "Alt"),
    120: Property(*_DC, "description", "Alt"),
    122: Property(*_PHOTOSHOP, "CaptionWriter"),
}
_DATE, _TIME = 55, 60
_FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # in XML (2.2)


def photoshop_iptc(resources: Buffer) -> bytes:
    """The IPTC block among Photoshop's image resources; damaged ones are ignored."""
    position = 0
    for _ in range(MAX_RESOURCES):
        if position + 12 > len(resources) or bytes(resources[position : position + 4]) not in (b"8BIM", b"MeSa"):
            break
        (number,) = struct.unpack_from(">H", resources, position + 4)
        position += 6 + (resources[position + 6] + 2 & ~1)  # a name, preceded by its length, padded to an even length
        if position + 4 > len(resources):
            break
        (size,) = struct.unpack_from(">I", resources, position)
        position += 4
        if number == IPTC_RESOURCE:
            return bytes(resources[position : position + min(size, MAX_BLOCK)])
        position += size + size % 2
    return b""


def xmp_properties(block: bytes) -> dict[Property, list[str]]:
    """The content of an IPTC block as XMP properties."""
    found: dict[int, list[bytes]] = {}
    charset, left, values = b"", MAX_KEPT, 0
    for record, number, value in _datasets(block):
        if (record, number) == (1, 90):
            charset = value
        if record == 2 and (number in _PROPERTIES or number == _TIME) and len(value) <= left:
            left -= len(value)
            values += 1
            found.setdefault(number, []).append(value)
        if values == MAX_VALUES:
            break
    texts = {number: [_text(value, charset) for value in each] for number, each in found.items()}
    date, time = ((texts.pop(number, None) or [""])[0] for number in (_DATE, _TIME))
    if when := _when(date, time):
        texts[_DATE] = [when]
    kept = {_PROPERTIES[number]: list(filter(None, values)) for number, values in texts.items()}
    return {each: values if each.kind in ("Bag", "Seq") else values[:1] for each, values in kept.items() if values}


def _datasets(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Record, number and value of each dataset (chapter 1.5); an extended one states the length of its length first."""
    position = 0
    for _ in range(MAX_DATASETS):
        if position + 5 > len(block) or block[position] != 0x1C:
            return
        record, number, size = struct.unpack_from(">BBH", block, position + 1)
        position += 5
        if size & 0x8000:
            wide = size & 0x7FFF
            if wide > 4:
                return
            size = int.from_bytes(block[position : position + wide])
            position += wide
        if position + size > len(block):
            return
        yield record, number, block[position : position + size]
        position += size


def _text(value: bytes, charset: bytes) -> str:
    """Many writers forget to declare UTF-8; what is not valid UTF-8 is read as Windows-1252. Characters that XML
    forbids are dropped."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("utf-8" if charset == _UTF8 else "cp1252", "replace")
    return _FORBIDDEN.sub("", text).strip()


def _when(date: str, time: str) -> str:
    """CCYYMMDD and HHMMSS±HHMM as ISO 8601; unknown parts are zeros."""
    if not (len(date) == 8 and date.isascii() and date.isdigit()) or date[:4] == "0000":
        return ""
    parts = [date[:4], *(part for part in (date[4:6], date[6:]) if part != "00")]
    digits = time[:6] + time[7:]
    if len(parts) < 3 or len(time) != 11 or time[6] not in "+-" or not (digits.isascii() and digits.isdigit()):
        return "-".join(parts)
    return f"{'-'.join(parts)}T{time[:2]}:{time[2:4]}:{time[4:9]}:{time[9:]}"
