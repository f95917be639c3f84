"""The address of the service that a command sends to, and the texts of its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import NamedTuple

import httpx

from compose.output import client_settings, fail, joined
from compose.settings import Settings
from crossfade import AsyncClient, CrossfadeError, Retry, UnauthenticatedError, UnreachableError
from crossfade_client.connection import opened

__all__ = ["ServiceAddress", "connected", "explain", "service", "with_remedy"]

_CONNECTIONS = httpx.Limits(max_connections=256, max_keepalive_connections=256)
_MISUSED = 2

Asked = Callable[[httpx.Request], Awaitable[None]]


class ServiceAddress(NamedTuple):
    """The URL of the API, and the key for it."""

    url: str
    api_key: str


def service(url: str | None) -> ServiceAddress:
    """Return the service of the option ``url``, else of the settings, else of a ``crossfade up``.

    The key that a ``crossfade up`` lends to commands in its folder is used only for that service.
    """
    settings = client_settings(say=url is None, needed=False)
    secret = settings.commands.crossfade_api_key
    own = _own(settings)
    chosen = url or settings.commands.crossfade_url or own
    lent = "CROSSFADE_API_KEY" in joined()
    if secret is None or (lent and _origin(chosen) != _origin(own)):
        return ServiceAddress(chosen, "")
    return ServiceAddress(chosen, secret.get_secret_value())


def _origin(url: str) -> str:
    return url.rstrip("/").replace("//localhost", "//127.0.0.1")


@asynccontextmanager
async def connected(
    to: ServiceAddress,
    retry: Retry,
    *,
    headers: Mapping[str, str] | None = None,
    asked: Asked | None = None,
) -> AsyncIterator[AsyncClient]:
    """Yield a client of the service.

    Args:
        to: The service.
        retry: The client's retries.
        headers: Headers of each request.
        asked: Called with each request, including retries.
    """
    hooks = {"request": [asked] if asked else []}
    try:
        http = opened(httpx.AsyncClient, _CONNECTIONS, event_hooks=hooks)
        client = AsyncClient(
            to.url,
            api_key=to.api_key,
            retry=retry,
            headers=headers,
            limits=_CONNECTIONS,
            http=http,
        )
    except ValueError as error:
        fail(str(error), status=_MISUSED)
    async with http:
        yield client


def explain(error: CrossfadeError, to: ServiceAddress) -> list[str]:
    """Return an error as lines for ``fail``."""
    if isinstance(error, UnreachableError):
        where = "" if joined() else "; name it with --url or CROSSFADE_URL if it is elsewhere"
        return [f"no service answers at {to.url} ({error}){where}"]
    if isinstance(error, UnauthenticatedError):
        given = "the key in CROSSFADE_API_KEY" if to.api_key else "no key"
        remedy = "set CROSSFADE_API_KEY to one made by 'crossfade keys new'"
        return [f"{to.url} asks for an API key and got {given}: {remedy}"]
    return [with_remedy(error)]


def with_remedy(error: CrossfadeError) -> str:
    """Return an error and its remedy as sentences."""
    return f"{str(error).rstrip('.')}. {error.remedy}" if error.remedy else str(error)


def _own(settings: Settings) -> str:
    """Return the URL of the API for clients on this machine."""
    host, port = settings.ingress.host, settings.ingress.port
    try:
        address = ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:  # it listens on every address
        host = "127.0.0.1" if address.version == _IPV4 else "::1"
    return f"http://{host}:{port}" if address.version == _IPV4 else f"http://[{host}]:{port}"


_IPV4 = 4
