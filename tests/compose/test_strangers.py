"""Commands that look on read no stranger's log, and make none there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from typer.testing import CliRunner

from compose import output as console
from compose.cli import application
from compose.local import run_file
from compose.local.valkey import ValkeyServer
from migration_guide.gates import judge
from migration_guide.gates.result import Scene
from migration_guide.machine import Machine
from persistence.database.pool import Pool
from persistence.fleet.migration_state import state as read_state
from tests.support.eventually import eventually
from tests.support.phases import CHOICES
from transport.existing import must_exist
from transport.redis import RedisTransport
from transport.settings import TransportSettings

_WRITERS = [
    ("dlq", "redrive", "--all"),
    ("migrate", "backfill"),
    ("migrate", "backfill", "--dry-run"),
    ("migrate", "parity"),
]
_COMMANDS = [("status",), ("status", "--watch"), ("tail",), ("message", "x"), ("audit",)]


@pytest.fixture(autouse=True)
def a_new_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test is a command that has not looked yet, in an empty folder."""
    for name in ("_joined", "_alone", "_told", "_where"):
        monkeypatch.setattr(console, name, [])
    monkeypatch.setattr(console, "_taken", {})
    monkeypatch.chdir(tmp_path)


@pytest_asyncio.fixture
async def stranger(
    new_redis: Callable[[], Awaitable[ValkeyServer]], monkeypatch: pytest.MonkeyPatch
) -> ValkeyServer:
    """Another program's Redis, with data of its own, which the settings name by mistake."""
    server = await new_redis()
    async with Redis(port=server.port, db=1) as client:
        await client.set("theirs", "1")
    monkeypatch.setenv("REDIS_PORT", str(server.port))
    return server


@pytest.mark.parametrize("arguments", _COMMANDS, ids=" ".join)
async def test_a_redis_without_a_log_of_ours_is_refused_and_left_as_it_is(
    stranger: ValkeyServer, arguments: tuple[str, ...]
) -> None:
    ended = await asyncio.to_thread(CliRunner().invoke, application(), arguments)
    assert ended.exit_code == 2
    told = " ".join(ended.output.split())
    where = f"the Redis at localhost:{stranger.port}, database 1, streams msg:stream:*"
    assert f"{where}, holds no log of Crossfade" in told
    assert "name the server that the service uses, or start the service first" in told
    async with Redis(port=stranger.port, db=1) as client:
        assert await client.keys() == [b"theirs"]
        assert await client.function_list() == []


@pytest.mark.parametrize("arguments", _WRITERS, ids=" ".join)
async def test_a_command_that_appends_or_compares_makes_no_log_there_either(
    stranger: ValkeyServer,
    arguments: tuple[str, ...],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the right PostgreSQL, so that nothing else refuses it."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    ended = await asyncio.to_thread(CliRunner().invoke, application(), arguments)
    assert ended.exit_code == 2
    assert "holds no log of Crossfade" in " ".join(ended.output.split())
    async with Redis(port=stranger.port, db=1) as client:
        assert await client.keys() == [b"theirs"]


async def test_a_gate_makes_no_log_that_the_processes_should_have_made(
    stranger: ValkeyServer, database_pool: Pool
) -> None:
    await Machine(database_pool).adopt(CHOICES[0], "first")
    state = await read_state(database_pool)
    assert state is not None
    settings = TransportSettings(redis_port=stranger.port)
    async with Scene(database_pool, settings, state, [], origin=0, to=1) as scene:
        (answer,) = await judge(scene, ["workers"])
    assert answer.verdict == "unknown"
    assert "holds no log of Crossfade" in answer.reason
    async with Redis(port=stranger.port, db=1) as client:
        assert await client.keys() == [b"theirs"]


async def test_a_log_that_was_made_is_found_and_one_that_is_down_is_told_later(
    stranger: ValkeyServer,
) -> None:
    settings = TransportSettings(redis_port=stranger.port, stream_partitions=2)
    async with RedisTransport(settings):
        pass
    await must_exist("redis", settings)
    async with Redis(port=stranger.port, db=1) as client:  # what is left of it after a loss
        await client.delete("{msg:stream}:partitions", "msg:stream:0")
    await must_exist("redis", settings)
    await stranger.stop()
    await must_exist("redis", settings)
    await must_exist("memory", settings)


async def test_what_follows_ends_when_the_up_that_it_joined_is_stopped(
    stranger: ValkeyServer, tmp_path: Path
) -> None:
    """The next server on its ports may be another program's, with a log that looks like ours."""
    settings = TransportSettings(redis_port=stranger.port)
    async with RedisTransport(settings):
        folder = tmp_path / ".crossfade"
        folder.mkdir()
        given = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
        run_file.write(folder, given | {"REDIS_PORT": str(stranger.port)})
        command = asyncio.create_task(
            asyncio.to_thread(CliRunner().invoke, application(), ["tail"])
        )
        await eventually(lambda: bool(console.joined()))
        run_file.remove(folder)
        ended = await asyncio.wait_for(command, 60)
    assert ended.exit_code == 1
    assert "the 'crossfade up' of this folder is stopped" in " ".join(ended.output.split())
