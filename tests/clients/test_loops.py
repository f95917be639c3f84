"""One ``AsyncClient`` in several event loops: each has connections of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from crossfade import AsyncClient, NewMessage, Retry

from .conftest import API_KEY, Site

_ONCE = Retry(attempts=1)


async def test_loops_that_run_one_after_the_other(site: Site, conversation: str) -> None:
    """Such as ``asyncio.run`` in each task of a worker, with a client that a module holds."""
    contents = [f"{number}" for number in range(5)]

    def run() -> None:
        client = AsyncClient(site.url, api_key=API_KEY, retry=_ONCE)
        for content in contents:
            asyncio.run(_send(client, conversation, content))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # sockets of loops that are closed
        await asyncio.to_thread(run)
        gc.collect()
    assert await site.rows(conversation, len(contents)) == contents


async def test_loops_that_run_at_once(site: Site, conversation: str) -> None:
    client = AsyncClient(site.url, api_key=API_KEY, retry=_ONCE)
    contents = [f"{number}" for number in range(6)]
    before = site.front.connections
    with _running_loop() as one, _running_loop() as other:
        for content in contents:
            for loop in (one, other):
                sending = _send(client, conversation, content)
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, loop))
        for loop in (one, other):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(client.close(), loop))
    assert site.front.connections == before + 2
    assert await site.rows(conversation, len(contents)) == contents


async def _send(client: AsyncClient, conversation: str, content: str) -> None:
    await client.send(NewMessage(conversation, "alice", content, client_message_id=content))


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
