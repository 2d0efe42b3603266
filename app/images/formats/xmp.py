"""XMP packets (ISO 16684-1, Adobe's XMP specification part 1): which properties are kept, and the mark of
enlargement.

What is kept is an allowlist of properties that describe the image as a whole. Everything else (location,
orientation, size, thumbnails, edit histories, develop settings, gain maps) would be private or no longer true.
"""

from collections.abc import Iterator, Mapping, Sequence

from app.images.formats.base import Buffer
from app.images.formats.iptc import Property
from app.images.formats.xmltree import Element, Name, parse_xml

MAX_XMP = 65_000
"""Bytes. One APP1 segment of a JPEG holds 65,502; the mark of the enlargement needs some of them."""

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ENHANCED = SOURCE_TYPES + "algorithmicallyEnhanced"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_EXIF, _TIFF = "http://ns.adobe.com/exif/1.0/", "http://ns.adobe.com/tiff/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_XML = "http://www.w3.org/XML/1998/namespace"
_KEPT = frozenset(
    (
        *(_RDF, _IPTC, _EXIF, _TIFF, _XMP, _XML, "http://purl.org/dc/elements/1.1/"),
        *("http://ns.adobe.com/xap/1.0/rights/", "http://ns.adobe.com/photoshop/1.0/", "http://cipa.jp/exif/1.0/"),
        *("http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", "http://ns.useplus.org/ldf/xmp/1.0/"),
        *("http://creativecommons.org/ns#", "http://ns.adobe.com/lightroom/1.0/", "http://ns.adobe.com/exif/1.0/aux/"),
    )
)
_NOT_KEPT = frozenset(
    (
        *((_EXIF, name) for name in ("PixelXDimension", "PixelYDimension", "MakerNote", "NativeDigest")),
        *((_IPTC, name) for name in ("LocationCreated", "LocationShown")),
        (_XMP, "Thumbnails"),
        ("http://ns.adobe.com/photoshop/1.0/", "DocumentAncestors"),
    )
)
_TIFF_KEPT = frozenset(("Make", "Model", "Artist", "Copyright", "ImageDescription", "Software"))
_GENERATED = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic")
"""Source types that say more than "enhanced" and stay true of the enlargement."""

_EMPTY = (
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
    '<rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>'
)
_SOURCE_TYPE = (_IPTC, "DigitalSourceType")
_BEGIN, _END = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>', b'<?xpacket end="w"?>'


def cleaned_xmp(packet: Buffer) -> bytes | None:
    """The packet without what must not be kept. One that is damaged, too large or has a document type is ignored."""
    root = _parsed(packet)
    if root is None:
        return None
    for outer in _outer(root):
        outer.attributes = {name: value for name, value in outer.attributes.items() if _worth_keeping(name)}
        inner = (_RDF, "Description" if outer.name[:2] == (_RDF, "RDF") else "RDF")
        outer.children = [each for each in outer.elements if each.name[:2] == inner]
    for description in _descriptions(root):
        kept = {name: value for name, value in description.attributes.items() if _worth_keeping(name)}
        description.attributes = kept
        description.children = [each for each in description.elements if _worth_keeping(each.name)]
        for each in description.elements:
            _remove_private(each)
    cleaned = root.to_xml().encode()
    return cleaned if len(cleaned) <= MAX_XMP else None


def enlarged_xmp(kept: bytes | None) -> bytes:
    """A packet that marks the image as enhanced by an algorithm, in addition to the properties kept by
    ``cleaned_xmp``.

    IPTC Photo Metadata Standard, "Digital Source Type". An image that was marked as generated stays marked so.
    """
    root = _parsed(kept or b"") or _parsed(_EMPTY.encode())
    assert root is not None  # _EMPTY is a packet
    descriptions = _descriptions(root)
    if not any(value.removeprefix(SOURCE_TYPES) in _GENERATED for value in _source_types(descriptions)):
        for each in descriptions:
            each.attributes = {name: value for name, value in each.attributes.items() if name[:2] != _SOURCE_TYPE}
            each.children = [
                child for child in each.children if isinstance(child, str) or child.name[:2] != _SOURCE_TYPE
            ]
        element = Element(Name(*_SOURCE_TYPE, "Iptc4xmpExt"), namespaces={"Iptc4xmpExt": _IPTC})
        element.children.append(ENHANCED)
        descriptions[0].children.append(element)
    return _BEGIN + root.to_xml().encode() + _END


