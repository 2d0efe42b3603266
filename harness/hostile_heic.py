"""HEIC files of headers alone, whose boxes, configurations and parameter sets tell what they like."""

import struct
from functools import partial
from typing import NamedTuple

from app.images.formats.hevc import SPS_PARTS
from app.images.formats.isobmff import MAX_PARTS
from harness import hostile_avif as heif
from harness.hostile_avif import Entry, alpha_of, box, grid, ispe

SLICE = b"\x28\x01\xaf" + bytes(20)  # the beginning of a picture that nobody can decode


class Hevc(NamedTuple):
    """A parameter set, whole from its size to its colour. ``points``: primaries and transfer, if they are told."""

    width: int
    height: int
    chroma: int = 1
    depth: int = 8
    points: tuple[int, int] | None = None
    lists: int = 0
    """Scaling lists: 0 none, 1 as they are by default, 2 told in full."""
    sets: int = 0
    """Of pictures referred to, every other one told by the one before."""
    layers: int = 0
    """Sub-layers beside the first."""

    def unit(self) -> bytes:
        bits = "0000" + f"{self.layers:03b}" + "1" + "0" * 96 + "11" * self.layers
        bits += "0" * (2 * (8 - self.layers) + 96 * self.layers) * (self.layers > 0)
        bits += ue(0, self.chroma) + "0" * (self.chroma == 3) + ue(self.width, self.height) + "1" + ue(0, 0, 0, 0)
        bits += ue(self.depth - 8, self.depth - 8, 4) + "1" + ue(1, 0, 0) * (self.layers + 1) + ue(0, 3, 0, 3, 0, 0)
        bits += "0" if self.lists == 0 else "10" if self.lists == 1 else "11" + self._lists()
        bits += "11" + "1" + "01110111" + ue(0, 2) + "0"  # PCM
        bits += ue(self.sets) + "".join(self._set(index) for index in range(self.sets))
        bits += "1" + ue(2) + "000000001" * 2 + "11"
        if self.points:
            bits += "1" + "1" + f"{255:08b}" + "0" * 32 + "11" + "1" + "1011"
            bits += "1" + "".join(f"{each:08b}" for each in (*self.points, 1))
        else:
            bits += "0"
        raw = bits + "0" + "1"
        raw += "0" * (-len(raw) % 8)
        return b"\x42\x01" + escaped(bytes(int(raw[at : at + 8], 2) for at in range(0, len(raw), 8)))

    @staticmethod
    def _lists() -> str:
        """The first of each size like another, the rest told in full, with steps of both signs."""
        lists = ""
        for size in range(4):
            lists += "0" + ue(0)
            lists += ("1" + ue(7) * (size > 1) + ue(3, 4) * (min(64, 16 << 2 * size) // 2)) * (1 if size == 3 else 5)
        return lists

    @staticmethod
    def _set(index: int) -> str:
        """One of two pictures before and one after; or that one moved by two, of which the last is dropped."""
        if index % 2 == 0:
            return "0" * (index > 0) + ue(2, 1) + (ue(0) + "1") * 3
        return "1" + "1" + ue(1) + "1" + "01" + "1" + "00"

    def configuration(self) -> bytes:
        return configuration((self.unit(),), self.chroma, self.depth)


def ue(*values: int) -> str:
    """9.2: as many zeros as bits follow the first one."""
    return "".join("0" * (len(f"{value + 1:b}") - 1) + f"{value + 1:b}" for value in values)


def escaped(data: bytes) -> bytes:
    """7.3.1.1: no start code appears."""
    out = bytearray()
    for byte in data:
        if out[-2:] == b"\0\0" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def configuration(units: tuple[bytes, ...], chroma: int = 1, depth: int = 8) -> bytes:
    """``hvcC`` (ISO/IEC 14496-15, 8.3.3.1.2) of one array of parameter sets."""
    head = b"\1" + bytes(15) + bytes((0xFC | chroma, 0xF8 | (depth - 8), 0xF8 | (depth - 8), 0, 0, 0x0F, 1))
    listed = b"".join(struct.pack(">H", len(each)) + each for each in units)
    return box(b"hvcC", head, b"\x21", struct.pack(">H", len(units)), listed)


def item(*units: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(each)) + each for each in units)


def picture(hevc: Hevc, told: tuple[int, int] | None = None, *more: bytes, units: tuple[bytes, ...] = ()) -> Entry:
    width, height = told or (hevc.width, hevc.height)
    return Entry(b"hvc1", item(*units, SLICE), (ispe(width, height), hevc.configuration(), *more))


heic = partial(heif.avif, brands=b"heic\0\0\0\0mif1heic")


LARGE, SMALL = Hevc(10_000, 10_000), Hevc(64, 64)
TOO_LARGE = {
    "picture": heic(picture(LARGE)),
    "side": heic(picture(Hevc(40_000, 64))),
    "alpha": heic(picture(SMALL), alpha_of(picture(LARGE))),
    "tile": heic(grid(1, 2, (128, 64), 2), picture(SMALL), picture(LARGE)),
    "tiles together": heic(grid(2, 8, (64, 64), 2), *[picture(Hevc(3072, 3072))] * 16),
    "deep samples": heic(picture(Hevc(7040, 7040, chroma=3, depth=12)), alpha_of(picture(Hevc(7040, 7040, 0, 12)))),
}
CONTRADICTORY = {
    "stream larger": heic(picture(LARGE, (64, 64))),
    "stream smaller": heic(picture(Hevc(56, 64), (64, 64))),
    "second parameter set": heic(
        Entry(b"hvc1", item(SLICE), (ispe(64, 64), configuration((SMALL.unit(), LARGE.unit()))))
    ),
    "set among the pictures": heic(picture(SMALL, None, units=(LARGE.unit(),))),
    "alpha's stream": heic(picture(SMALL), alpha_of(picture(LARGE, (64, 64)))),
    "tile's stream": heic(grid(1, 2, (128, 64), 2), picture(SMALL), picture(LARGE, (64, 64))),
    "two pictures": heic(picture(SMALL, None, units=(SLICE,))),
    "no picture": heic(Entry(b"hvc1", b"", (ispe(64, 64), SMALL.configuration()))),
    "no configuration": heic(Entry(b"hvc1", item(SLICE), (ispe(64, 64),))),
    "no parameter set": heic(Entry(b"hvc1", item(SLICE), (ispe(64, 64), configuration(())))),
    "no size": heic(Entry(b"hvc1", item(SLICE), (SMALL.configuration(),))),
    "set cut short": heic(Entry(b"hvc1", item(SLICE), (ispe(64, 64), configuration((SMALL.unit()[:22],))))),
    "set of zeros": heic(Entry(b"hvc1", item(SLICE), (ispe(64, 64), configuration((b"\x42\x01" + bytes(1500),))))),
    "item missing": heic(grid(1, 1, (64, 64), 7)),
    "grid of another size": heic(grid(1, 2, (128, 64), 2)._replace(properties=(ispe(120, 64),)), *[picture(SMALL)] * 2),
}
MULTIPLIED = {
    "units": heic(picture(SMALL, units=(b"",) * (MAX_PARTS + 1))),
    "parameter sets": heic(
        Entry(b"hvc1", item(SLICE), (ispe(64, 64), configuration((SMALL.unit(),) * (MAX_PARTS // SPS_PARTS))))
    ),
    "parameter sets among the pictures": heic(picture(SMALL, units=(SMALL.unit(),) * (MAX_PARTS // SPS_PARTS))),
    "parameter sets of tiles": heic(
        grid(16, 16, (1024, 1024), 2),
        *(
            Entry(b"hvc1", item(SLICE), (ispe(64, 64), configuration((Hevc(64, 64, points=(n, n)).unit(),) * 3)))
            for n in range(250)
        ),
        *[picture(SMALL)] * 6,
    ),
    "boxes": heic(picture(SMALL), before=box(b"free"), within=box(b"free") * (MAX_PARTS + 1)),
}
AT_ITS_BOUNDS = heic(picture(Hevc(64, 64, 3, 12, (1, 13), lists=2, sets=64, layers=6)))
