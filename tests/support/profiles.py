"""ICC profiles of displays, written here: primaries and a tone curve (ICC.1, "matrix/TRC")."""

import struct

import numpy as np

Matrix = tuple[tuple[float, ...], ...]

# Columns: XYZ of red, green and blue, adapted to D50 (Display P3; Adobe RGB (1998); ROMM RGB, that is ProPhoto).
P3 = ((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407))
ADOBE = ((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322), (0.01947, 0.06087, 0.74457))
PROPHOTO = ((0.79767, 0.13519, 0.03135), (0.28804, 0.71188, 0.00009), (0.00000, 0.00000, 0.82521))
D50 = (0.96420, 1.00000, 0.82491)

SRGB_CURVE = (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # parametric, type 3


def fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def curve(*shape: float) -> bytes:
    """One number: a power. More: the type and the parameters of a parametric curve."""
    if len(shape) == 1:
        return struct.pack(">4s4xIH", b"curv", 1, round(shape[0] * 256)) + b"\0\0"
    return struct.pack(">4s4xH2x", b"para", int(shape[0])) + fixed(*shape[1:])


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x04000000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + table + body


def text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + fixed(*values)


def rgb_profile(primaries: Matrix, *shape: float) -> bytes:
    tags = {b"desc": text("test"), b"cprt": text("CC0"), b"wtpt": xyz(D50)}
    for index, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = xyz(tuple(row[index] for row in primaries))
        tags[name + b"TRC"] = curve(*shape)
    return profile(b"RGB ", tags)


def table_profile(primaries: Matrix, power: float) -> bytes:
    """The same as ``rgb_profile``'s with that power, made of tables alone (ICC.1 10.10, lut16Type, to XYZ)."""
    corners = [np.array(primaries) @ [red, green, blue] for red in (0, 1) for green in (0, 1) for blue in (0, 1)]
    grid = [round(max(0, value) * 32768) for corner in corners for value in corner]  # 1.0 is 32,768
    into = [round(65535 * (x / 255) ** power) for x in range(256)] * 3
    lut = struct.pack(">4s4x4B", b"mft2", 3, 3, 2, 0) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">2H", 256, 2)
    lut += struct.pack(f">{len(into)}H", *into) + struct.pack(f">{len(grid)}H", *grid)
    lut += struct.pack(">6H", *(0, 65535) * 3)
    return profile(b"RGB ", {b"desc": text("test"), b"cprt": text("CC0"), b"wtpt": xyz(D50), b"A2B0": lut})


def gray_profile(*shape: float) -> bytes:
    return profile(b"GRAY", {b"desc": text("test"), b"cprt": text("CC0"), b"wtpt": xyz(D50), b"kTRC": curve(*shape)})


def srgb_decoded(encoded: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: 0 to 1, to light."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
