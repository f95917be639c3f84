"""The command as a child process; every one a test starts is gone when the test is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest_asyncio

from compose.local.ports import free_port
from tests.support.crossfade import Crossfade


@pytest_asyncio.fixture
async def crossfade(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Crossfade]]]:
    """Start ``crossfade ARGUMENTS`` in an empty folder, with the given settings."""
    started: list[Crossfade] = []

    async def start(*arguments: str, **settings: str) -> Crossfade:
        started.append(await Crossfade.start(*arguments, cwd=tmp_path, **settings))
        return started[-1]

    yield start
    for one in started:
        await one.kill()


@pytest_asyncio.fixture
async def up(
    crossfade: Callable[..., Awaitable[Crossfade]],
) -> Callable[..., Awaitable[tuple[Crossfade, str, str]]]:
    """Start ``crossfade up`` and wait for its panel; return it, the API's and the metrics' URL."""

    async def start(*arguments: str, **settings: str) -> tuple[Crossfade, str, str]:
        running = await crossfade("up", *arguments, **settings)
        await running.says("Ctrl-C stops everything")
        api = (await running.says(r"API +(http://\S+)"))[1]
        metrics = (await running.says(r"Metrics +(http://\S+)"))[1]
        return running, api, metrics

    return start


@pytest_asyncio.fixture
async def places(new_redis, database_url) -> dict[str, str]:
    """Settings for a Redis of the test's own, a fresh database, and free ports."""
    redis = await new_redis()
    return {
        "REDIS_PORT": str(redis.port),
        "REDIS_HOST": redis.host,
        "DATABASE_URL": database_url,
        "PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
        "STREAM_LEASE_MS": "2000",
    }