def with_properties(packet: bytes | None, properties: Mapping[Property, Sequence[str]]) -> bytes | None:
    """The packet plus those properties that it does not have yet, as far as there is room.

    A bag that it already has is extended by the new values.
    """
    if not properties:
        return packet
    root = _parsed(packet or b"") or _parsed(_EMPTY.encode())
    assert root is not None  # _EMPTY is a packet
    room = MAX_XMP - len(root.to_xml().encode())
    for each, values in properties.items():
        holder, added = _missing(root, each, values)
        size = sum(len(element.to_xml().encode()) for element in added)
        if size <= room:
            room -= size
            holder.children += added
    return root.to_xml().encode()


def _missing(root: Element, wanted: Property, values: Sequence[str]) -> tuple[Element, list[Element]]:
    """The elements to add to the packet for a property, and where."""
    name, descriptions = (wanted.namespace, wanted.name), _descriptions(root)
    has = [child for each in descriptions for child in each.elements if child.name[:2] == name]
    if not has and not any(name == attribute[:2] for each in descriptions for attribute in each.attributes):
        return descriptions[0], [_element(wanted, values)]
    bags = [bag for each in has for bag in each.elements if bag.name[:2] == (_RDF, "Bag")]
    if wanted.kind != "Bag" or not bags:
        return descriptions[0], []
    listed = {each.text for each in bags[0].elements}
    return bags[0], [_listed(value, bags[0].name.prefix) for value in values if value not in listed]


def _element(wanted: Property, values: Sequence[str]) -> Element:
    element = Element(Name(wanted.namespace, wanted.name, wanted.prefix), namespaces={wanted.prefix: wanted.namespace})
    if wanted.kind == "text":
        element.children += values
        return element
    container = Element(Name(_RDF, wanted.kind, "rdf"), namespaces={"rdf": _RDF})
    language = {Name(_XML, "lang", "xml"): "x-default"} if wanted.kind == "Alt" else {}
    container.children += [_listed(value, "rdf", language) for value in values]
    element.children.append(container)
    return element


def _listed(value: str, prefix: str, attributes: dict[Name, str] | None = None) -> Element:
    element = Element(Name(_RDF, "li", prefix), attributes)
    element.children.append(value)
    return element


def _source_types(descriptions: list[Element]) -> Iterator[str]:
    for description in descriptions:
        yield from (value for name, value in description.attributes.items() if name[:2] == _SOURCE_TYPE)
        yield from (each.text for each in description.elements if each.name[:2] == _SOURCE_TYPE)


def _parsed(packet: Buffer) -> Element | None:
    """The tree of a packet that has properties."""
    if len(packet) > 2 * MAX_XMP:
        return None
    root = parse_xml(bytes(packet).strip(b"\0 \r\n\t"))
    return root if root is not None and _descriptions(root) else None


def _outer(root: Element) -> list[Element]:
    """The elements around the descriptions: ``x:xmpmeta`` and the ``rdf:RDF`` in it, or an ``rdf:RDF`` alone."""
    is_rdf = root.name[:2] == (_RDF, "RDF")
    return [root] if is_rdf else [root, *(each for each in root.elements if each.name[:2] == (_RDF, "RDF"))]


def _descriptions(root: Element) -> list[Element]:
    """The ``rdf:Description`` elements whose attributes and children are the packet's properties."""
    return [
        each
        for outer in _outer(root)
        if outer.name[:2] == (_RDF, "RDF")
        for each in outer.elements
        if each.name[:2] == (_RDF, "Description")
    ]


def _remove_private(element: Element) -> None:
    """Removes from a kept property what must not be kept, at any depth."""
    element.attributes = {name: value for name, value in element.attributes.items() if not _private(name)}
    element.children = [each for each in element.children if isinstance(each, str) or not _private(each.name)]
    for each in element.elements:
        _remove_private(each)


def _worth_keeping(name: Name) -> bool:
    if name.namespace == _TIFF:
        return name.local in _TIFF_KEPT
    return name.namespace in _KEPT and not _private(name)


def _private(name: Name) -> bool:
    return name[:2] in _NOT_KEPT or name.local.startswith("GPS")
