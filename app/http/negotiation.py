"""Which format the result has (RFC 9110, 12.5.1), and what its file is called (RFC 6266, RFC 8187)."""

from collections.abc import Sequence
from urllib.parse import quote

from app.errors import EnlargerError
from app.http.parameters import UpscaleParameters
from app.images.decoder import SourceImage
from app.images.encoders import FORMATS, create_encoder
from app.upscale.pipeline import Output, picture_of

DEFAULT_FORMAT = "png"
MEDIA_TYPES = {kind.media_type: name for name, kind in FORMATS.items()}
MAX_NAME = 100  # characters of the upload's own


def choose_output(parameters: UpscaleParameters, accept: str, source: SourceImage, size: tuple[int, int]) -> Output:
    """The format asked for, or an error that says why it cannot hold the result.

    Where none is asked for: the first that can hold it of those ``Accept`` names, then of the source's own and PNG.
    """
    if parameters.format:
        return parameters.output(parameters.format)
    named, refused = accepted(accept)
    own = [name for name in (source.format, DEFAULT_FORMAT) if name in FORMATS]
    candidates = [*named, *(name for name in own if FORMATS[name].media_type not in refused)] or [DEFAULT_FORMAT]
    for name in candidates:
        output = parameters.output(name)
        try:
            create_encoder(name, picture_of(source, output, size), output.options)
        except EnlargerError:
            continue
        return output
    return parameters.output(candidates[-1])  # whose refusal will be told


def accepted(accept: str) -> tuple[list[str], set[str]]:
    """The formats named in ``Accept``, best first up to the first wildcard, and the media types it rules out."""
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
    """The ``q`` of a media range; one that is no number rules it out."""
    weights = [attribute[2:] for attribute in attributes if attribute.startswith("q=")]
    try:
        return float(weights[0]) if weights else 1.0
    except ValueError:
        return 0.0


def content_disposition(upload: str | None, what: str, format: str) -> str:
    """``photo.jpg`` enlarged by "x4" is ``photo-x4.png``: shown by a browser, and saved under that name.

    Only the last part of the upload's own name counts, without its extension and without control characters.
    """
    last = (upload or "").replace("\\", "/").rsplit("/", 1)[-1]
    stem = last.rsplit(".", 1)[0] if "." in last[1:] else last
    stem = "".join(c for c in stem if c.isprintable()).strip(" .")[:MAX_NAME] or "picture"
    name = f"{stem}-{what}{FORMATS[format].extension}"
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in name)
    if plain == name:
        return f'inline; filename="{name}"'
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
