"""Reads the headers of video streams (AV1, HEVC) bit by bit."""

from app.errors import CorruptImageError
from app.images.formats.base import Buffer


class Bits:
    """Unsigned numbers of any width, most significant bit first. Past the end ``CorruptImageError``."""

    def __init__(self, data: Buffer) -> None:
        self._bits, self._position = f"{int.from_bytes(data):0{8 * len(data)}b}" if data else "", 0

    def skip(self, count: int) -> None:
        self._position += count
        if self._position > len(self._bits):
            raise CorruptImageError("A header of the stream is truncated")

    def read(self, count: int) -> int:
        self.skip(count)
        return int(self._bits[self._position - count : self._position] or "0", 2)

    def read_exp_golomb(self) -> int:
        """HEVC's ue(v) (H.265, 9.2), AV1's uvlc() (4.10.3): zeros, a one, and as many bits. HEVC's se(v) is as long."""
        zeros = self._bits.find("1", self._position) - self._position
        if not 0 <= zeros <= 32:
            raise CorruptImageError("A header of the stream holds an impossible number")
        self.skip(zeros)
        return self.read(zeros + 1) - 1

    def skip_exp_golomb(self, count: int) -> None:
        for _ in range(count):
            self.read_exp_golomb()

    def read_count(self, most: int) -> int:
        number = self.read_exp_golomb()
        if number > most:
            raise CorruptImageError("A header of the stream counts too many")
        return number
