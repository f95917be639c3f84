"""A well-written minimal worker that moves messages from Redis to PostgreSQL.

It reads all streams at once, reads ahead while a batch is inserted, inserts with one ``unnest``
statement, and acknowledges in one pipeline, with redis-py (hiredis) and asyncpg. It has no
ownership, no fencing, no handling of outages or poison records, no receipts and no metrics. As a
program it ends when the streams are drained.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg
import uvloop
from redis.asyncio import Redis

from lab.bench.baselines.rows import INSERT, columns

__all__ = ["drain", "new_redis"]

_BATCH = 100  # records per stream
_GROUP = "hand-written"
_WAIT_MS = 1000

Streams = list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]


def new_redis() -> Redis:
    """Return a client, which connects at its first use."""
    return Redis(
        host=os.environ["REDIS_HOST"],
        port=int(os.environ["REDIS_PORT"]),
        db=int(os.environ.get("REDIS_STREAM_DB", "1")),
        protocol=2,
        max_connections=10_000,  # redis-py's own limit is 100, above which it raises
    )


async def drain(*, for_ever: bool) -> None:
    """Move all messages; with ``for_ever``, go on with new ones."""
    redis = new_redis()
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    insert = await connection.prepare(INSERT)
    partitions = int(os.environ.get("STREAM_PARTITIONS", "16"))
    names = {f"msg:stream:{p}".encode(): p for p in range(partitions)}
    for name in names:
        await redis.xgroup_create(name, _GROUP, "0", mkstream=True)
    new: Any = dict.fromkeys(names, ">")

    async def read() -> Streams:
        wait = _WAIT_MS if for_ever else None
        return await redis.xreadgroup(_GROUP, "one", new, count=_BATCH, block=wait)

    reading = asyncio.create_task(read())
    try:
        while (streams := await reading) or for_ever:
            reading = asyncio.create_task(read())
            if not streams:
                continue
            records = (
                (names[name], entry_id.decode(), fields[b"body"])
                for name, entries in streams
                for entry_id, fields in entries
            )
            await insert.fetch(*columns(records), "redis")
            acknowledged = redis.pipeline(transaction=False)
            for name, entries in streams:
                acknowledged.xack(name, _GROUP, *(entry_id for entry_id, _ in entries))
            await acknowledged.execute()
    finally:
        reading.cancel()
        await connection.close()
        await redis.aclose()


if __name__ == "__main__":
    uvloop.run(drain(for_ever=False))
