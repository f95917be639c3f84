"""Runs uvicorn in the tests' process, without its signal handlers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from ingress.http1.connection import HttpConnection

__all__ = ["run_uvicorn"]

_STOP_SECONDS = 10.0


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def run_uvicorn(app: Any, **options: Any) -> AsyncIterator[int]:
    """Serve ``app`` on a free loopback port, and yield the port; stop as after a signal.

    Raises:
        AssertionError: uvicorn did not end, since it waits for ever for a connection that is open.
    """
    # The protocol must be TCP explicitly: else asyncio leaves Nagle's algorithm on, and each answer
    # takes 40 ms.
    bound = socket.socket(proto=socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", **options)
    )
    task = asyncio.create_task(server.serve([bound]))
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        await _ended(server, task)
        bound.close()


async def _ended(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait([task], timeout=_STOP_SECONDS)
    if done:
        return task.result()
    state = server.server_state
    left = f"{len(state.connections)} connections and {len(state.tasks)} requests"
    for connection in tuple(state.connections):
        if isinstance(connection, HttpConnection):
            connection.end()  # else closing the loop would wait for it, too
    server.force_exit = True
    for running in (*state.tasks, task):
        running.cancel()
    await asyncio.wait([*state.tasks, task], timeout=_STOP_SECONDS)
    raise AssertionError(f"the server did not stop within {_STOP_SECONDS:g} s: it has {left} open")
