"""``/console``: the page and its files, with security headers that allow only these files."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from ingress.schema.problems import NOT_FOUND, Problem

__all__ = ["router"]

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
}
# The policy allows no inline script or style, no other host, and no frame. With Trusted Types, not
# even the page's own scripts can make markup out of text, so a message is always shown as text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

# The files need no key, because they hold no data.
router = APIRouter(include_in_schema=False)


@router.get("/console")
async def get_page(request: Request) -> Response:
    return _file(request, "index.html")


@router.get("/console/{name}")
async def get_file(request: Request, name: str) -> Response:
    return _file(request, name)


def _file(request: Request, name: str) -> Response:
    found = _assets().get(name)
    if found is None:
        raise Problem(NOT_FOUND, f"The console has no file {name[:100]!r}.")
    content, tag = found
    headers = {**_HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


@lru_cache(maxsize=1)
def _assets() -> dict[str, tuple[bytes, str]]:
    """Return each file's content and entity tag, by name. The files are read once."""
    folder = files("ingress.console").joinpath("assets")
    read = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return {
        name: (content, f'"{sha256(content).hexdigest()[:16]}"')
        for name, content in read.items()
        if name.rpartition(".")[2] in _TYPES
    }
