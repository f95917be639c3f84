"""How many frames a message passes from its group commit to the log's socket.

Each frame is a door for a reader who follows one message. What is new here has to earn its place: a
decorator that only forwards, or one whose feature is switched off, does not.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from compose.process.context import ProcessContext
from compose.process.logs.transports import open_logs
from compose.settings import load
from otel.metrics import Metrics
from persistence.database.pool import Pool
from tests.ingress.conftest import Start, message
from tests.support.eventually import eventually
from transport.redis.client.connections import RedisConnections
from transport.settings import TransportSettings


def _frames(task: asyncio.Task[Any]) -> list[str]:
    """The coroutines that wait for each other in ``task``, the outermost first."""
    frames, waiting = [], task.get_coro()
    while (code := getattr(waiting, "cr_code", None)) is not None:
        frames.append(code.co_qualname)
        waiting = waiting.cr_await
    return frames


def _tick() -> list[str]:
    """The frames of the group commit that is under way, once it waits for the server's reply."""
    for task in asyncio.all_tasks():
        frames = _frames(task)
        if frames[0].startswith("CommitQueue.") and frames[-1].startswith("RedisWire."):
            return frames
    return []


@pytest.mark.parametrize(
    ("shadow", "most"), [({}, 9), ({"transport_shadow": "memory"}, 10)], ids=["alone", "shadow"]
)
async def test_a_message_passes_few_frames_to_the_socket(
    shadow: dict[str, Any],
    most: int,
    redis_settings: TransportSettings,
    database_pool: Pool,
    launch: Start,
    metrics: Metrics,
) -> None:
    settings = redis_settings.model_copy(update=shadow)
    server = RedisConnections(redis_settings)
    context = ProcessContext(load()._replace(transport=settings), database_pool, metrics, "test")
    async with open_logs(context) as logs:
        service = await launch(transport=logs.written)
        await server.call("CLIENT", "PAUSE", 60_000, "WRITE")
        posting = asyncio.create_task(service.post(message()))
        try:
            frames = await eventually(_tick)
        finally:
            await server.call("CLIENT", "UNPAUSE")
        assert (await posting).status_code == 202
    await server.close()
    assert len(frames) <= most, " > ".join(frames)
