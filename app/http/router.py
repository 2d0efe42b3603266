"""The one kind of router: each file with endpoints has one, and ``main`` lists them."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter


class Router(APIRouter):
    """FastAPI's router, but a GET route also answers HEAD, with the same headers and no body (RFC 9110, 9.3.2)."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint, **options)
        if options.get("methods") == ["GET"]:
            super().add_api_route(path, endpoint, **{**options, "methods": ["HEAD"], "include_in_schema": False})
