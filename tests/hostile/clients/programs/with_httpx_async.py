"""httpx on asyncio: one client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from steps import Step, failed, report, waves


async def pieces(step: Step) -> AsyncIterator[bytes]:
    for piece in step.pieces():
        yield piece


async def send(client: httpx.AsyncClient, step: Step) -> None:
    headers = step.headers | ({"Expect": "100-continue"} if step.expect else {})
    content = pieces(step) if step.chunked else step.body
    try:
        answer = await client.request(step.method, step.url, headers=headers, content=content)
    except httpx.HTTPError as error:
        failed(step, error)
    else:
        report(step, answer.status_code, answer.headers.get("Content-Type"), answer.content)


async def main() -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        for wave in waves():
            await asyncio.gather(*(send(client, step) for step in wave))


asyncio.run(main())
