"""Clients that post until told to stop, and keep trying with the same key, as clients should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import httpx

__all__ = ["posting"]

_ANSWERED = (200, 202)


@asynccontextmanager
async def posting(api: str, name: str, *, clients: int = 6) -> AsyncIterator[set[str]]:
    """Yield the ids of the messages that were acknowledged so far; end with all of them."""
    acknowledged: set[str] = set()
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(_post(api, f"{name}-{number}", acknowledged, stop))
        for number in range(clients)
    ]
    try:
        yield acknowledged
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _post(api: str, conversation: str, acknowledged: set[str], stop: asyncio.Event) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for number in count():
            if stop.is_set():
                return
            message = {
                "conversationId": conversation,
                "senderId": "client",
                "content": f"message {number}",
                "contentType": "text",
                "clientMessageId": f"{conversation}-{number}",
                "recipientIds": ["somebody"],
            }
            answer = None
            while answer is None or answer.status_code not in _ANSWERED:
                answer = None
                with suppress(httpx.TransportError):
                    answer = await client.post(f"{api}/api/messages", json=message)
                if answer is not None and answer.status_code not in (*_ANSWERED, 503):
                    raise AssertionError(f"{answer.status_code}: {answer.text}")
                if answer is None or answer.status_code == 503:
                    await asyncio.sleep(0.2)
            acknowledged.add(answer.json()["messageId"])
