"""Around every request: its id, and one line of log when it is answered."""

import logging
import time
import uuid
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("enlarger.api")


class RequestIds:
    """Gives every request an id, its own ``X-Request-Id`` if that is sane, and logs one line when it is answered.

    Pure ASGI: Starlette's ``BaseHTTPMiddleware`` would hide disconnects from the routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_from(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 500  # what a bug before the answer is answered with, out of sight of here

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            log.info("%s %s %d %.3f s id=%s", scope["method"], scope["path"], status, seconds, request_id)


def request_id_from(headers: Iterable[tuple[bytes, bytes]]) -> str:
    told = next((value for name, value in headers if name == b"x-request-id"), b"").decode("latin-1")
    sane = 0 < len(told) <= 64 and all(c.isascii() and (c.isalnum() or c in "-_.") for c in told)
    return told if sane else uuid.uuid4().hex
