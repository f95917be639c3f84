"""nginx and the service split one stream of bytes into the same requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ingress.http1.bounds import Bounds
from tests.hostile.http.conftest import exchange, ingress_app, listening
from tests.hostile.http.nginx import Nginx
from tests.hostile.http.smuggling import REFUSED, SERVED
from tests.support.eventually import eventually

_STREAMS = REFUSED | {name: served.stream for name, served in SERVED.items()}


class _Seen:
    """The application, which notes each request that it is asked."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests: list[tuple[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.requests.append((scope["method"], scope["path"]))
        await self.app(scope, receive, send)


@pytest_asyncio.fixture(scope="module", params=[True, False], ids=["buffering", "streaming"])
async def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Nginx, _Seen]]:
    async with ingress_app() as app:
        seen = _Seen(app)
        async with (
            listening(seen, "asgi", Bounds()) as port,
            Nginx(tmp_path_factory.mktemp("nginx"), port, buffering=request.param) as front,
        ):
            yield front, seen


@pytest.mark.parametrize("stream", _STREAMS.values(), ids=_STREAMS)
async def test_what_nginx_forwards_is_what_is_served(
    both: tuple[Nginx, _Seen], stream: bytes
) -> None:
    front, seen = both
    forwarded, served = len(front.forwarded()), len(seen.requests)
    await exchange(front.port, [stream], strict=False)
    end = ("GET", "/the-end")
    await exchange(front.port, [b"GET /the-end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
    await eventually(lambda: end in front.forwarded()[forwarded:])
    assert seen.requests[served:] == front.forwarded()[forwarded:]
