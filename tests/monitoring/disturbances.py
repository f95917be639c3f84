"""Ways to hurt a site, each with its cure."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import httpx

from tests.faults.test_poison import message
from tests.monitoring.monitored import PARTITIONS, MonitoredDeployment
from tests.support.forked_service import ForkedService
from transport.contract import Envelope, Transport
from transport.message.envelope import seal_message
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["envelope", "locked", "opened", "post_many", "repeated"]

_numbers = itertools.count(1)


@asynccontextmanager
async def opened(site: MonitoredDeployment, name: str) -> AsyncIterator[Transport]:
    values = {key.lower(): value for key, value in site.environment().items()}
    known = {key: value for key, value in values.items() if key in TransportSettings.model_fields}
    async with create(name, TransportSettings(**known)) as log:
        yield log


def envelope(content: str, *, conversation: str = "hurt") -> Envelope:
    one = message(conversation, f"m{next(_numbers)}", content)
    return seal_message(one, partitions=PARTITIONS, traceparent=None)


async def post_many(to: ForkedService, count: int, conversation: str) -> None:
    """Post messages in batches; all of them are accepted."""
    items = [
        {
            "conversationId": conversation,
            "senderId": "s",
            "content": "x",
            "clientMessageId": f"many-{next(_numbers)}",
        }
        for _ in range(count)
    ]
    async with httpx.AsyncClient(base_url=to.url, trust_env=False, timeout=20) as client:
        for start in range(0, count, 500):
            answer = await client.post("/api/messages:batch", json=items[start : start + 500])
            assert answer.status_code == 207


@asynccontextmanager
async def repeated(action: Callable[[], Awaitable[object]], *, pause: float) -> AsyncIterator[None]:
    """Do something again and again beside the block."""
    enough = asyncio.Event()

    async def go_on() -> None:
        while not enough.is_set():
            await action()
            await asyncio.sleep(pause)

    going_on = asyncio.create_task(go_on())
    try:
        yield
    finally:
        enough.set()
        await going_on


@asynccontextmanager
async def locked(site: MonitoredDeployment, *, seconds: float, free: float) -> AsyncIterator[None]:
    """Lock the table of messages for so many ``seconds``, again and again."""
    lock = f"LOCK TABLE messages IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds})"
    connection = await asyncpg.connect(site.database_url)
    try:
        async with repeated(lambda: connection.execute(f"BEGIN; {lock}; COMMIT"), pause=free):
            yield
    finally:
        await connection.close()
