"""Two processes behind a proxy are replaced one after the other; clients go on sending."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import aiohttp
import pytest
import pytest_asyncio

from persistence.database.pool import Pool
from tests.hostile.clients.proxies import Proxy, documented
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService

_SENDERS = 16


class Load:
    """Clients that post one message after another, each with a key of its own, and count."""

    def __init__(self, url: str, name: str) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.accepted: set[str] = set()
        self._url = f"{url}/api/messages"
        self._name = name
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30))
        self._tasks = [asyncio.create_task(self._send(number)) for number in range(_SENDERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._session.close()

    async def goes_on(self, messages: int = 100) -> None:
        """Wait until so many more messages have been accepted."""
        wanted = self.statuses[202] + messages

        async def enough() -> bool:
            return self.statuses[202] >= wanted

        await eventually(enough)

    async def _send(self, number: int) -> None:
        sent = 0
        while not self._stop.is_set():
            sent += 1
            body = {
                "conversationId": f"{self._name}-{number}",
                "senderId": self._name,
                "clientMessageId": f"{number}-{sent}",
                "content": "still here",
                "contentType": "text",
            }
            try:
                async with self._session.post(self._url, json=body) as answer:
                    self.statuses[answer.status] += 1
                    if answer.status == 202:
                        self.accepted.add((await answer.json())["messageId"])
            except aiohttp.ClientError as error:
                self.statuses[repr(error)] += 1


@pytest_asyncio.fixture
async def pair(
    served_settings: dict[str, str], tmp_path: Path
) -> AsyncIterator[tuple[ForkedService, ForkedService]]:
    """Two processes of the service that share their servers."""
    async with AsyncExitStack() as stack:
        made = [
            ForkedService(name, "serve", tmp_path, dict(served_settings)) for name in ("one", "two")
        ]
        for service in made:
            stack.push_async_callback(service.stop)
            await service.start()
        yield made[0], made[1]


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_a_rolling_restart_shows_no_client_an_error(
    pair: tuple[ForkedService, ForkedService], served_pool: Pool, tmp_path: Path, kind: str
) -> None:
    ports = [service.port for service in pair]
    async with (
        Proxy(kind, tmp_path / kind, documented(kind), *ports) as proxy,
        Load(proxy.url, f"rolling-{kind}") as load,
    ):
        for service in pair:
            await load.goes_on()
            await service.restart()
            await _has_its_share(service)
        await load.goes_on()
    assert set(load.statuses) == {202}, (load.statuses, proxy.log[-2000:])

    async def all_there() -> bool:
        rows = await served_pool.fetch(
            "SELECT id FROM messages WHERE sender_id = $1", f"rolling-{kind}"
        )
        return load.accepted == {str(row["id"]) for row in rows}

    await eventually(all_there)


async def _has_its_share(service: ForkedService) -> None:
    """Return once the proxy sends messages to it again."""

    async def some() -> bool:
        return await service.metric("stream_enqueue_total") > 0

    await eventually(some)
