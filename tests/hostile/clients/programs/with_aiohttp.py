"""aiohttp: one session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from steps import Step, failed, report, waves


async def pieces(step: Step) -> AsyncIterator[bytes]:
    for piece in step.pieces():
        yield piece


async def send(session: aiohttp.ClientSession, step: Step) -> None:
    data = pieces(step) if step.chunked else step.body
    try:
        async with session.request(
            step.method, step.url, headers=step.headers, data=data, expect100=step.expect
        ) as answer:
            report(step, answer.status, answer.headers.get("Content-Type"), await answer.read())
    except aiohttp.ClientError as error:
        failed(step, error)


async def main() -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        for wave in waves():
            await asyncio.gather(*(send(session, step) for step in wave))


asyncio.run(main())
