"""Reads the headers of video streams (AV1, HEVC) bit by bit."""

import struct

from app.images.formats.base import Buffer


class Bits:
    """Unsigned numbers of any width, most significant bit first. Raises ``struct.error`` past the end of ``data``."""

    def __init__(self, data: Buffer) -> None:
        self._bits, self._left = int.from_bytes(data), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise struct.error("the header of the stream ends early")
        return self._bits >> self._left & (1 << count) - 1

    def read_exp_golomb(self) -> int:
        """HEVC's ue(v) (H.265, 9.2) and AV1's uvlc() (4.10.3): some zeros, a one, and as many bits as zeros."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros) if zeros < 32 else (1 << 32) - 1
