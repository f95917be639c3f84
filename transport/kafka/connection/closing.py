"""Starting and closing clients that may be stuck.

aiokafka's own ``stop()`` waits for brokers that may be gone: for ever where a join is not answered.
The parts that it takes to go on without them are private; this module alone reaches into them
(and ``loss/identity``, to send one request).
"""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from transport.kafka.producer.producer import Producer

__all__ = ["discard_admin", "discard_consumer", "discard_producer", "start"]

_WITHIN = 3.0  # seconds for a client to end in good order


async def start(client: Any, *, within: float) -> None:
    """Start any of aiokafka's clients.

    One that is cut off while it connects for the first time never closes that connection. So a
    cancellation waits for it, as long as the caller would have.

    Raises:
        TimeoutError: it took longer than ``within`` seconds.
    """
    task = asyncio.ensure_future(client.start())
    try:
        await asyncio.wait([task], timeout=within)
    finally:
        if not task.done():
            await asyncio.wait([task], timeout=within)
            task.cancel()
            await asyncio.wait([task], timeout=_WITHIN)
    if not task.done() or task.cancelled():
        raise TimeoutError(f"not connected within {within:g} s")
    await task


async def discard_producer(
    client: Producer, *, flush: bool = False, within: float = _WITHIN
) -> None:
    """Close ``client``; with ``flush``, give it a little time to deliver what it holds.

    Records that are then undelivered fail, and their outcome is unknown.
    """
    if flush:
        await _ended(client.flush(), within)
    client.fail_all()
    await _ended(client.stop(), within)


async def discard_consumer(client: AIOKafkaConsumer, *, within: float = _WITHIN) -> None:
    """Close ``client``, leaving its group if the group can be told in time.

    A fetch that is under way may end its ``stop()`` half-way: by its error, or by its cancellation.
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
    """Close ``client``, as far as its connections let themselves be closed in time."""
    await _ended(client.close(), within)


async def _ended(closing: Awaitable[Any], within: float) -> bool:
    """Give ``closing`` so many seconds; tell whether that was enough, and it did not fail."""
    task = asyncio.ensure_future(closing)
    await asyncio.wait([task], timeout=within)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=within)
        return False
    return not task.cancelled() and task.exception() is None
