"""A proxy closes its idle connections before the service does: else a request may meet the end."""

from __future__ import annotations

import asyncio

import pytest

from compose.local.ports import free_port
from compose.process import http_server
from compose.process.listening_socket import bind
from tests.hostile.http.conftest import GET, ingress_app

# How long proxies keep an idle connection to a server, if they are told nothing else.
_PROXIES = {"nginx": 60, "Traefik": 90, "Caddy": 120}


@pytest.mark.parametrize("seconds", _PROXIES.values(), ids=_PROXIES)
async def test_the_service_waits_longer_than_a_proxy(seconds: int) -> None:
    stop, started = asyncio.Event(), asyncio.Event()
    async with ingress_app() as app:
        port = free_port()
        serving = asyncio.create_task(
            http_server.serve(
                app, bind("127.0.0.1", port), stop, grace_seconds=1, started=started.set
            )
        )
        await started.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(GET)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(len(b'{"status":"ok"}'))
            for connection in app.listener.connections:
                connection.check(asyncio.get_running_loop().time() + seconds)
        writer.close()
        stop.set()
        await serving
