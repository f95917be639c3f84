"""``/docs`` and ``/openapi.json``: the API's description for people and for programs.

Served without an address outside this service, and made once: both can be asked for without a key.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
from fastapi import APIRouter, FastAPI, Response

from ingress.docs_page import SCRIPT, STYLE, page

__all__ = ["docs_router"]

_POLICY = {"Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"}


def docs_router(app: FastAPI) -> APIRouter:
    """Return the routes of the documentation of ``app``."""
    router = APIRouter(include_in_schema=False)

    @lru_cache(maxsize=1)
    def rendered() -> str:
        return page(app.openapi())

    @lru_cache(maxsize=1)
    def document() -> bytes:
        return msgspec.json.encode(app.openapi())

    @router.get("/openapi.json")
    async def get_openapi() -> Response:
        return Response(document(), media_type="application/json")

    @router.get("/docs")
    async def get_docs() -> Response:
        return Response(rendered(), media_type="text/html", headers=_POLICY)

    @router.get("/docs/style.css")
    async def get_style() -> Response:
        return Response(STYLE, media_type="text/css")

    @router.get("/docs/script.js")
    async def get_script() -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    return router
