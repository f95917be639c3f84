"""A FastAPI handler for the same request body that does nothing: the cost of the framework."""

from __future__ import annotations

from fastapi import FastAPI

from lab.bench.baselines.bodies import MessageBody

app = FastAPI(openapi_url=None)


@app.post("/api/messages", status_code=202)
async def post_message(body: MessageBody) -> dict[str, str]:
    """Answer as the service does, without any work."""
    return {"messageId": body.clientMessageId, "state": "pending"}
