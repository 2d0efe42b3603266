"""Bodies and parameters that a client should not send."""

import numpy as np

from harness.pictures import encode

BOUNDARY = {"content-type": "multipart/form-data; boundary=xx"}


def part(disposition: str, data: bytes, end: bytes = b"\r\n--xx--\r\n") -> bytes:
    return f"--xx\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + data + end


PICTURE = encode(np.zeros((8, 8, 3), np.uint8))


LONG_PICTURE = PICTURE + bytes(10_000)


FILE = 'name="image"; filename="a.png"'


BODIES = {
    "no boundary": ({"content-type": "multipart/form-data"}, part(FILE, PICTURE), "bad_multipart"),
    "empty boundary": ({"content-type": "multipart/form-data; boundary="}, part(FILE, PICTURE), "bad_multipart"),
    "another boundary": ({"content-type": "multipart/form-data; boundary=yy"}, part(FILE, PICTURE), "bad_multipart"),
    "not multipart": (BOUNDARY, b"something else", "bad_multipart"),
    "ends early": (BOUNDARY, part(FILE, PICTURE, end=b""), "bad_multipart"),
    "ends in a field": (BOUNDARY, part(FILE, PICTURE, b"\r\n") + part('name="model"', b"x", b""), "bad_multipart"),
    "part without name": (BOUNDARY, part('filename="a.png"', PICTURE), "bad_multipart"),
    "long text": (BOUNDARY, part('name="model"', b"x" * 5000), "bad_multipart"),
    "150 fields": (BOUNDARY, part('name="f"', b"1", end=b"\r\n") * 150 + b"--xx--\r\n", "bad_multipart"),
    "no parts": (BOUNDARY, b"--xx--\r\n", "missing_image"),
    "another field": (BOUNDARY, part('name="picture"; filename="a.png"', PICTURE), "missing_image"),
    "no file": (BOUNDARY, part('name="model"', b"bicubic"), "missing_image"),
    "no file name": (BOUNDARY, part('name="image"', PICTURE), "missing_image"),
    "no file name, long": (BOUNDARY, part('name="image"', LONG_PICTURE), "missing_image"),
    "text": ({"content-type": "text/plain"}, b"hello", "missing_image"),
    "url-encoded": ({"content-type": "application/x-www-form-urlencoded"}, b"image=x", "missing_image"),
    "two files": (BOUNDARY, part(FILE, PICTURE, end=b"\r\n") + part(FILE, PICTURE), "too_many_images"),
    "two names": (BOUNDARY, part(FILE, PICTURE, b"\r\n") + part('name="b"; filename="b"', b"b"), "too_many_images"),
    "empty": ({"content-type": "image/png"}, b"", "empty_image"),
    "empty, no type": ({}, b"", "empty_image"),
    "empty file": (BOUNDARY, part(FILE, b""), "empty_image"),
}


FOREIGN = {
    "SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>",
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "PSD": b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\1\0\0\0\1\0\x08\0\3",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "random": np.random.default_rng(0).bytes(5000),
    "one byte": b"\x89",
    "zeros": bytes(1000),
}


PARAMETERS = [
    ("model", "nope", 404, "unknown_model", "bicubic"),
    ("model", "../bicubic", 404, "unknown_model", "bicubic"),
    ("model", "x" * 3000, 404, "unknown_model", "bicubic"),
    ("scale", "0", 422, "invalid_parameter", "greater than or equal to 1"),
    ("scale", "0.5", 422, "invalid_parameter", "greater than or equal to 1"),
    ("scale", "-2", 422, "invalid_parameter", "greater than or equal to 1"),
    ("scale", "8.01", 422, "invalid_parameter", "less than or equal to 8"),
    ("scale", "inf", 422, "invalid_parameter", "less than or equal to 8"),
    ("scale", "1e400", 422, "invalid_parameter", "less than or equal to 8"),
    ("scale", "4" * 400, 422, "invalid_parameter", "less than or equal to 8"),
    ("scale", "NaN", 422, "invalid_parameter", ""),
    ("scale", "twice", 422, "invalid_parameter", "number"),
    ("strength", "-0.5", 422, "invalid_parameter", "greater than or equal to 0"),
    ("strength", "2", 422, "invalid_parameter", "less than or equal to 1"),
    ("strength", "NaN", 422, "invalid_parameter", "finite number"),
    ("strength", "strong", 422, "invalid_parameter", "number"),
    ("strength", "0.5", 422, "invalid_parameter", "bicubic-x4 has none"),
    ("width", "0", 422, "invalid_parameter", "greater than or equal to 1"),
    ("height", "-8", 422, "invalid_parameter", "greater than or equal to 1"),
    ("height", "NaN", 422, "invalid_parameter", "integer"),
    ("quality", "0", 422, "invalid_parameter", "greater than or equal to 1"),
    ("quality", "-1", 422, "invalid_parameter", "greater than or equal to 1"),
    ("quality", "101", 422, "invalid_parameter", "less than or equal to 100"),
    ("quality", "NaN", 422, "invalid_parameter", "integer"),
    ("quality", "best", 422, "invalid_parameter", "integer"),
    ("format", "gif", 422, "unknown_format", "png, jpeg, webp, avif, tiff"),
    ("background", "red", 422, "invalid_parameter", "[0-9a-fA-F]{6}"),
    ("background", "fffffff", 422, "invalid_parameter", "[0-9a-fA-F]{6}"),
    ("metadata", "some", 422, "invalid_parameter", "'keep' or 'strip'"),
    ("modle", "bicubic", 422, "invalid_parameter", "model, strength, scale, width, height, format, quality"),
]


def mutated(image: bytes, random: np.random.Generator) -> bytes:
    """Bytes changed, cut out, doubled, zeroed or cut off, one to four times."""
    data = bytearray(image)
    for _ in range(random.integers(1, 5)):
        start = int(random.integers(0, len(data)))
        stop = min(len(data), start + int(random.integers(1, 64)))
        match random.integers(0, 6):
            case 0 | 1:
                data[start] = random.integers(0, 256)
            case 2:
                data[start] ^= 1 << int(random.integers(0, 8))
            case 3 if len(data) > 64:
                del data[start:stop]
            case 4:
                data[start:start] = data[start:stop]
            case _:
                data[start:stop] = bytes(stop - start)
    return bytes(data if random.random() < 0.8 else data[: random.integers(1, len(data) + 1)])
