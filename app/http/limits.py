"""How many requests that bring work are in the service at a time, and how many bytes of bodies: what bounds memory."""

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

KEPT = 0.95  # of the mean time a slot is held, at each further request


READS = ("GET", "HEAD", "OPTIONS", "TRACE")  # RFC 9110, 9.2.1: what is safe


class Room:
    """``limit`` slots of ``slot_bytes`` of memory each, and ``most_bytes`` for bodies: shared by requests and jobs.

    Any thread may call.
    """

    def __init__(self, limit: int, slot_bytes: int, most_bytes: int) -> None:
        self.limit, self.slot_bytes, self._most_bytes = limit, slot_bytes, most_bytes
        self._taken, self._received = 0, 0
        self._mean_seconds = 1.0  # that a slot is held
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

    def give_back(self, count: int, seconds: float) -> None:
        with self._lock:
            self._taken -= count
            self._mean_seconds = KEPT * self._mean_seconds + (1 - KEPT) * seconds

    def slots_for(self, needed: int) -> int:
        """How many hold so many bytes; ``TooMuchMemoryError`` where there are not as many."""
        most = self.limit * self.slot_bytes
        if needed > most:
            raise TooMuchMemoryError("Ask for another format or a smaller result.", limit=most, actual=needed)
        return -(-needed // self.slot_bytes)

    @contextmanager
    def hold(self, needed: int, sleep: Callable[[float], None]) -> Iterator[None]:
        """So many bytes for work that nobody waits for: it waits until they are free."""
        count = self.slots_for(needed)
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
        """With the time after which a slot is expected to be free."""
        return OverloadedError(detail, retry_after=self._mean_seconds / self.limit, limit=limit)


class Slots:
    """Every request that brings something takes one of ``limit`` slots when its body is there, until its answer is sent
    or broken. With none left it gets 429, if possible before the body; a client who sends slowly holds none. One that
    only reads takes none by itself: a route that computes something for it takes it, by ``Holding.take``.

    A slot stands for ``slot_bytes`` of memory; a picture that needs more takes several, see ``Holding.widen``. The
    bodies of all requests together may have ``most_bytes``, counted as they arrive, given back with the first byte of
    the answer, by which time a body has been let go. ``refuse`` makes an error's answer.
    """

    def __init__(self, app: ASGIApp, room: Room, refuse: Refuse) -> None:
        self.app, self._room, self._refuse = app, room, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        holding = scope["state"]["holding"] = Holding(self._room)
        try:
            if scope["method"] in READS:
                await self.app(scope, receive, send)
            else:
                await self._receive(holding, scope, receive, send)
        finally:
            holding.let_go()

    async def _receive(self, holding: "Holding", scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._room.check(1)
        except OverloadedError as error:
            await (await self._refuse(Request(scope), error))(scope, receive, send)
            return

        async def receive_counted() -> Message:
            message = await receive()
            holding.receive(len(message.get("body", b"")))
            if message["type"] == "http.request" and not message.get("more_body") and not holding.slots:
                holding.take(1)
            return message

        async def send_letting_go(message: Message) -> None:
            if message["type"] == "http.response.start":
                holding.let_go_of_body()
            await send(message)

        await self.app(scope, receive_counted, send_letting_go)


class Holding:
    """What one request has: the bytes of its body, then its ``slots``, and what else is closed when it is over.

    It is the only owner of these: whatever a route raises, and wherever, they are given back when the request ends.
    """

    def __init__(self, room: Room) -> None:
        self._all, self._body, self._since = room, 0, 0.0
        self._owned = ExitStack()
        self.slots = 0

    def own(self, admit: Callable[[], AbstractContextManager[Owned]]) -> Owned:
        """What ``admit()`` gives, which is closed at the end of the request; there is no moment between the two."""
        return self._owned.enter_context(admit())

    def receive(self, size: int) -> None:
        self._body += self._all.receive(size)

    def let_go_of_body(self) -> None:
        self._all.forget(self._body)
        self._body = 0

    def take(self, count: int) -> None:
        self._since = self._since or time.monotonic()
        self.slots += self._all.take(count)

    def widen(self, needed: int) -> None:
        """Takes as many slots as hold so many bytes; ``OverloadedError`` where they are not free, and
        ``TooMuchMemoryError`` where there are not as many."""
        count = self._all.slots_for(needed)
        if count > self.slots:
            self.take(count - self.slots)

    def let_go(self) -> None:
        with self._owned:
            self.let_go_of_body()
            if self.slots:
                self._all.give_back(self.slots, time.monotonic() - self._since)
                self.slots = 0


def holding_of(scope: Scope) -> Holding:
    """The one that ``Slots`` has put into an ASGI scope."""
    holding: Holding = scope["state"]["holding"]
    return holding
