"""A picture through a running service, with nothing but Python: ``python3 try_image.py URL``. Fails by an exception."""

import struct
import sys
import time
import urllib.error
import urllib.request
import zlib

WIDTH, HEIGHT, SCALE = 64, 48, 4
PATIENCE = 600  # seconds until it must be ready


def png() -> bytes:
    """A colour gradient."""
    rows = b"".join(b"\0" + bytes(v for x in range(WIDTH) for v in (x * 4, y * 5, 128)) for y in range(HEIGHT))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def wait_until_ready(url: str) -> float:
    started = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10):
                return time.monotonic() - started
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() - started > PATIENCE:
                raise
            time.sleep(0.2)


def main(url: str) -> None:
    print(f"ready after {wait_until_ready(url):.1f} s")
    request = urllib.request.Request(f"{url}/upscale?scale={SCALE}&format=png", png(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        result, headers = response.read(), response.headers
    size = struct.unpack(">II", result[16:24])
    assert size == (WIDTH * SCALE, HEIGHT * SCALE), size
    assert result.endswith(b"IEND\xaeB`\x82"), "the picture has no end"
    print(
        f"{WIDTH} x {HEIGHT} to {size[0]} x {size[1]} by {headers['enlarger-model']} on {headers['enlarger-provider']}"
    )


if __name__ == "__main__":
    main(sys.argv[1])
