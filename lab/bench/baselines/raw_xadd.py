"""Publishes with pipelined ``XADD`` alone; prints messages per second.

It reads ``{"seconds", "batch", "writers"}`` from standard input. Each writer has one pipeline of
``batch`` commands in flight, with redis-py (hiredis). The entries have the same fields and bytes as
those of the service.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from typing import Any

import uvloop
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lab.bench.samples import envelopes

_POOL = 40  # batches made in advance, and sent repeatedly: the bytes make no difference to XADD


async def main() -> None:
    """Publish until the time is up."""
    job = json.load(sys.stdin)
    made = envelopes(job["batch"] * _POOL, run="raw")
    batches: list[list[tuple[str, dict[Any, Any]]]] = [
        [
            (f"msg:stream:{e.partition}", {"key": e.key, "body": e.body, **e.headers})
            for e in itertools.islice(made, job["batch"])
        ]
        for _ in range(_POOL)
    ]
    client = Redis(
        host=os.environ["REDIS_HOST"],
        port=int(os.environ["REDIS_PORT"]),
        db=2,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
    )
    deadline = time.perf_counter() + job["seconds"]
    written = 0
    turn = itertools.cycle(batches)

    async def write() -> None:
        nonlocal written
        while time.perf_counter() < deadline:
            pipeline = client.pipeline(transaction=False)
            for stream, fields in next(turn):
                pipeline.xadd(stream, fields)
            written += len(await pipeline.execute())

    started = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(job["writers"])))
    print(written / (time.perf_counter() - started))
    await client.aclose()


if __name__ == "__main__":
    uvloop.run(main())
