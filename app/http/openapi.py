"""Texts of the OpenAPI document (``/openapi.json``, ``/docs``) beside those of the routes."""

from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from app.errors import EnlargerError, StartupError
from app.images.encoders import FORMATS

DESCRIPTION = """
Larger and sharper images: POST one and get it back enlarged by a neural network, streamed row by row as it is
computed.

    curl -F image=@photo.jpg 'http://127.0.0.1:8000/upscale?scale=4&format=png' -o big.png

Every error is an `application/problem+json` document (RFC 9457) with a stable `code`, and is decided before the first
byte of a 200. If something fails mid-stream the connection is aborted, so a complete response is always a complete
image. Besides the errors listed at each route there are `not_found` (404), `method_not_allowed` (405) and, for what is
not HTTP, `bad_request` (400).

Colour profiles, 16 bits, transparency, EXIF, XMP and resolution are kept; **the position where an image was taken (GPS)
is always removed**. The result's XMP says that it was enlarged (IPTC digital source type `algorithmicallyEnhanced`).
"""

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "additionalProperties": {"type": "string", "description": "Any query parameter."},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

HEADERS = {
    "Content-Disposition": ("The name of the upload and what was done to it.", 'inline; filename="photo-x4.png"'),
    "Enlarger-Model": ("The networks that ran, in order.", "fast-x4"),
    "Enlarger-Choice": (
        "What `auto` took, and why; absent if the model was named.",
        'photo;reason="a spoiled photograph: compressed at quality 62"',
    ),
    "Enlarger-Model-Sha256": ("The SHA-256 of their files.", "9f2c..."),
    "Enlarger-Strength": ("Their strength, 0 to 1, where they have one.", "0.4"),
    "Enlarger-Provider": ("ONNX Runtime's execution provider.", "CPUExecutionProvider"),
    "Enlarger-Precision": ("The precision of the networks' files.", "fp32"),
    "Enlarger-Output-Size": ("Width and height of the result.", "4096x3072"),
    "Enlarger-Metadata": (
        "What was done with it; GPS and gain maps (HDR) are always removed.",
        "keep; position removed",
    ),
    "Enlarger-Tiles": ("The number of tiles that were computed.", "24"),
    "Enlarger-Overlap": ("Pixels computed in excess of the image's own, as a share of those.", "0.08"),
    "Enlarger-Estimated-Seconds": ("Estimated compute time on an idle engine.", "2.41"),
    "X-Request-Id": ("The request's id in the log; the client's own if it sent a valid one.", "5c1f..."),
}

PICTURE: dict[str, Any] = {
    "description": "The enlarged image.",
    "content": {kind.media_type: {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS.values()},
    "headers": {
        name: {"description": text, "schema": {"type": "string"}, "example": example}
        for name, (text, example) in HEADERS.items()
    },
}


def example(description: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": value}}}


ESTIMATE = example(
    "Nothing is computed for this; the image is decoded only if `auto` has to look at it.",
    {
        "seconds": 2.41,
        "queue_seconds": 0.0,
        "models": ["photo-x4"],
        "choice": {"model": "photo", "kind": "spoiled", "reason": "a spoiled photograph: compressed at quality 62"},
        "strength": 0.5,
        "width": 4096,
        "height": 3072,
        "tiles": 24,
        "overlap": 0.08,
    },
)

_SCALE = {"scale": 4, "architecture": "fast", "provider": "CPUExecutionProvider", "precision": "fp32", "max_depth": 16}
_MODEL = {
    "name": "fast",
    "default": True,
    "summary": "Small and quick.",
    "licence": "Apache-2.0",
    "max_scale": 8,
    "strength": None,
    "scales": [{**_SCALE, "seconds_per_megapixel": 0.75, "metrics": {"Set5": {"psnr_y": 31.16}}}],
}
_JPEG = {"name": "jpeg", "media_type": "image/jpeg", "extension": ".jpg", "max_depth": 8, "alpha": False}
MODEL = example("The network at all of its scales; `strength` has a range and a default where there is one.", _MODEL)
MENU = example(
    "Everything a front end needs; a limit of null means none.",
    {
        "default": "auto",
        "auto": {
            "name": "auto",
            "kind": "choice",
            "default": True,
            "summary": "Looks at the image and takes the network that fits it.",
            "takes": [{"kind": "spoiled", "what": "a spoiled photograph", "model": "photo"}],
        },
        "models": [_MODEL],
        "scale": {"min": 1, "max": 8, "default": 4},
        "formats": [{**_JPEG, "streamed": True, "quality": {"min": 1, "max": 100, "default": 90}, "max_side": 65_500}],
        "input": {"formats": ["png", "jpeg"], "max_bytes": 67_108_864, "max_pixels": 50_000_000, "max_side": 32_768},
    },
)

NOT_READY = example(
    "Starting or draining.", {"status": "draining", "providers": ["CPUExecutionProvider"], "models": ["fast-x4"]}
)

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For people; the wording may change."},
        "code": {"type": "string", "description": "For programs; stable."},
        "request_id": {"type": "string"},
        "limit": {"type": "number", "description": "The limit that was exceeded."},
        "actual": {"type": "number", "description": "The value that was found."},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
    },
}


def kinds_of(error: type[EnlargerError]) -> Iterator[type[EnlargerError]]:
    """Every error that a client may meet, from the tree in ``app.errors``."""
    for kind in error.__subclasses__():
        if kind is not StartupError and kind.status != 499:
            yield kind
            yield from kinds_of(kind)


def catalogue() -> dict[int | str, dict[str, Any]]:
    """All errors by status, each an example under its code, as OpenAPI responses."""
    found: dict[int | str, dict[str, Any]] = defaultdict(dict)
    kinds: list[type[EnlargerError]] = [EnlargerError, *kinds_of(EnlargerError)]
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.code)):
        body = {"type": "about:blank", "title": kind.title, "status": kind.status, "detail": "..."}
        body |= {"code": kind.code, "request_id": "5c1f...", "retryable": kind.retryable}
        found[kind.status][kind.code] = {"summary": kind.title, "value": body}
    return {status: problem_response(int(status), examples) for status, examples in found.items()}


def problem_response(status: int, examples: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in examples)}",
        "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA, "examples": examples}},
    }
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        response["headers"] = {"Retry-After": {"description": "Seconds, measured.", "schema": {"type": "integer"}}}
    return response


ERRORS = catalogue()


def only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: ERRORS[status] for status in statuses}
