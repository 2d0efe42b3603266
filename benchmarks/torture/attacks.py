"""Hostile requests, without end and always the same ones for a seed: what strangers send by mistake and by intent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import urlencode

import numpy as np

from benchmarks.torture import semantics
from harness import bodies as api
from harness import files

ASKED = {"model": "bicubic", "scale": "2"}
MULTIPART = "multipart/form-data; boundary=xx"


@dataclass(frozen=True)
class Attack:
    """One POST to ``/upscale``."""

    kind: str
    body: bytes
    parameters: dict[str, str] = field(default_factory=lambda: ASKED)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return f"/upscale?{urlencode(self.parameters)}"


def bombs() -> list[Attack]:
    """Small files that ask for much: pixels, inflated text, scans, segments, frames, directories."""
    zeros = bytes(4)
    inflating = {
        "iCCP": files.chunk(b"iCCP", b"profile\0\0" + files.BOMB),
        "zTXt": files.chunk(b"zTXt", b"comment\0\0" + files.BOMB),
        "iTXt": files.chunk(b"iTXt", b"comment\0\1\0en\0key\0" + files.BOMB),
        "chunks": files.chunk(b"quIz") * 40_000,
    }
    found = {name: files.png(files.ihdr(1, 1), zeros, payload) for name, payload in inflating.items()}
    found |= {f"huge {name}": data for name, data in files.HUGE.items()}
    signature = files.png(files.ihdr(16, 16), b"")[:33]
    found["IDAT"] = signature + files.chunk(b"IDAT", files.BOMB) + files.chunk(b"IEND")
    found["scans"] = files.progressive_jpeg(5000)
    found["segments"] = b"\xff\xd8" + b"\xff\xec\0\x02" * 5000
    found["directories"] = b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65535)
    found["run-length"] = files.bmp_rle8(7000, 7000, b"\0\0" * 7000)
    found["extensions"] = files.gif(1, 1, files.gif_frame(), before=b"!\xfe\0" * 20_000)
    found["frames"] = files.saved(files.frames()[0], "gif", save_all=True, append_images=files.frames() * 300)
    found |= semantics.corpus()
    return [Attack(f"bomb: {name}", data) for name, data in found.items()]


def cut_files() -> Iterator[Attack]:
    """Small files of every format, cut at every byte."""
    for name, data in files.SMALL_FILES.items():
        for length in range(len(data)):
            yield Attack(f"cut: {name}", data[:length])


def bad_bodies() -> Iterator[Attack]:
    for headers, body, _ in api.BODIES.values():
        yield Attack("multipart", body, headers=headers)
    for name, body in api.FOREIGN.items():
        yield Attack(f"foreign: {name}", body)


def bad_parameters() -> Iterator[Attack]:
    for name, value, *_ in api.PARAMETERS:
        yield Attack("parameter", api.PICTURE, {**ASKED, name: value})


def mutations(seed: int) -> Iterator[Attack]:
    """Small files with bytes changed, cut out, doubled or zeroed; a tenth as multipart bodies, mutated as a whole."""
    random = np.random.default_rng(seed)
    for name in cycle(files.SMALL_FILES):
        data = files.SMALL_FILES[name]
        if random.random() < 0.1:
            body = api.mutated(api.part(api.FILE, data), random)
            yield Attack(f"mutated form: {name}", body, headers={"content-type": MULTIPART})
        else:
            yield Attack(f"mutated: {name}", api.mutated(data, random))


def liars(seed: int) -> Iterator[Attack]:
    return (Attack(kind, body) for kind, body in semantics.lies(seed))


def attacks(count: int, seed: int) -> Iterator[Attack]:
    """So many of all kinds: each cut once (of few, an even share), and of every 50 a bomb, seven files that lie and
    three bad requests."""
    cuts = list(cut_files())
    step = max(1, round(len(cuts) / (count / 4)))
    rest = iter(cuts[::step])
    others, dear, mutated = cycle([*bad_bodies(), *bad_parameters()]), cycle(bombs()), mutations(seed)
    lies = liars(seed)
    for number in range(count):
        if number % 50 == 0:
            yield next(dear)
        elif number % 50 in (10, 20, 30):
            yield next(others)
        elif number % 7 == 1:
            yield next(lies)
        else:
            yield next(rest, None) or next(mutated)
