"""FastStream on Redis Streams: FastAPI publishes, and a subscriber per stream inserts batches.

One subscriber per stream keeps the order of a conversation. With ``batch=True`` FastStream passes
the records of one read to the handler, and acknowledges them when the handler has returned.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
from fastapi import FastAPI
from faststream.redis import RedisBroker, StreamSub

from lab.bench.baselines.bodies import MessageBody, accepted, encode
from lab.bench.baselines.rows import INSERT, message_columns
from transport.message.envelope import Message
from transport.message.partitioner import partition_for

_PARTITIONS = int(os.environ.get("STREAM_PARTITIONS", "16"))
_BATCH = 500

broker = RedisBroker(
    f"redis://{os.environ['REDIS_HOST']}:{os.environ['REDIS_PORT']}/1",
    logger=None,
    max_connections=10_000,  # redis-py's own limit is 100, above which it raises
)


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"]) as pool:
        app.state.pool = pool
        async with broker:
            await broker.start()
            yield


app = FastAPI(openapi_url=None, lifespan=_connected)


def _stream(partition: int) -> str:
    return f"fast:stream:{partition}"


def _subscribe(partition: int) -> None:
    source = StreamSub(
        _stream(partition), group="rows", consumer="one", batch=True, max_records=_BATCH
    )

    @broker.subscriber(stream=source)
    async def persist(bodies: list[dict[str, Any]]) -> None:
        messages = (msgspec.convert(body, Message) for body in bodies)
        rows = message_columns((partition, "", message) for message in messages)
        await app.state.pool.execute(INSERT, *rows, "redis")


for number in range(_PARTITIONS):
    _subscribe(number)


@app.post("/api/messages", status_code=202)
async def post_message(body: MessageBody) -> dict[str, str]:
    """Append the message; the table's unique key makes repeats one row."""
    message = accepted(body)
    place = partition_for(body.conversationId, _PARTITIONS)
    await broker.publish(encode(message), stream=_stream(place))
    return {
        "messageId": message.message_id,
        "state": "pending",
        "acceptedAt": message.accepted_at,
    }
