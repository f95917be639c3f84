"""Start and close aiokafka's clients, even if they are stuck.

aiokafka's own ``stop()`` waits for brokers that may be gone, and for ever if a join is not
answered. Closing without them takes private parts of aiokafka, which are used here.
"""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient

from transport.kafka.producer.producer import Producer

__all__ = ["discard_admin", "discard_client", "discard_consumer", "discard_producer", "start"]

_WITHIN = 3.0  # seconds for a client to close normally


async def start(client: Any, *, within: float) -> None:
    """Start any of aiokafka's clients.

    Raises:
        TimeoutError: the start took longer than ``within`` seconds.
    """
    try:
        async with asyncio.timeout(within):
            await client.start()
    except TimeoutError as error:
        raise TimeoutError(f"not connected within {within:g} s") from error


async def discard_producer(
    client: Producer, *, flush: bool = False, within: float = _WITHIN
) -> None:
    """Close ``client``; with ``flush``, first give it ``within`` seconds to deliver its batches.

    Batches that are not delivered by then fail; the outcome of sent ones is unknown.
    """
    if flush:
        await _ended(client.flush(), within)
    client.fail_all()
    await _ended(client.stop(), within)


async def discard_consumer(client: AIOKafkaConsumer, *, within: float = _WITHIN) -> None:
    """Close ``client``; it leaves its group if the group can be told in time.

    The error or the cancellation of a fetch may end its ``stop()`` half-way. Then the rest is
    closed here.
    """
    if await _ended(client.stop(), within):
        return
    coordinator = client._coordinator
    for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task"):
        task = getattr(coordinator, name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=within)
    if client._fetcher is not None:
        await _ended(client._fetcher.close(), within)
    await _ended(client._client.close(), within)


async def discard_admin(client: AIOKafkaAdminClient, *, within: float = _WITHIN) -> None:
    """Close ``client``; give up on connections that don't close in time."""
    await _ended(client.close(), within)


async def discard_client(client: AIOKafkaClient, *, within: float = _WITHIN) -> None:
    """Close ``client``; give up on connections that don't close in time."""
    await _ended(client.close(), within)


async def _ended(closing: Awaitable[Any], within: float) -> bool:
    """Wait ``within`` seconds for ``closing``; return whether it ended in time without an error."""
    task = asyncio.ensure_future(closing)
    await asyncio.wait([task], timeout=within)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=within)
        return False
    return not task.cancelled() and task.exception() is None
