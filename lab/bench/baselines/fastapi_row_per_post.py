"""A service without a log: FastAPI and asyncpg, with one insert per request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI

from lab.bench.baselines.bodies import MessageBody, accepted
from lab.bench.baselines.rows import INSERT, message_columns

_POOL = 16


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], max_size=_POOL) as pool:
        app.state.pool = pool
        yield


app = FastAPI(openapi_url=None, lifespan=_connected)


@app.post("/api/messages", status_code=202)
async def post_message(body: MessageBody) -> dict[str, str]:
    """Insert a row; a repeat inserts nothing, and gets the same id."""
    message = accepted(body)
    await app.state.pool.execute(INSERT, *message_columns([(0, "", message)]), "direct")
    return {
        "messageId": message.message_id,
        "state": "persisted",
        "acceptedAt": message.accepted_at,
    }
