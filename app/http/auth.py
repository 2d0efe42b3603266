"""API keys, and the security headers of every response."""

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


OPEN = frozenset(("/", "/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/study"))
OPEN_FOLDER = "/page/"
STUDY, RESULTS = "/study/", "/study/results"


class Authentication:
    """ASGI middleware: everything but health, the API's documents and the pages' files needs a key, if keys are set.

    A study's participants need a key or the study's ``invitation``, if either is set; its results need a key or,
    without keys, the invitation. ``refuse`` turns an error into a response. A route may override a security header.
    """

    def __init__(
        self, app: ASGIApp, keys: Sequence[SecretStr], refuse: Refuse, invitation: SecretStr | None = None
    ) -> None:
        self.app, self._refuse = app, refuse
        self._keys = [digest(key.get_secret_value().encode()) for key in keys]
        self._invitations = [digest(invitation.get_secret_value().encode())] if invitation else []

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

        request = Request(scope)
        if self._admits(request):
            await self.app(scope, receive, send_with_headers)
            return
        detail = "Send one of the service's keys as 'Authorization: Bearer KEY' or as 'X-API-Key'."
        if request.url.path.startswith(STUDY):
            detail += " The study's participants send their invitation as 'X-Invitation'."
        response = await self._refuse(request, UnauthorizedError(detail))
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send_with_headers)

    def _admits(self, request: Request) -> bool:
        path, headers = request.scope["path"], request.headers
        if path in OPEN or path.startswith(OPEN_FOLDER) or (path == RESULTS and wants_page(headers)):
            return True
        invited = path.startswith(STUDY) and (path != RESULTS or not self._keys)
        if not self._keys and not (invited and self._invitations):
            return True
        guest = invited and is_among(headers.get("x-invitation", ""), self._invitations)
        return is_among(key_from(headers), self._keys) or guest


def is_among(told: str, known: Sequence[bytes]) -> bool:
    """Compares digests in constant time, and with all of them, so that timing reveals nothing."""
    guess = digest(told.encode("latin-1"))  # the encoding in which Starlette reads headers
    return sum(hmac.compare_digest(guess, each) for each in known) > 0  # any() would stop at the first


def wants_page(headers: Headers) -> bool:
    """Whether a browser requests the page itself rather than the data that it shows."""
    return "text/html" in headers.get("accept", "")


def key_from(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
