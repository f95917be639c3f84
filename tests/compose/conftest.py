"""The command as a child process; every one a test starts is gone when the test is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.ports import free_port
from tests.support.crossfade import Crossfade

Start = Callable[..., Awaitable[Crossfade]]
Up = Callable[..., Awaitable[tuple[Crossfade, str, str]]]


@asynccontextmanager
async def commands(start: Start, folder: Path, running: list[Crossfade]) -> AsyncIterator[Start]:
    """Start commands in ``folder``; they are added to ``running``, and ended with the block."""

    async def run(*arguments: str, **settings: str) -> Crossfade:
        running.append(await start(*arguments, cwd=folder, **settings))
        return running[-1]

    try:
        yield run
    finally:
        await _end_all(running)


async def _end_all(running: list[Crossfade]) -> None:
    ended = await asyncio.gather(*map(_end, running), return_exceptions=True)
    running.clear()
    assert ended == [None] * len(ended)


async def _end(one: Crossfade) -> None:
    """Kill a command, and what it started if that does not end by itself."""
    members = one.family()
    try:
        await one.kill()
    except TimeoutError:
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        raise


@pytest.fixture
def running_commands() -> list[Crossfade]:
    """The commands that the test has started."""
    return []


@pytest_asyncio.fixture
async def crossfade(tmp_path: Path, running_commands: list[Crossfade]) -> AsyncIterator[Start]:
    """Fork ``crossfade ARGUMENTS`` in an empty folder, with the given settings."""
    async with commands(Crossfade.fork, tmp_path, running_commands) as start:
        yield start


@pytest_asyncio.fixture
async def typed_crossfade(
    tmp_path: Path, running_commands: list[Crossfade]
) -> AsyncIterator[Start]:
    """Start it as a shell does, in a second of processor time: where the start is the test."""
    async with commands(Crossfade.start, tmp_path, running_commands) as start:
        yield start


@pytest_asyncio.fixture
async def database_url(database_url: str, running_commands: list[Crossfade]) -> AsyncIterator[str]:
    """A database of the test's own.

    Commands end before it is given back, in whatever order the test names its fixtures. A process
    that a supervisor was just starting would come to it while another test has it.
    """
    yield database_url
    await _end_all(running_commands)


def _up(crossfade: Start) -> Up:
    async def start(*arguments: str, **settings: str) -> tuple[Crossfade, str, str]:
        running = await crossfade("up", *arguments, **settings)
        await running.says("Ctrl-C stops everything")
        api = (await running.says(r"API +(http://\S+)"))[1]
        metrics = (await running.says(r"Metrics +(http://\S+)"))[1]
        return running, api, metrics

    return start


@pytest.fixture
def up(crossfade: Start) -> Up:
    """Fork ``crossfade up`` and wait for its panel; return it, the API's and the metrics' URL."""
    return _up(crossfade)


@pytest.fixture
def typed_up(typed_crossfade: Start) -> Up:
    """Start it as a shell does."""
    return _up(typed_crossfade)


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
    }
