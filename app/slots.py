"""How many requests that bring work are in the service at a time, and how many bytes of bodies: what bounds memory."""

import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import OverloadedError

Refuse = Callable[[Request, Exception], Awaitable[Response]]

KEPT = 0.95  # of the mean time a slot is held, at each further request


class Slots:
    """Every POST takes one of ``limit`` slots when its body is there, until its answer is sent or broken. With none
    left it gets 429, if possible before the body; a client who sends slowly holds none.

    The bodies of all of them together may have ``most_bytes``, counted as they arrive, given back with the first byte
    of the answer, by which time a body has been let go. ``refuse`` makes an error's answer.
    """

    def __init__(self, app: ASGIApp, limit: int, most_bytes: int, refuse: Refuse) -> None:
        self.app, self._limit, self._most_bytes, self._refuse = app, limit, most_bytes, refuse
        self._taken, self._held = 0, 0
        self._mean_seconds = 1.0  # that a slot is held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif self._taken >= self._limit:
            await (await self._refuse(Request(scope), self._no_slot()))(scope, receive, send)
        else:
            await self._hold(scope, receive, send)

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        held, taken_at = 0, 0.0

        async def receive_counted() -> Message:
            nonlocal held, taken_at
            message = await receive()
            size = len(message.get("body", b""))
            held, self._held = held + size, self._held + size
            if self._held > self._most_bytes:
                raise self._full("Too many bytes are being received.", self._most_bytes)
            if message["type"] == "http.request" and not message.get("more_body") and not taken_at:
                if self._taken >= self._limit:
                    raise self._no_slot()
                self._taken, taken_at = self._taken + 1, time.monotonic()
            return message

        def let_go() -> None:
            nonlocal held
            held, self._held = 0, self._held - held

        async def send_letting_go(message: Message) -> None:
            if message["type"] == "http.response.start":
                let_go()
            await send(message)

        try:
            await self.app(scope, receive_counted, send_letting_go)
        finally:
            let_go()
            if taken_at:
                self._taken -= 1
                self._mean_seconds = KEPT * self._mean_seconds + (1 - KEPT) * (time.monotonic() - taken_at)

    def _no_slot(self) -> OverloadedError:
        return self._full("There are too many requests at a time.", self._limit)

    def _full(self, detail: str, limit: int) -> OverloadedError:
        """With the time after which a slot is expected to be free."""
        return OverloadedError(detail, retry_after=self._mean_seconds / self._limit, limit=limit)
