"""The web pages: static files of ``page/``, under a strict Content-Security-Policy."""

from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from app.http.router import Router

FOLDER = Path(__file__).parent.parent / "page"

# Nothing from other origins, nothing inline (CSP level 3); blob: covers the user's own images and the results.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # revalidated each time, so that page and scripts are of the same release
}


def page(name: str) -> FileResponse:
    """One HTML file of ``page/``."""
    return FileResponse(FOLDER / name, media_type="text/html; charset=utf-8", headers=HEADERS)


class PageFiles(StaticFiles):
    """The pages' scripts and styles, with the same headers."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(HEADERS)
        return response


router = Router()
files = PageFiles(directory=FOLDER)  # mounted at /page


@router.get("/", include_in_schema=False)
async def get_page() -> FileResponse:
    return page("index.html")
