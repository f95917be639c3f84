"""The routes of ``/docs`` and of the OpenAPI documents.

They need no key. Pages and documents are made once, and refer to no other server.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import msgspec
from fastapi import APIRouter, Response

from ingress.openapi import CONSOLE_PATH, PATH, Documents

__all__ = ["docs_router"]

_POLICY = {"Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"}


def docs_router(documents: Documents) -> APIRouter:
    """Return the routes of the documentation."""
    router = APIRouter(include_in_schema=False)

    @lru_cache(maxsize=1)
    def rendered() -> str:
        # Imported late: Jinja takes a twentieth of a process's import time, and few show the page.
        from ingress.openapi.docs_page import page  # noqa: PLC0415

        return page(documents.public, documents.console)

    @lru_cache(maxsize=1)
    def public() -> bytes:
        return msgspec.json.encode(documents.public)

    @lru_cache(maxsize=1)
    def console() -> bytes:
        return msgspec.json.encode(documents.console)

    @lru_cache(maxsize=2)
    def asset(name: str) -> bytes:
        return files("ingress.openapi").joinpath("assets", name).read_bytes()

    @router.get(PATH)
    async def get_openapi() -> Response:
        return Response(public(), media_type="application/json")

    @router.get(CONSOLE_PATH)
    async def get_openapi_console() -> Response:
        return Response(console(), media_type="application/json")

    @router.get("/docs")
    async def get_docs() -> Response:
        return Response(rendered(), media_type="text/html", headers=_POLICY)

    @router.get("/docs/style.css")
    async def get_style() -> Response:
        return Response(asset("style.css"), media_type="text/css")

    @router.get("/docs/script.js")
    async def get_script() -> Response:
        return Response(asset("script.js"), media_type="text/javascript")

    return router
