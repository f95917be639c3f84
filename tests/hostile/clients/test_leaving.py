"""A process that is asked to stop lets its connections go before it closes them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from compose.local.ports import free_port
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[tuple[Crossfade, str]]]
_BODY = {
    "conversationId": "leaving",
    "senderId": "leaving",
    "clientMessageId": "1",
    "content": "x",
    "contentType": "text",
}


@pytest_asyncio.fixture
async def start(served_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Start]:
    """Start ``crossfade serve``; return it and its URL."""
    async with AsyncExitStack() as stack:

        async def run(**settings: str) -> tuple[Crossfade, str]:
            port, metrics = str(free_port()), str(free_port())
            given = {**served_settings, "PORT": port, "METRICS_PORT": metrics, **settings}
            running = await Crossfade.fork("serve", cwd=tmp_path, **given)
            stack.push_async_callback(running.kill)
            await running.says("Worker started")
            return running, f"http://127.0.0.1:{port}"

        yield run


async def _status(client: httpx.AsyncClient, path: str) -> int:
    return (await client.get(path)).status_code


async def test_its_last_answers_say_that_the_connection_is_closed(start: Start) -> None:
    running, url = await start(SHUTDOWN_DELAY_SECONDS="30")
    async with (
        httpx.AsyncClient(base_url=url) as fast,
        httpx.AsyncClient(base_url=url) as asgi,
        httpx.AsyncClient(base_url=url) as probe,
    ):
        assert "connection" not in (await fast.post("/api/messages", json=_BODY)).headers
        assert "connection" not in (await asgi.get("/healthz")).headers
        running.process.send_signal(signal.SIGTERM)
        await eventually(lambda: _is(probe, "/readyz", 503))
        for _ in range(2):  # on the old connection, and on a new one
            for answer in (
                await fast.post("/api/messages", json=_BODY),
                await asgi.get("/healthz"),
            ):
                assert answer.status_code == 200
                assert answer.headers["connection"] == "close"


async def _is(client: httpx.AsyncClient, path: str, status: int) -> bool:
    return await _status(client, path) == status


@pytest.mark.parametrize("sent", [b"", b"POST /api/messages HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_that_asks_for_nothing_keeps_no_process(
    start: Start, sent: bytes
) -> None:
    running, url = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(sent)
    running.process.send_signal(signal.SIGTERM)
    rest = await asyncio.wait_for(reader.read(), 10)  # to its end: closed, and not reset
    assert not rest.startswith(b"HTTP/1.1 5")
    assert await running.ends(timeout=10) == 0
    assert "Cut off" not in running.text
    writer.close()
