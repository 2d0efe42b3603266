"""At the door: who may ask for work, and the headers that tell browsers to be careful with what they get."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import UnauthorizedError

Refuse = Callable[[Request, Exception], Awaitable[Response]]

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class Access:
    """Work (every POST) needs one of the keys, if there are any; what only tells is open.

    ``refuse`` makes an error's answer. A route may set a security header otherwise; then its own counts.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[SecretStr], refuse: Refuse) -> None:
        self.app, self._refuse = app, refuse
        self._digests = [digest(key.get_secret_value().encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        if scope["method"] == "POST" and not self._admits(Headers(scope=scope)):
            error = UnauthorizedError(
                "Send one of the service's keys as 'Authorization: Bearer KEY' or as 'X-API-Key'."
            )
            response = await self._refuse(Request(scope), error)
            response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _admits(self, headers: Headers) -> bool:
        """Compares digests, with every key, so that the time tells nothing of how close a guess was."""
        if not self._digests:
            return True
        told = digest(key_from(headers).encode("latin-1"))  # as which Starlette has read the header's bytes
        return sum(hmac.compare_digest(told, known) for known in self._digests) > 0  # any() would stop at the first


def key_from(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
