"""Clients that do not close delay nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from transport.errors import TransportUnavailable
from transport.kafka.client_pool import ClientPool
from transport.kafka.closing import discard_admin, discard_consumer, discard_producer


async def _never() -> None:
    await asyncio.Event().wait()


def _stuck() -> Any:
    """Return a client, of whichever kind, whose connections wait for a broker that is gone."""
    connections = SimpleNamespace(close=_never)
    return SimpleNamespace(
        close=_never,
        stop=_never,
        _client=connections,
        _coordinator=None,
        _fetcher=None,
        fail_all=lambda: None,
    )


@pytest.mark.parametrize("discard", [discard_admin, discard_consumer, discard_producer])
async def test_a_client_that_will_not_close_is_left(
    discard: Callable[..., Awaitable[None]],
) -> None:
    async with asyncio.timeout(5):
        await discard(_stuck(), within=0.05)


async def test_a_request_is_answered_though_the_last_client_will_not_close() -> None:
    """Seen when two of three nodes died: the watchdog for stalls waited for ever itself."""

    async def connect() -> Any:
        return _stuck()

    async def refused(_: Any) -> None:
        raise KafkaConnectionError("gone")

    client_pool = ClientPool(connect, partial(discard_admin, within=0.05), timeout=0.5)
    async with asyncio.timeout(5):
        with pytest.raises(TransportUnavailable):
            await client_pool.ask(refused)
