"""Concurrency limits: requests that bring work, and the bytes of their bodies. They bound the service's memory."""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import OverloadedError, TooMuchMemoryError

Refuse = Callable[[Request, Exception], Awaitable[Response]]


Owned = TypeVar("Owned")

KEPT = 0.95  # weight of the past in the running mean of how long a slot is held


READS = ("GET", "HEAD", "OPTIONS", "TRACE")  # the safe methods (RFC 9110, 9.2.1)


class ConcurrencyLimiter:
    """``limit`` slots, each standing for ``slot_bytes`` of memory, and ``most_bytes`` for request bodies.

    Requests and jobs share it. Thread-safe.
    """

    def __init__(self, limit: int, slot_bytes: int, most_bytes: int) -> None:
        self.limit, self.slot_bytes, self._most_bytes = limit, slot_bytes, most_bytes
        self._taken, self._received = 0, 0
        self._mean_seconds = 1.0  # for which a slot is held
        self._lock = threading.Lock()

    def receive(self, size: int) -> int:
        with self._lock:
            if self._received + size > self._most_bytes:
                raise self._full("Too many bytes are being uploaded at the moment.", self._most_bytes)
            self._received += size
            return size

    def forget(self, size: int) -> None:
        with self._lock:
            self._received -= size

    def check(self, count: int) -> None:
        if self._taken + count > self.limit:
            raise self._full("Too many requests are being served at the moment.", self.limit)

    def take(self, count: int) -> int:
        with self._lock:
            self.check(count)
            self._taken += count
            return count

    def release(self, count: int, seconds: float) -> None:
        with self._lock:
            self._taken -= count
            self._mean_seconds = KEPT * self._mean_seconds + (1 - KEPT) * seconds

    def slots_needed(self, needed: int) -> int:
        """How many slots hold ``needed`` bytes; raises ``TooMuchMemoryError`` if there are not that many."""
        most = self.limit * self.slot_bytes
        if needed > most:
            raise TooMuchMemoryError("Ask for another format or a smaller result.", limit=most, actual=needed)
        return -(-needed // self.slot_bytes)

    @contextmanager
    def hold(self, needed: int, sleep: Callable[[float], None]) -> Iterator[None]:
        """Holds ``needed`` bytes for background work, which waits until they are free."""
        count = self.slots_needed(needed)
        while True:
            try:
                self.take(count)
                break
            except OverloadedError:
                sleep(0.2)
        try:
            yield
        finally:
            with self._lock:
                self._taken -= count

    def _full(self, detail: str, limit: int) -> OverloadedError:
        """``Retry-After`` is the time in which a slot is expected to become free."""
        return OverloadedError(detail, retry_after=self._mean_seconds / self.limit, limit=limit)


class ConcurrencyLimit:
    """ASGI middleware: a request with a body holds a slot from the end of its body until its response is sent or fails.

    If no slot is free the request gets 429, before its body is read if possible. Slow senders hold none. A request
    that only reads takes none, unless its route computes something and calls ``Lease.take``.

    An image that needs more memory than one slot stands for takes several (``Lease.grow``). The bytes of bodies are
    counted as they arrive and released with the first byte of the response: by then the body has been dropped.
    ``refuse`` turns an error into a response.
    """

    def __init__(self, app: ASGIApp, limiter: ConcurrencyLimiter, refuse: Refuse) -> None:
        self.app, self._limiter, self._refuse = app, limiter, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        lease = scope["state"]["lease"] = Lease(self._limiter)
        try:
            if scope["method"] in READS:
                await self.app(scope, receive, send)
            else:
                await self._receive(lease, scope, receive, send)
        finally:
            lease.release()

    async def _receive(self, lease: "Lease", scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._limiter.check(1)
        except OverloadedError as error:
            await (await self._refuse(Request(scope), error))(scope, receive, send)
            return

        async def receive_counted() -> Message:
            message = await receive()
            lease.receive(len(message.get("body", b"")))
            if message["type"] == "http.request" and not message.get("more_body") and not lease.slots:
                lease.take(1)
            return message

        async def send_releasing_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                lease.release_body()
            await send(message)

        await self.app(scope, receive_counted, send_releasing_body)


class Lease:
    """What one request holds: the bytes of its body, its ``slots``, and whatever else is to be closed at its end.

    It is their only owner, so they are released when the request ends, whatever a route raises and wherever.
    """

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter, self._body, self._since = limiter, 0, 0.0
        self._owned = ExitStack()
        self.slots = 0

    def own(self, admit: Callable[[], AbstractContextManager[Owned]]) -> Owned:
        """Enters ``admit()`` and returns its result, closed when the request ends. Nothing can leak in between."""
        return self._owned.enter_context(admit())

    def receive(self, size: int) -> None:
        self._body += self._limiter.receive(size)

    def release_body(self) -> None:
        self._limiter.forget(self._body)
        self._body = 0

    def take(self, count: int) -> None:
        self._since = self._since or time.monotonic()
        self.slots += self._limiter.take(count)

    def grow(self, needed: int) -> None:
        """Takes as many slots as hold ``needed`` bytes.

        Raises ``OverloadedError`` if they are not free, ``TooMuchMemoryError`` if there are not that many.
        """
        count = self._limiter.slots_needed(needed)
        if count > self.slots:
            self.take(count - self.slots)

    def release(self) -> None:
        with self._owned:
            self.release_body()
            if self.slots:
                self._limiter.release(self.slots, time.monotonic() - self._since)
                self.slots = 0


def lease_of(scope: Scope) -> Lease:
    """The lease that ``ConcurrencyLimit`` has put into the ASGI scope."""
    lease: Lease = scope["state"]["lease"]
    return lease
