"""Boxes and items of the ISO base media file format (ISO/IEC 14496-12) as HEIF has them (ISO/IEC 23008-12)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from app.errors import CorruptImageError, TooComplexError
from app.images.formats.base import joined

MAX_PARTS = 8192
"""Boxes, items, pieces of items, properties of items, references and units of streams, all together. A still image
has some twenty, one in 256 tiles with alpha in as many 5,900. A few bytes make one; lists of lists multiply them."""


class Box(NamedTuple):
    """``start``: of the payload, in the file."""

    name: bytes
    payload: memoryview
    start: int


class Property(NamedTuple):
    """``essential``: a reader that does not know the property must not show the item."""

    box: Box
    essential: bool


class Item(NamedTuple):
    """The type of an item, the position of its bytes in the file, and its properties in order."""

    kind: bytes
    extents: tuple[tuple[int, int], ...]
    properties: tuple[Property, ...]

    def property(self, name: bytes) -> memoryview | None:
        """The payload of the first property of that name."""
        return next((each.box.payload for each in self.properties if each.box.name == name), None)


class Reference(NamedTuple):
    kind: bytes
    source: int
    targets: tuple[int, ...]


class Meta:
    """The ``meta`` box of a file, parsed: the primary item, all items, and the references between them.

    Raises ``CorruptImageError``, ``TooComplexError`` or ``struct.error``.
    """

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self._parts = 0
        meta = next((box for box in self.boxes(self.data) if box.name == b"meta"), None)
        if meta is None:
            raise CorruptImageError("The file has no meta box")
        inner = {box.name: box for box in self.boxes(meta.payload[4:], meta.start + 4)}
        parts = {name: box.payload for name, box in inner.items()}
        if not {b"pitm", b"iinf", b"iloc", b"iprp"} <= set(parts):
            raise CorruptImageError("The file lacks the items of its image")
        wide = parts[b"pitm"][0]
        (self.primary,) = struct.unpack_from(">I" if wide else ">H", parts[b"pitm"], 4)
        self._item_data = inner.get(b"idat")
        belonging = self._properties(parts[b"iprp"])
        locations = self._locations(parts[b"iloc"])
        self.items = {
            number: Item(kind, locations.get(number, ()), belonging.get(number, ()))
            for number, kind in self._kinds(parts[b"iinf"])
        }
        self.references = list(self._references(parts[b"iref"])) if b"iref" in parts else []

    def count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            raise TooComplexError("The file has too many boxes, items and extents", limit=MAX_PARTS)

    def boxes(self, view: memoryview, start: int = 0) -> Iterator[Box]:
        """The boxes one after another: size, name, contents. Size 1 means that a longer size follows, 0 the rest of
        the view.

        ``start``: the position of ``view`` in the file, if the caller needs positions.
        """
        position = 0
        while position + 8 <= len(view):
            self.count(1)
            size, name = struct.unpack_from(">I4s", view, position)
            head = 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", view, position + 8)
                head = 16
            size = size or len(view) - position
            if size < head:
                raise CorruptImageError("A box is smaller than its own headerer")
            yield Box(name, view[position + head : position + size], start + position + head)
            position += size

    def item(self, number: int) -> Item:
        if number not in self.items:
            raise CorruptImageError("The file refers to an item that it does not have")
        return self.items[number]

    def targets(self, kind: bytes, source: int) -> tuple[int, ...]:
        """The items that an item refers to by references of that kind, in order."""
        return next((each.targets for each in self.references if (each.kind, each.source) == (kind, source)), ())

    def content(self, item: Item, most: int) -> memoryview:
        """The bytes of an item; empty if they are more than ``most`` or outside the file."""
        if sum(length for _, length in item.extents) > most:
            return memoryview(b"")
        views = [self.data[offset : offset + length] for offset, length in item.extents]
        return views[0] if len(views) == 1 else joined(views).getbuffer()

    def _properties(self, iprp: memoryview) -> dict[int, tuple[Property, ...]]:
        """The properties of each item (HEIF 9.3), by their numbers (from 1) in the list of all properties."""
        listed: list[Box] = []
        belonging: dict[int, tuple[Property, ...]] = {}
        for box in list(self.boxes(iprp)):
            if box.name == b"ipco":
                listed = list(self.boxes(box.payload))
            if box.name == b"ipma":
                version, wide = box.payload[0], box.payload[3] & 1
                (count,) = struct.unpack_from(">I", box.payload, 4)
                self.count(count)
                position = 8
                for _ in range(count):
                    (item,) = struct.unpack_from(">I" if version else ">H", box.payload, position)
                    position += 4 if version else 2
                    number = box.payload[position]
                    self.count(number)
                    found = struct.unpack_from(f">{number}{'H' if wide else 'B'}", box.payload, position + 1)
                    position += 1 + number * (2 if wide else 1)
                    essential = 0x8000 if wide else 0x80
                    belonging[item] = tuple(
                        Property(listed[(index & ~essential) - 1], bool(index & essential))
                        for index in found
                        if 0 < index & ~essential <= len(listed)
                    )
        return belonging

    def _kinds(self, iinf: memoryview) -> Iterator[tuple[int, bytes]]:
        for box in self.boxes(iinf[8 if iinf[0] else 6 :]):
            if box.name == b"infe" and box.payload[0] >= 2:
                layout = ">IH4s" if box.payload[0] >= 3 else ">HH4s"
                number, _, kind = struct.unpack_from(layout, box.payload, 4)
                yield number, kind

    def _locations(self, iloc: memoryview) -> dict[int, tuple[tuple[int, int], ...]]:
        """Item -> (offset, length) of its extents in the file (ISOBMFF 8.11.3); those in other files are left out."""
        version, numbers = iloc[0], _Numbers(iloc, 6)
        sizes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0
        offset_size, length_size, base_size, index_size = sizes
        found = {}
        items = numbers.read(4 if version == 2 else 2)
        self.count(items)
        for _ in range(items):
            item = numbers.read(4 if version == 2 else 2)
            method = numbers.read(2) & 15 if version else 0
            numbers.read(2)  # data reference: this file
            base, count = numbers.read(base_size), numbers.read(2)
            self.count(count)
            extents = []
            for _ in range(count):
                numbers.read(index_size)
                extents.append((base + numbers.read(offset_size), numbers.read(length_size)))
            if method in (0, 1):
                found[item] = tuple(extents if method == 0 else self._within_item_data(extents))
        return found

    def _within_item_data(self, extents: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Extents within the ``idat`` box as extents of the file."""
        if self._item_data is None:
            raise CorruptImageError("The file lacks the data of an item")
        for offset, length in extents:
            if offset + length > len(self._item_data.payload):
                raise CorruptImageError("The data of an item ends early")
            yield self._item_data.start + offset, length

    def _references(self, iref: memoryview) -> Iterator[Reference]:
        wide = iref[0]
        for box in self.boxes(iref[4:]):
            source, count = struct.unpack_from(">IH" if wide else ">HH", box.payload)
            self.count(count)
            targets = struct.unpack_from(f">{count}{'I' if wide else 'H'}", box.payload, 6 if wide else 4)
            yield Reference(box.name, source, targets)


class _Numbers:
    """Integers of any number of bytes, one after another."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data, self._position = data, position

    def read(self, size: int) -> int:
        self._position += size
        if self._position > len(self._data):
            raise struct.error("a table ends early")
        return int.from_bytes(self._data[self._position - size : self._position])
