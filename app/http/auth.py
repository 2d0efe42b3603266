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


OPEN = frozenset(("/", "/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/study"))
OPEN_FOLDER = "/page/"
STUDY, RESULTS = "/study/", "/study/results"


class Authentication:
    """Everything but health, the documents of the API and the pages' files needs one of the keys, if there are any.

    What a study's participants ask for needs a key or the study's ``invitation``, if there is one or the other; its
    results need a key, or where there are no keys the invitation. ``refuse`` makes an error's answer. A route may set a
    security header otherwise; then its own counts.
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
    """Compares digests, with every one, so that the time tells nothing of how close a guess was."""
    guess = digest(told.encode("latin-1"))  # as which Starlette has read the header's bytes
    return sum(hmac.compare_digest(guess, each) for each in known) > 0  # any() would stop at the first


def wants_page(headers: Headers) -> bool:
    """Whether a browser asks for a page to be shown, rather than for what it shows."""
    return "text/html" in headers.get("accept", "")


def key_from(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
