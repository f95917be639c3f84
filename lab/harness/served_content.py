"""Large contents as a reader gets them: fetched over HTTP, and named by the bytes received."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from lab.harness.content_name import name_of
from lab.load.client import Client

__all__ = ["served_contents"]

_AT_ONCE = 8
_PATIENCE = 60.0  # seconds that the service may need to recover from a last fault


async def served_contents(api_url: str, message_ids: Iterable[str]) -> Mapping[str, str]:
    """GET the content of each message; return its name, or the error in its place, by id."""
    client = Client(timeout=10.0)
    slots = asyncio.Semaphore(_AT_ONCE)
    give_up = time.monotonic() + _PATIENCE

    async def name(message_id: str) -> str:
        async with slots:
            return await _name(client, f"{api_url}/api/messages/{message_id}/content", give_up)

    ids = list(message_ids)
    try:
        return dict(zip(ids, await asyncio.gather(*map(name, ids)), strict=True))
    finally:
        await client.close()


async def _name(client: Client, url: str, give_up: float) -> str:
    while True:
        try:
            answer = await client.get(url)
        except ConnectionError as error:
            problem = str(error)
        else:
            if answer.status == 200:
                return name_of(answer.body)
            problem = f"{answer.status} {answer.text[:200]}"
            if answer.status != 503:
                return problem
        if time.monotonic() > give_up:
            return problem
        await asyncio.sleep(0.2)
