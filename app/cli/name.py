"""Where each result goes: no input and no other result is overwritten, and a second run finds the same names."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from app.cli.find import RESULT, STREAM, Source, stem_of
from app.errors import EnlargerError
from app.images.encoders import BY_SUFFIX, FORMATS
from app.images.formats import SUFFIXES

NOT_WRITTEN = {*SUFFIXES, ".heic", ".heif", ".jxl", ".jp2", ".ico", ".psd", ".svg", ".pdf"} - set(BY_SUFFIX)
NAME_BYTES = 255  # the longest name on most file systems


class Names:
    """Names for the results of the sources. ``output``: the value of ``-o``, if any.

    ``file`` is the one file, pipe or stream for a single result; ``folder`` is where several results go, or None if
    each goes next to its source.
    """

    def __init__(self, named: Sequence[Path], sources: Sequence[Source], output: Path | None, is_folder: bool) -> None:
        several = len(named) > 1 or named[0].is_dir() or is_folder or bool(output and output.is_dir())
        self.file = None if several else output
        self.folder = output if several else None
        if several and output == STREAM:
            raise EnlargerError("Standard output takes only one image; name a folder with -o.")
        if several and output and output.suffix.lower() in SUFFIXES and not output.is_dir():
            raise EnlargerError(f"{output} is a file name, but there are several images; name a folder.")
        self._taken = {key_of(source.path) for source in sources}
        if self.file and self.file != STREAM and key_of(self.file) in self._taken:
            raise EnlargerError(f"{sources[0].path} would overwrite {output}; give its output another name.")
        for path in named:
            if self.folder and path.is_dir() and os.path.realpath(path) == os.path.realpath(self.folder):
                raise EnlargerError(
                    f"The results would end up among the images of {path}; name another folder with -o."
                )
        self._stems = Counter(self._stem(source) for source in sources)

    def format(self) -> str | None:
        """The format that the single result's name asks for."""
        suffix = self.file.suffix.lower() if self.file else ""
        if suffix in NOT_WRITTEN:
            raise EnlargerError(f"{suffix} cannot be written; choose one of: {', '.join(FORMATS)}.")
        return BY_SUFFIX.get(suffix)

    def target(self, source: Source, format: str) -> Path:
        """Where the result in that format goes. Call it once for every source, in their order."""
        if self.file:
            return self.file
        if source.is_stream and not self.folder:
            return STREAM
        folder = self.folder / source.relative.parent if self.folder else source.path.parent
        for stem, ending in self._candidates(source, format):
            target = folder / fitted(stem, ending + FORMATS[format].extension)
            if key_of(target) not in self._taken:
                self._taken.add(key_of(target))
                return target
        raise AssertionError("there is always another number")

    def _candidates(self, source: Source, format: str) -> Iterator[tuple[str, str]]:
        """Stems and what follows them, without the extension. If sources differ only in their suffix, the one in the
        result's format gets the short name: ``a.png`` and ``a.jpg`` as PNG become ``a.png`` and ``a.jpg.png``."""
        tail = "" if self.folder else RESULT
        short, whole = stem_of(source.relative), source.relative.name
        shared = self._stems[self._stem(source)] > 1 and BY_SUFFIX.get(source.path.suffix.lower()) != format
        yield from ((stem, tail) for stem in ((whole, short) if shared else (short, whole)))
        yield from ((whole, f"-{number}{tail}") for number in count(2))

    def _stem(self, source: Source) -> tuple[str, str]:
        where = source.relative.parent if self.folder else source.path.parent
        return os.fspath(where), stem_of(source.relative)


def fitted(stem: str, ending: str) -> str:
    """A file name short enough for any file system; whatever is cut off the stem is replaced by a digest of the
    whole."""
    room, data = NAME_BYTES - len(ending), os.fsencode(stem)
    if len(data) > room:
        digest = hashlib.sha256(data).hexdigest()[:8]
        stem = f"{data[: room - 9].decode(errors='ignore')}~{digest}"
    return stem + ending


def key_of(path: Path) -> str:
    """The same for all names of one file."""
    real = os.path.realpath(path)
    return real.casefold() if sys.platform == "darwin" else real
