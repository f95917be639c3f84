"""The common solution: FastAPI, and one Lua call per request that claims the key and appends.

With ``ENABLE_STREAM_CONSUMERS=true`` the same process drains the streams with the loop of
``hand_written_worker``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from lab.bench.baselines.bodies import MessageBody, accepted, encode
from lab.bench.baselines.hand_written_worker import drain, new_redis
from transport.message.partitioner import partition_for

_TTL_SECONDS = 300
_PARTITIONS = int(os.environ.get("STREAM_PARTITIONS", "16"))
_APPEND_ONCE = """
local seen = redis.call('GET', KEYS[1])
if seen then return seen end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('XADD', KEYS[2], '*', 'messageId', ARGV[1], 'body', ARGV[2])
return false
"""

redis = new_redis()
append_once = redis.register_script(_APPEND_ONCE)


@asynccontextmanager
async def _draining(_: FastAPI) -> AsyncIterator[None]:
    if os.environ.get("ENABLE_STREAM_CONSUMERS", "true") != "true":
        yield
        return
    task = asyncio.create_task(drain(for_ever=True))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


app = FastAPI(openapi_url=None, lifespan=_draining)


@app.post("/api/messages", status_code=202)
async def post_message(body: MessageBody) -> dict[str, str | bool]:
    """Claim the key and append; answer a repeat with the id of the first message."""
    message = accepted(body)
    stream = f"msg:stream:{partition_for(body.conversationId, _PARTITIONS)}"
    seen = await append_once(
        keys=[f"idem:{message.idempotency_key}", stream],
        args=[message.message_id, encode(message), _TTL_SECONDS],
    )
    return {
        "messageId": seen.decode() if seen else message.message_id,
        "state": "pending",
        "acceptedAt": message.accepted_at,
        "idempotentHit": bool(seen),
    }
