"""A FastAPI handler with the same body that does nothing at all: the price of the framework."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.baselines.bodies import MessageBody

app = FastAPI(openapi_url=None)


@app.post("/api/messages", status_code=202)
async def post_message(body: MessageBody) -> dict[str, str]:
    """Answer as the service does, having done nothing."""
    return {"messageId": body.clientMessageId, "state": "pending"}
