"""XMP packets (ISO 16684-1, Adobe's XMP specification part 1): what may travel on of one, and the mark of enlarging.

A packet is kept by a list of what describes the picture as a whole. What is not on it (where the picture was taken, its
orientation and size, thumbnails, edit histories, developing settings, gain maps) would be private, or no longer true.
"""

from collections.abc import Callable, Iterator
from xml.dom import Node, minidom
from xml.parsers.expat import ExpatError, ParserCreate

MAX_XMP = 65_000
"""Bytes. One APP1 segment of a JPEG holds 65,502; the mark of the enlargement needs some of them."""

MAX_DEPTH = 16

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ENHANCED = SOURCE_TYPES + "algorithmicallyEnhanced"

_XMLNS = "http://www.w3.org/2000/xmlns/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_EXIF, _TIFF = "http://ns.adobe.com/exif/1.0/", "http://ns.adobe.com/tiff/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_KEPT = frozenset(
    (
        *(_RDF, _IPTC, _EXIF, _TIFF, _XMP, "http://www.w3.org/XML/1998/namespace", "http://purl.org/dc/elements/1.1/"),
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
_BEGIN, _END = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>', b'<?xpacket end="w"?>'


def cleaned_xmp(packet: bytes | memoryview) -> bytes | None:
    """The packet less what must not travel on. One damaged, too large or with entities is as good as none."""
    document = _parsed(bytes(packet))
    if document is None:
        return None
    root = _root(document)
    for outer in (root, *root.getElementsByTagNameNS(_RDF, "RDF")):  # the first is x:xmpmeta, or an RDF itself
        _remove(outer, lambda node: _name(node) in ((_RDF, "RDF"), (_RDF, "Description")))
    for description in list(_descriptions(document)):
        for attribute in list(description.attributes.values()):
            if not (attribute.namespaceURI == _XMLNS or _worth_keeping(attribute)):
                description.removeAttributeNode(attribute)
        _remove(description, _worth_keeping)
    kept = root.toxml().encode()
    return kept if len(kept) <= MAX_XMP else None


def enlarged_xmp(kept: bytes | None) -> bytes:
    """A packet that says the picture was enhanced by an algorithm, beside what ``cleaned_xmp`` has left of its own.

    IPTC Photo Metadata Standard, "Digital Source Type". A picture that said it was generated goes on saying so.
    """
    document = _parsed(kept or _EMPTY.encode()) or minidom.parseString(_EMPTY)
    descriptions = list(_descriptions(document))
    told = list(_source_types(descriptions))
    if not any(value.removeprefix(SOURCE_TYPES) in _GENERATED for value in told):
        for description in descriptions:
            if description.hasAttributeNS(_IPTC, "DigitalSourceType"):
                description.removeAttributeNS(_IPTC, "DigitalSourceType")
            for element in [each for each in description.childNodes if each.localName == "DigitalSourceType"]:
                description.removeChild(element)
        element = document.createElementNS(_IPTC, "Iptc4xmpExt:DigitalSourceType")
        element.setAttributeNS(_XMLNS, "xmlns:Iptc4xmpExt", _IPTC)
        element.appendChild(document.createTextNode(ENHANCED))
        descriptions[0].appendChild(element)
    return _BEGIN + _root(document).toxml().encode() + _END


def _source_types(descriptions: list[minidom.Element]) -> Iterator[str]:
    for description in descriptions:
        yield description.getAttributeNS(_IPTC, "DigitalSourceType")
        for element in description.getElementsByTagNameNS(_IPTC, "DigitalSourceType"):
            yield "".join(node.data for node in element.childNodes if node.nodeType == Node.TEXT_NODE)


def _parsed(packet: bytes) -> minidom.Document | None:
    """The tree of a packet that has properties. Entities and great depth, by which small files grow, are refused."""
    packet = packet.strip(b"\0 \r\n\t")
    if len(packet) > 2 * MAX_XMP or b"<!" in packet or not _is_shallow(packet):
        return None
    try:
        document = minidom.parseString(packet)
    except (ExpatError, ValueError, LookupError):  # LookupError: an encoding that nobody knows
        return None
    if next(_descriptions(document), None) is None:
        return None
    return document


def _is_shallow(packet: bytes) -> bool:
    """Whether the packet is well-formed and nowhere deeper than ``MAX_DEPTH``: the tree is walked by recursion."""
    parser = ParserCreate()
    depth = deepest = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(packet, True)
    except (ExpatError, ValueError, LookupError):
        return False
    return deepest <= MAX_DEPTH


def _descriptions(document: minidom.Document) -> Iterator[minidom.Element]:
    """The ``rdf:Description`` elements whose attributes and children are the packet's properties."""
    for rdf in document.getElementsByTagNameNS(_RDF, "RDF"):
        for child in rdf.childNodes:
            if isinstance(child, minidom.Element) and _name(child) == (_RDF, "Description"):
                yield child


def _remove(parent: minidom.Element, kept: Callable[[minidom.Element], bool]) -> None:
    """Takes every child away that is no element or not to be kept."""
    for child in list(parent.childNodes):
        if not (isinstance(child, minidom.Element) and kept(child)):
            parent.removeChild(child)


def _worth_keeping(node: minidom.Element | minidom.Attr) -> bool:
    namespace, local = _name(node)
    if namespace == _TIFF:
        return local in _TIFF_KEPT
    return namespace in _KEPT and (namespace, local) not in _NOT_KEPT and not local.startswith("GPS")


def _name(node: minidom.Element | minidom.Attr) -> tuple[str | None, str]:
    return node.namespaceURI, node.localName or ""


def _root(document: minidom.Document) -> minidom.Element:
    assert document.documentElement is not None  # a parsed document has one
    return document.documentElement
