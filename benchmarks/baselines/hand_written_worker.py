"""What one would write by hand to move messages from Redis to PostgreSQL, and write well.

Read 500, decode, one ``unnest`` insert, acknowledge; partition by partition, over redis-py with
hiredis and asyncpg. It knows no ownership, no fencing, no outage, no poison, no receipts, no
metrics. It ends when nothing is left.
"""

from __future__ import annotations

import os
from typing import Any

import asyncpg
import uvloop
from redis.asyncio import Redis

from benchmarks.baselines.rows import INSERT, columns

_BATCH = 500
_GROUP = "hand-written"


async def main() -> None:
    """Move everything."""
    redis = Redis(
        host=os.environ["REDIS_HOST"],
        port=int(os.environ["REDIS_PORT"]),
        db=int(os.environ.get("REDIS_STREAM_DB", "1")),
        protocol=2,
    )
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    insert = await connection.prepare(INSERT)
    streams = [f"msg:stream:{p}" for p in range(int(os.environ.get("STREAM_PARTITIONS", "16")))]
    for stream in streams:
        await redis.xgroup_create(stream, _GROUP, "0", mkstream=True)
    moved = True
    while moved:
        moved = False
        for partition, stream in enumerate(streams):
            reply: Any = await redis.xreadgroup(_GROUP, "one", {stream: ">"}, count=_BATCH)
            if reply:
                entries = reply[0][1]
                records = ((entry_id.decode(), fields[b"body"]) for entry_id, fields in entries)
                await insert.fetch(partition, *columns(records), "redis")
                await redis.xack(stream, _GROUP, *(entry_id for entry_id, _ in entries))
                moved = True
    await connection.close()
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
