"""uvicorn's HTTP/1.1 protocol with bounds on what is not a body, a deadline for headers and a way to abort."""

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536  # of a request's line and headers; trailers and chunks' extensions may have as much
MAX_PIPELINED = 100  # requests sent on one connection before the first of them is answered


class Protocol(HttpToolsProtocol):
    """Adds bounds in bytes and a time limit for a request's headers; ``state["cut"]``, with which a response drops its
    connection at once (closing it would wait for a client that does not read); a problem document for input that is not
    HTTP; and, while ``draining``, closes the connection after every response."""

    def __init__(
        self, *arguments: Any, header_seconds: float, draining: Callable[[], bool] = lambda: False, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._header_seconds, self._draining = header_seconds, draining
        self._overhead = 0  # bytes since there was anything of a body, or a new request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._hurry = self.loop.call_later(self._header_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"More than {MAX_HEAD_BYTES} bytes came that are no body.")

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        self._overhead = 0
        super().on_message_begin()
        self.scope["state"]["cut"] = self.transport.abort
        self._hurry.cancel()
        self._hurry = self.loop.call_later(self._header_seconds, self.transport.abort)

    def on_headers_complete(self) -> None:
        self._hurry.cancel()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.pipeline) >= MAX_PIPELINED:  # the parser ends, as with what is no HTTP
            raise ValueError
        super().on_headers_complete()
        if self._draining():
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._hurry.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """For input that the parser cannot read; the application never sees it."""
        told = uuid.uuid4().hex
        body = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": msg, "code": "bad_request"}
        content = json.dumps({**body, "request_id": told}).encode()
        lines = (
            "HTTP/1.1 400 Bad Request",
            "content-type: application/problem+json",
            f"content-length: {len(content)}",
            f"x-request-id: {told}",
            "connection: close",
        )
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self.transport.close()
