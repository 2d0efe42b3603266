"""From one place to another: which pictures of a bucket or folder are still to be enlarged, and what each becomes."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.errors import SourceError
from app.jobs.store import Store, is_url, told


@dataclass(frozen=True)
class Copy:
    """Keys below the two places."""

    source: str
    target: str
    size: int


@dataclass(frozen=True)
class Plan:
    copies: list[Copy]
    skipped: int
    """How many are there already."""


def open_source(place: str, suffixes: Iterable[str]) -> tuple[Store, str | None]:
    """A bucket, a folder or one picture in either: the store, and the key of the one."""
    parent, _, name = place.rstrip("/").rpartition("/")
    if is_url(place):
        single = PurePosixPath(name).suffix.lower() in suffixes and not place.endswith("/")
        return (Store.open(parent), name) if single else (Store.open(place), None)
    path = Path(place)
    if not path.exists():
        raise SourceError(f"There is no {told(place)}.")
    return (Store.open(str(path)), None) if path.is_dir() else (Store.open(str(path.parent)), path.name)


def plan_copies(
    source: Store, only: str | None, sink: Store, suffixes: Iterable[str], extension_for: Callable[[str], str]
) -> Plan:
    """Every picture that has no result yet. ``extension_for`` gives that of a picture's result, by its own suffix.

    Two that would get one name keep their own suffixes in it.
    """
    found = [source.find(only)] if only else source.list()
    pictures = sorted(
        (stored for stored in found if stored and PurePosixPath(stored.key).suffix.lower() in suffixes),
        key=lambda stored: stored.key,
    )
    plain = {stored.key: renamed(stored.key, extension_for) for stored in pictures}
    names = Counter(plain.values())
    there = {stored.key for stored in sink.list()}
    copies = []
    for stored in pictures:
        target = plain[stored.key]
        if names[target] > 1:
            target = stored.key + PurePosixPath(target).suffix
        copies.append(Copy(stored.key, target, stored.size))
    left = [copy for copy in copies if copy.target not in there]
    return Plan(left, len(copies) - len(left))


def renamed(key: str, extension_for: Callable[[str], str]) -> str:
    path = PurePosixPath(key)
    return str(path.with_suffix(extension_for(path.suffix.lower())))
