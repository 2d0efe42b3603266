"""Errors to problem documents (RFC 9457): the only place where exceptions become responses."""

import math
from http import HTTPStatus
from typing import Any, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app.errors import (
    EnlargerError,
    HttpVersionError,
    OverloadedError,
    RangeError,
    ShuttingDownError,
    UnsupportedEncodingError,
)
from app.telemetry.record import record_of
from app.upscale.parameters import UpscaleParameters, parameter_error

PROBLEM = "application/problem+json"


def problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """An RFC 9457 document; members that do not apply are left out."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    body["request_id"] = request.scope["state"]["request_id"]
    record_of(request.scope).code = code
    body.update({name: value for name, value in more.items() if value is not None})
    return JSONResponse(body, status, headers, media_type=PROBLEM)


async def on_enlarger_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EnlargerError)
    headers = {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, ShuttingDownError):
        headers["Retry-After"] = "1"  # another replica, or this one's successor
    elif isinstance(error, UnsupportedEncodingError):
        headers["Accept-Encoding"] = "identity"  # RFC 9110, 15.5.16
    elif isinstance(error, HttpVersionError):
        headers |= {"Upgrade": "HTTP/1.1", "Connection": "Upgrade, close"}  # RFC 9110, 15.5.22
    elif isinstance(error, RangeError):
        headers["Content-Range"] = f"bytes */{error.limit}"  # RFC 9110, 15.5.17
    if error.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return problem(
        request,
        error.status,
        error.code,
        error.title,
        error.detail,
        headers,
        limit=error.limit,
        actual=error.actual,
        retryable=error.retryable,
    )


async def on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parameters = get_type_hints(request.scope["endpoint"]).get("query", UpscaleParameters)
    return await on_enlarger_error(request, parameter_error(parameters, error.errors()[0]))


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers) if error.headers else None
    if status == HTTPStatus.METHOD_NOT_ALLOWED and headers:
        methods = headers.get("Allow", headers.get("allow", ""))
        methods = (
            "GET, HEAD" if methods in ("GET", "HEAD") else methods
        )  # two routes; Starlette reports only the first one's
        headers = {"Allow": f"{methods}, OPTIONS"}
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    code = status.phrase.lower().replace(" ", "_")
    return problem(request, status.value, code, status.phrase, f"{status.phrase}: {request.url.path}", headers)


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """An unexpected error: logged in full, reported to the client only by its id."""
    # Starlette answers this outside of every middleware, the access log included.
    headers = {"X-Request-Id": request.scope.get("state", {}).get("request_id", "")}
    detail = "Something went wrong; the details are in the log."
    return problem(request, 500, "internal_error", "Internal error", detail, headers)


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(EnlargerError, on_enlarger_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)
