"""Parses small untrusted XML documents into a tree, in time and memory proportional to their size.

Hooks of expat refuse whatever multiplies: document types, without which no entity can be declared, in any encoding;
more than ``MAX_NODES`` nodes; more than ``MAX_DEPTH`` levels, because the tree is walked recursively.
"""

from collections.abc import Iterator
from typing import NamedTuple
from xml.parsers.expat import ExpatError, ParserCreate
from xml.sax.saxutils import escape, quoteattr

MAX_DEPTH = 16
MAX_NODES = 4096
"""Elements, attributes, namespaces and pieces of text. An hour's edit history of a photo has about 2,000."""


class Name(NamedTuple):
    """A resolved name; ``prefix`` is the document's abbreviation of the namespace."""

    namespace: str
    local: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}:{self.local}" if self.prefix else self.local


class Element:
    """``namespaces`` are those declared here, by prefix; ``children`` are elements and text in order."""

    __slots__ = ("attributes", "children", "name", "namespaces")

    def __init__(
        self, name: Name, attributes: dict[Name, str] | None = None, namespaces: dict[str, str] | None = None
    ) -> None:
        self.name, self.attributes, self.namespaces = name, attributes or {}, namespaces or {}
        self.children: list[Element | str] = []

    @property
    def elements(self) -> list["Element"]:
        return [child for child in self.children if isinstance(child, Element)]

    @property
    def text(self) -> str:
        return "".join(child for child in self.children if isinstance(child, str))

    def to_xml(self) -> str:
        return "".join(self._pieces())

    def _pieces(self) -> Iterator[str]:
        declared = (
            f" {'xmlns:' if prefix else 'xmlns'}{prefix}={quoteattr(each)}" for prefix, each in self.namespaces.items()
        )
        attributes = (f" {name}={quoteattr(value)}" for name, value in self.attributes.items())
        yield f"<{self.name}{''.join(declared)}{''.join(attributes)}>"
        for child in self.children:
            if isinstance(child, str):
                yield escape(child)
            else:
                yield from child._pieces()
        yield f"</{self.name}>"


class _RefusedError(Exception):
    """Raised by a hook, through expat, to the caller of ``parse_xml``."""


class _Builder:
    """expat's handlers, which build the tree."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._namespaces: dict[str, str] = {}
        self._nodes = 0
        self._names: dict[str, Name] = {}

    def refuse_doctype(self, *_: object) -> None:
        raise _RefusedError

    def declare(self, prefix: str | None, namespace: str | None) -> None:
        self._count(1)
        self._namespaces[prefix or ""] = namespace or ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count(1 + len(attributes))
        if len(self._open) == MAX_DEPTH:
            raise _RefusedError
        named = {self._name(each): value for each, value in attributes.items()}
        element = Element(self._name(name), named, self._namespaces)
        self._namespaces = {}
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        self._count(1)
        self._open[-1].children.append(text)

    def _name(self, name: str) -> Name:
        """``namespace local prefix``, as expat gives it; only the local name if there is no namespace."""
        if name not in self._names:
            parts = name.split(" ")
            self._names[name] = Name("", name) if len(parts) == 1 else Name(*parts)
        return self._names[name]

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _RefusedError


def parse_xml(document: bytes) -> Element | None:
    """The root of a document; None if it is damaged or refused (see the module)."""
    builder = _Builder()
    parser = ParserCreate(namespace_separator=" ")
    parser.namespace_prefixes = True
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.refuse_doctype
    parser.StartNamespaceDeclHandler = builder.declare
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(document, True)
    except (_RefusedError, ExpatError, ValueError, LookupError):  # LookupError: an unknown encoding
        return None
    return builder.root
