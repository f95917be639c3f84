"""Two patches of how aiokafka (0.14) connects.

A node that can't be connected delays no connection to another one. aiokafka connects to one node at
a time. One that hung, or whose host was gone, took the whole time of a request each time, and a
client could not connect to the new leaders and coordinators.

A start that is cancelled leaves no connection. aiokafka knows its first connection only after that
has answered; if it was cancelled before, the connection stayed open until the garbage collector
came.
"""
# ruff: noqa: SLF001 - no public way

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from aiokafka import client as aiokafka_client
from aiokafka.client import AIOKafkaClient, ConnectionGroup

__all__ = ["install"]

_Locks = defaultdict[tuple[int, Any], asyncio.Lock]


def _node_by_node(connect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return aiokafka's ``_get_conn`` with a lock for each node and group, in place of one."""
    locks: WeakKeyDictionary[AIOKafkaClient, _Locks] = WeakKeyDictionary()

    async def connecting(
        client: AIOKafkaClient, node: int, *, group: Any = ConnectionGroup.DEFAULT, **options: Any
    ) -> Any:
        known = client._conns.get((node, group))
        if known is not None and known.connected():
            return known
        client._get_conn_lock_value = nullcontext()
        async with locks.setdefault(client, defaultdict(asyncio.Lock))[node, group]:
            return await connect(client, node, group=group, **options)

    return connecting


def _closed_if_cancelled(connect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return aiokafka's ``create_conn``, whose first connection closes if a request is cancelled.

    aiokafka passes ``on_close`` for all connections but that one.
    """

    async def connecting(*address: Any, on_close: Any = None, **options: Any) -> Any:
        connection = await connect(*address, on_close=on_close, **options)
        if on_close is None:
            connection.send = partial(_send, connection, connection.send)
        return connection

    return connecting


async def _send(connection: Any, send: Callable[..., Awaitable[Any]], *request: Any) -> Any:
    try:
        return await send(*request)
    except asyncio.CancelledError:
        connection.close()
        raise


def install() -> None:
    """Apply the patches to all clients of this process."""
    aiokafka_client.create_conn = _closed_if_cancelled(aiokafka_client.create_conn)
    AIOKafkaClient._get_conn = _node_by_node(AIOKafkaClient._get_conn)
