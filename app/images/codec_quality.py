"""How hard a lossy file was compressed, from its header: libjpeg's and libwebp's quality, 1 to 100."""

from app.images.formats import Container
from app.images.formats.base import Buffer
from app.images.formats.jpeg import segments_of

LOSSLESS = 100.0
STANDARD_LUMA = 3704  # the sum of JPEG's luma table for quality 50 (ITU-T T.81, table K.1)
DQT, SOS = 0xDB, 0xDA
VP8_HEADER = 64  # bytes that hold what is read of it


def quality_of(container: Container) -> float:
    """Of a JPEG or a lossy WebP; ``LOSSLESS`` of everything else, and of what cannot be read."""
    if container.header.format == "jpeg":
        return jpeg_quality(container)
    return webp_quality(container) if container.header.format == "webp" else LOSSLESS


def jpeg_quality(container: Container) -> float:
    """From the luma quantisation table: libjpeg scales the standard's in proportion."""
    for marker, contents in segments_of(container):
        if marker == SOS:
            break
        start = 0
        while marker == DQT and start + 65 <= len(contents):
            if contents[start] == 0:  # table 0, which is luma's, of 8 bits
                percent = max(1.0, 100 * sum(contents[start + 1 : start + 65]) / STANDARD_LUMA)
                return bounded(5000 / percent if percent > 100 else (200 - percent) / 2)
            start += 129 if contents[start] >> 4 else 65
    return LOSSLESS


def webp_quality(container: Container) -> float:
    """From the quantiser in the frame header of VP8 (RFC 6386, 9.3 to 9.6), by libwebp's formula."""
    data = b"".join(bytes(part[:VP8_HEADER]) for part in container.stream)
    start = data.find(b"VP8 ")
    if start < 0 or len(data) < start + 8 + 10 + 16:
        return LOSSLESS
    share = 1 - quantiser(data[start + 18 :]) / 127  # libwebp: quantiser = 127 * (1 - linear ** (1 / 3))
    linear = share**3
    return bounded(100 * (1.5 * linear if linear < 0.5 else (linear + 1) / 2))


def bounded(quality: float) -> float:
    return min(LOSSLESS, max(1.0, quality))


def quantiser(partition: bytes) -> int:
    """The luma quantiser of a VP8 frame, 0 to 127, from the start of its first partition."""
    bits = BoolDecoder(partition)
    bits.read(2)  # colour space, clamping
    if bits.read(1):  # segments, each with its own quantiser and filter
        new_map, new_data = bits.read(1), bits.read(1)
        if new_data:
            bits.read(1)
            for width in (7, 7, 7, 7, 6, 6, 6, 6):
                bits.optional(width + 1)
        if new_map:
            for _ in range(3):
                bits.optional(8)
    bits.read(10)  # the loop filter
    if bits.read(1) and bits.read(1):
        for _ in range(8):
            bits.optional(7)
    bits.read(2)  # partitions
    return bits.read(7)


class BoolDecoder:
    """RFC 6386, section 7, for even odds."""

    def __init__(self, data: Buffer) -> None:
        self._data, self._at = bytes(data) + bytes(VP8_HEADER), 2
        self._value, self._range, self._shifts = int.from_bytes(self._data[:2]), 255, 0

    def read(self, count: int) -> int:
        """An unsigned number of so many bits."""
        number = 0
        for _ in range(count):
            number = 2 * number + self._bit()
        return number

    def optional(self, count: int) -> None:
        """Skips a number that a flag announces."""
        if self._bit():
            self.read(count)

    def _bit(self) -> int:
        split = 1 + ((self._range - 1) * 128 >> 8)
        bit = self._value >= split << 8
        if bit:
            self._value -= split << 8
        self._range = self._range - split if bit else split
        while self._range < 128:
            self._value, self._range, self._shifts = self._value << 1, self._range << 1, self._shifts + 1
            if self._shifts == 8:
                self._shifts = 0
                self._value |= self._data[self._at]
                self._at += 1
        return int(bit)
