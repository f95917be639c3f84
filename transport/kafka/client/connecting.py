"""A patch of aiokafka: a node that can't be connected delays no connection to another one.

aiokafka connects to one node at a time. One that hung, or whose host was gone, took the whole time
of a request each time, and a client could not connect to the new leaders and coordinators.
"""
# ruff: noqa: SLF001 - no public way

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

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


def install() -> None:
    """Apply the patch to all clients of this process."""
    AIOKafkaClient._get_conn = _node_by_node(AIOKafkaClient._get_conn)
