"""``/``: links to the console, the documentation and the other entry points.

``/console/`` and ``/docs/`` lead to the pages without the slash.
"""

from __future__ import annotations

from html import escape

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from ingress.schema.responses import encode

__all__ = ["root_router"]

_LINKS = {
    "console": "what runs, where messages are, and the migration",
    "docs": "the API, with a form for each request",
    "openapi.json": "the API for programs (OpenAPI)",
    "problems": "every type of error, and what to do about it",
    "readyz": "whether this process can do its work",
}
_JSON = encode({"name": "Crossfade", "links": {name: f"/{name}" for name in _LINKS}})
_ITEMS = "".join(
    f'<li><a href="{name}">{name}</a>: {escape(text)}</li>' for name, text in _LINKS.items()
)
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Crossfade</title>'
    '<link rel="stylesheet" href="docs/style.css"></head><body><main><h1>Crossfade</h1>'
    f"<ul>{_ITEMS}</ul></main></body></html>"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Vary": "Accept",
}


def root_router() -> APIRouter:
    """Return the route. It needs no key, because it shows nothing about messages."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def get_root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return Response(_PAGE, media_type="text/html", headers=_HEADERS)
        return Response(_JSON, media_type="application/json", headers=_HEADERS)

    @router.get("/console/")
    @router.get("/docs/")
    async def get_page_with_slash(request: Request) -> Response:
        # Relative, because a proxy may have put the page below a prefix, and ends TLS.
        return RedirectResponse(f"..{request.url.path.rstrip('/')}")

    return router
