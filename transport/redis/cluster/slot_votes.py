"""A vote among the servers of a cluster about the map of slots."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from transport.errors import TransportError
from transport.redis.cluster.slot_map import SlotMap
from transport.redis.connection.connection import Address
from transport.redis.connection.locator import tell

__all__ = ["ask_for_slots"]

_ASK_SECONDS = 1.0
_EPOCH = re.compile(rb"^cluster_current_epoch:(\d+)", re.MULTILINE)


async def ask_for_slots(addresses: Sequence[Address]) -> SlotMap | None:
    """Return the map that most servers agree on; ``None`` if no server has one.

    A server that is cut off has an outdated map. If it says so (``cluster_state:fail``), its answer
    counts only if all servers say so. A server with two addresses counts once. The latest election
    decides a tie.
    """
    distinct = list({(it.host, it.port): it for it in addresses}.values())
    told = await asyncio.gather(*(_ask(it) for it in distinct))
    votes = list({vote.node: vote for vote in told if vote is not None}.values())
    votes = [vote for vote in votes if vote.is_well] or votes
    if not votes:
        return None
    counts = Counter(vote.slots for vote in votes)
    return max(votes, key=lambda vote: (counts[vote.slots], vote.epoch)).slots


class _Vote(NamedTuple):
    """A server's answer; ``epoch`` is that of the last election it knows."""

    node: object
    slots: SlotMap
    is_well: bool
    epoch: int


async def _ask(address: Address) -> _Vote | None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            reply, node, info = await tell(
                address, ("CLUSTER", "SLOTS"), ("CLUSTER", "MYID"), ("CLUSTER", "INFO")
            )
    except (TransportError, TimeoutError):
        return None
    slots = SlotMap.read(reply, address.host) if isinstance(reply, list) else SlotMap()
    if not slots.ranges:
        return None
    said = info if isinstance(info, bytes) else b""
    epoch = _EPOCH.search(said)
    return _Vote(
        node if isinstance(node, bytes) else (address.host, address.port),
        slots,
        b"cluster_state:fail" not in said,
        int(epoch[1]) if epoch else 0,
    )
