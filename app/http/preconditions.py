"""Checks before any route: HTTP/1.1 for images, no content coding, known parameters only."""

from inspect import isclass

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import HttpVersionError, UnsupportedEncodingError
from app.http.auth import Refuse
from app.upscale.parameters import unknown_parameter

PAGES = ("/", "/study")  # pages for people, to whose URLs others append parameters


class ContentCoding:
    """Refuses a body with a content coding (RFC 9110, 8.4): image files are compressed already, and inflating
    untrusted data would need another bound. ``refuse`` turns an error into a response."""

    def __init__(self, app: ASGIApp, refuse: Refuse) -> None:
        self.app, self._refuse = app, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope) if scope["type"] == "http" else None
        codings = ", ".join(request.headers.getlist("content-encoding")) if request else ""
        if request is None or is_identity(codings):
            await self.app(scope, receive, send)
            return
        response = await self._refuse(request, encoding_error("body", codings))
        await response(scope, receive, send)


def is_identity(codings: str) -> bool:
    return all(coding.strip().lower() in ("", "identity") for coding in codings.split(","))


def encoding_error(what: str, codings: str) -> UnsupportedEncodingError:
    return UnsupportedEncodingError(
        f"The {what} has the content coding {codings[:40]!r}, which is not accepted. Send the image file itself."
    )


def check_http_version(request: Request) -> None:
    """For routes that stream: in HTTP/1.0 a body of unknown length ends with the connection, so a truncated image
    would look complete."""
    if request.scope["http_version"] in ("0.9", "1.0"):
        raise HttpVersionError("Images are sent over HTTP/1.1 or later only.")


async def check_parameters(request: Request) -> None:
    """Raises ``InvalidParameterError`` for a query parameter that the route does not have, so that typos do not
    pass."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.path in PAGES or "text/html" in request.headers.get("accept", ""):
        return
    known = parameters_of(route)
    for name in request.query_params:
        if name not in known:
            raise unknown_parameter(name, known)


def parameters_of(route: APIRoute) -> list[str]:
    """The names of a route's query parameters; of a Pydantic model, those of its fields."""
    names: list[str] = []
    for field in route.dependant.query_params:
        kind = field.field_info.annotation
        names += kind.model_fields if isclass(kind) and issubclass(kind, BaseModel) else [field.alias]
    return names
