"""The format of the result (RFC 9110, 12.5.1) and its file name (RFC 6266, RFC 8187)."""

from collections.abc import Sequence
from urllib.parse import quote

from app.images.encoders import FORMATS
from app.upscale.upscaler import DEFAULT_FORMAT

MEDIA_TYPES = {kind.media_type: kind.name for kind in FORMATS.values()}
MAX_NAME = 100  # characters of the upload's name


def candidates(accept: str, own: str) -> list[str]:
    """The formats to try if none is requested: those in ``Accept``, then the source's ``own``, then PNG."""
    named, refused = accepted(accept)
    fallbacks = [name for name in (own, DEFAULT_FORMAT) if name in FORMATS and FORMATS[name].media_type not in refused]
    return [*named, *fallbacks] or [DEFAULT_FORMAT]


def accepted(accept: str) -> tuple[list[str], set[str]]:
    """The formats in ``Accept``, best first up to the first wildcard, and the media types it rules out."""
    ranges, refused = [], set()
    for position, part in enumerate(accept.split(",")):
        media_type, *attributes = (piece.strip().lower() for piece in part.split(";"))
        weight = weight_of(attributes)
        if weight > 0:
            ranges.append((-weight, position, media_type))
        else:
            refused.add(media_type)
    named = []
    for _, _, media_type in sorted(ranges):
        if media_type in ("*/*", "image/*"):
            break
        if media_type in MEDIA_TYPES:
            named.append(MEDIA_TYPES[media_type])
    return named, refused


def weight_of(attributes: Sequence[str]) -> float:
    """The ``q`` of a media range; an invalid one rules it out."""
    weights = [attribute[2:] for attribute in attributes if attribute.startswith("q=")]
    try:
        return float(weights[0]) if weights else 1.0
    except ValueError:
        return 0.0


def content_disposition(upload: str | None, what: str, format: str) -> str:
    """``photo.jpg`` enlarged by "x4" is ``photo-x4.png``: shown inline by a browser, and saved under that name.

    Only the last path component of the upload's name counts, without its extension and without control characters.
    """
    last = (upload or "").replace("\\", "/").rsplit("/", 1)[-1]
    stem = last.rsplit(".", 1)[0] if "." in last[1:] else last
    stem = "".join(c for c in stem if c.isprintable()).strip(" .")[:MAX_NAME] or "picture"
    name = f"{stem}-{what}{FORMATS[format].extension}"
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in name)
    if plain == name:
        return f'inline; filename="{name}"'
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
