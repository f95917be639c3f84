"""A log that went back while none of our processes ran: what they knew outlives them."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from compose.process.logs.log_ends import LogEnds
from persistence.fleet.log_ends import End, known_ends, note_ends
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.redis import RedisTransport
from transport.redis.entry_ids import id_key as entry_key


async def _lost(log: RedisTransport) -> list[int]:
    return [it.lost for it in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)]


@pytest.mark.parametrize("is_restored", [True, False])
async def test_a_loss_that_no_process_lived_through_is_counted(
    tmp_path: Path, database_pool: asyncpg.Pool, is_restored: bool
) -> None:
    """Each record, and once, however many processes come."""
    server = ValkeyServer(tmp_path / "redis" / "data")
    await server.start()
    try:
        async with RedisTransport.from_settings(short_settings(server)) as log:
            await LogEnds(database_pool, [log]).exchange()  # which gives it its identity
            await log.publish(messages(["kept"], partition=0, of=log))
            await log.publish(messages(["kept"], partition=1, of=log))
        await server.stop()
        shutil.copytree(server.data_dir, tmp_path / "backup")
        await server.start()
        async with RedisTransport.from_settings(short_settings(server)) as log:
            ends = LogEnds(database_pool, [log])
            await log.publish(messages(["lost"] * 3, partition=0, of=log))
            await ends.exchange()
        await server.stop()
        if is_restored:
            shutil.rmtree(server.data_dir)
            shutil.copytree(tmp_path / "backup", server.data_dir)
        await server.start()
        for _ in range(2):
            async with RedisTransport.from_settings(short_settings(server)) as log:
                assert is_restored or await _lost(log) == [0, 0, 0, 0]
                await LogEnds(database_pool, [log]).exchange()
                assert await _lost(log) == [3 * is_restored, 0, 0, 0]
                (new,) = await log.publish(messages(["new"], partition=0, of=log))
                assert isinstance(new, Appended)
    finally:
        await server.stop()


@pytest.mark.parametrize("reconnects", [False, True])
async def test_a_loss_is_counted_where_the_append_only_file_was_cut(
    new_redis: Callable[[], Awaitable[ValkeyServer]], database_pool: asyncpg.Pool, reconnects: bool
) -> None:
    """The file is cut after the last process ended, which had shared its ends in time.

    ``reconnects``: the lost records went over a connection that was made after the last look.
    """
    server = await new_redis()
    async with RedisTransport.from_settings(short_settings(server)) as log:
        ends = LogEnds(database_pool, [log])
        await log.publish(messages(["kept"], partition=0, of=log))
        await ends.exchange()  # which gives it its identity
        assert await _lost(log) == [0, 0, 0, 0]  # the last look
        (file,) = server.data_dir.glob("appendonlydir/*.incr.aof")
        kept = file.stat().st_size
        if reconnects:
            async with Redis(host=server.host, port=server.port) as client:
                await client.execute_command("CLIENT", "KILL", "TYPE", "normal")

        async def appended() -> bool:
            outcomes = await log.publish(messages(["lost"] * 60, partition=0, of=log))
            return all(isinstance(outcome, Appended) for outcome in outcomes)

        await eventually(appended)
        await ends.exchange()
    await server.stop()
    with file.open("r+b") as stream:
        stream.truncate(kept)
    await server.start()
    async with RedisTransport.from_settings(short_settings(server)) as log:
        assert len(await log.read(Topic.MESSAGES, 0)) == 1
        await LogEnds(database_pool, [log]).exchange()
        assert sum(await _lost(log)) == 60


async def test_what_was_trimmed_since_is_not_taken_for_lost(
    new_redis: Callable[[], Awaitable[ValkeyServer]], database_pool: asyncpg.Pool
) -> None:
    server = await new_redis()
    settings = short_settings(server, stream_retention_records=0, stream_retention_seconds=0)
    async with RedisTransport.from_settings(settings) as log:
        worker = Settler(log)
        async with worker.working():
            await log.publish(messages(["x"] * 400, partition=0, of=log))
            await LogEnds(database_pool, [log]).exchange()
            await eventually(lambda: len(worker.records) >= 400)

            async def trimmed() -> bool:
                return len(await log.read(Topic.MESSAGES, 0)) < 300

            await eventually(trimmed)
    async with RedisTransport.from_settings(settings) as another:
        await LogEnds(database_pool, [another]).exchange()
        assert await _lost(another) == [0, 0, 0, 0]


async def _restored(tmp_path: Path, pool: asyncpg.Pool, server: ValkeyServer) -> None:
    """Leave a log that was restored from before its last, known record of two partitions."""
    await server.start()
    async with RedisTransport.from_settings(short_settings(server)) as log:
        await LogEnds(pool, [log]).exchange()
        await log.publish(messages(["kept"], partition=0, of=log))
    await server.stop()
    shutil.copytree(server.data_dir, tmp_path / "backup")
    await server.start()
    async with RedisTransport.from_settings(short_settings(server)) as log:
        await log.publish(messages(["lost"], partition=0, of=log))
        await log.publish(messages(["lost"], partition=1, of=log))
        await LogEnds(pool, [log]).exchange()
    await server.stop()
    shutil.rmtree(server.data_dir)
    shutil.copytree(tmp_path / "backup", server.data_dir)
    await server.start()


async def test_a_loss_is_counted_where_there_is_traffic_before_anybody_can_ask(
    tmp_path: Path, database_pool: asyncpg.Pool
) -> None:
    """PostgreSQL was down, say: what was appended and seen since is newer than what is gone."""
    server = ValkeyServer(tmp_path / "redis" / "data")
    try:
        await _restored(tmp_path, database_pool, server)
        async with RedisTransport.from_settings(short_settings(server)) as log:
            for partition in (0, 1):
                await log.publish(messages(["new"], partition=partition, of=log))
            assert await _lost(log) == [0, 0, 0, 0]
            await LogEnds(database_pool, [log]).exchange()
            assert await _lost(log) == [1, 1, 0, 0]
            await log.publish(messages(["new"], partition=0, of=log))
            await LogEnds(database_pool, [log]).exchange()
            assert await _lost(log) == [1, 1, 0, 0], "once"
    finally:
        await server.stop()


async def test_no_newer_end_takes_the_place_of_one_that_was_not_looked_for(
    database_pool: asyncpg.Pool,
) -> None:
    identity = str(uuid4())

    async def note(offset: str, instead_of: str | None) -> dict[int, str]:
        end = End(0, entry_key(offset), offset, instead_of)
        await note_ends(database_pool, identity, [end], within=5.0)
        return await known_ends(database_pool, identity, within=5.0)

    assert await note("2-0", None) == {0: "2-0"}
    assert await note("4-0", None) == {0: "2-0"}, "it was not known when that one began"
    assert await note("1-0", "2-0") == {0: "2-0"}, "an older one"
    assert await note("3-0", "2-0") == {0: "3-0"}
    assert await note("5-0", "2-0") == {0: "3-0"}, "another process was told of that meanwhile"
