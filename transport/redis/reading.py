"""Reading without a group, and how far groups are. Neither changes anything in the log."""

from __future__ import annotations

from collections.abc import Sequence

from transport.contract import Progress, Record
from transport.redis.connections import Connections
from transport.redis.errors import translate
from transport.redis.functions import Functions
from transport.redis.keys import Log
from transport.redis.line import Reply
from transport.redis.records import records

__all__ = ["progress", "read"]

_NOWHERE = b"0-0"


async def read(
    connections: Connections, log: Log, partition: int, after: str | None, limit: int
) -> list[Record]:
    """Return up to ``limit`` records after ``after``; see ``Transport.read``."""
    start = f"({after}" if after else "-"
    entries = await connections.call("XRANGE", log.streams[partition], start, "+", "COUNT", limit)
    return records(log.topic, partition, entries)


async def progress(functions: Functions, log: Log, group: str) -> Sequence[Progress]:
    """Return how far ``group`` is in every partition; see ``Transport.progress``."""
    replies = await functions.exchange(
        [
            functions.command("inspect", (stream, log.lease(partition, group)), group)
            for partition, stream in enumerate(log.streams)
        ]
    )
    return [_progress(partition, reply) for partition, reply in enumerate(replies)]


def _progress(partition: int, reply: Reply) -> Progress:
    if isinstance(reply, Exception):
        raise translate(reply)
    undelivered, pending, oldest, floor, end, owner, lost, now_ms, added = reply
    return Progress(
        partition=partition,
        lag=undelivered + pending if undelivered >= 0 else None,
        pending=pending,
        oldest_age=max(0.0, (int(now_ms) - _ms(oldest)) / 1000) if oldest else 0.0,
        floor=_position(floor),
        end=_position(end),
        owner=owner.decode() or None,
        lost=lost,
        appended=added,
    )


def _position(entry_id: bytes) -> str | None:
    return entry_id.decode() if entry_id not in (b"", _NOWHERE) else None


def _ms(entry_id: bytes) -> int:
    return int(entry_id.split(b"-", 1)[0])
