"""Whose jobs: an API key's, or a browser's, which a cookie tells again after a reload."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from pydantic import SecretStr

from app.errors import UnauthorizedError
from app.http.auth import digest, key_from

COOKIE = "enlarger-owner"
SANE = re.compile("[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Owner:
    """``name``: of jobs in the database; ``scope``: of Idempotency-Keys; ``cookie``: one to be set."""

    name: str
    scope: str
    cookie: str | None = None


def owner_of(request: Request, keys: Sequence[SecretStr]) -> Owner:
    """Raises ``UnauthorizedError`` where keys are needed and none of them was sent. What is kept are digests."""
    if keys:
        told = digest(key_from(request.headers).encode("latin-1"))
        known = [digest(key.get_secret_value().encode()) for key in keys]
        if not sum(hmac.compare_digest(told, each) for each in known):
            raise UnauthorizedError("Send one of the service's keys.")
        name = hashlib.sha256(b"jobs of " + told).hexdigest()
        return Owner(name, name)
    cookie, new = request.cookies.get(COOKIE, ""), None
    if not SANE.fullmatch(cookie):
        cookie = new = secrets.token_urlsafe(32)
    return Owner(hashlib.sha256(cookie.encode()).hexdigest(), "anyone", new)
