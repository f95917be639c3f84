"""The usual way: FastAPI, and for each request ``SET NX`` to claim the key, then ``XADD``."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

from fastapi import FastAPI
from redis.asyncio import Redis

from benchmarks.baselines.bodies import MessageBody
from transport.partitioner import partition_for

app = FastAPI(openapi_url=None)
redis = Redis(
    host=os.environ["REDIS_HOST"], port=int(os.environ["REDIS_PORT"]), db=2, decode_responses=True
)


@app.post("/api/messages", status_code=202)
async def post_message(body: MessageBody) -> dict[str, str | bool]:
    """Claim the key, append, answer; a repeat is answered with the id that was claimed."""
    message_id = str(uuid.uuid4())
    key = f"idem:{body.senderId}:{body.conversationId}:{body.clientMessageId}"
    accepted_at = datetime.now(UTC).isoformat()
    hit = not await redis.set(key, message_id, nx=True, ex=300)
    if hit:
        message_id = str(await redis.get(key))
    else:
        stream = f"msg:stream:{partition_for(body.conversationId, 16)}"
        await redis.xadd(
            stream,
            {
                "messageId": message_id,
                "acceptedAt": accepted_at,
                "body": body.model_dump_json(),
            },
        )
    return {
        "messageId": message_id,
        "state": "pending",
        "acceptedAt": accepted_at,
        "idempotentHit": hit,
    }
