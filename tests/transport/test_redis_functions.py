"""The library of functions is loaded again whenever the server has lost it."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.redis_library import OTHER_FUNCTION, answers_append, replace_library
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler, settle
from transport.conformance.envelopes import contents, message, messages
from transport.contract import Appended, Topic
from transport.errors import AppendUnknown
from transport.redis import RedisTransport
from transport.redis.client.connections import RedisConnections
from transport.redis.client.functions import Functions, library_source
from transport.settings import TransportSettings


async def test_a_flushed_library_is_loaded_again_in_the_middle_of_a_batch(
    near: RedisTransport, client: Redis
) -> None:
    await client.execute_command("FUNCTION", "FLUSH")
    texts = [str(i) for i in range(2500)]  # several calls to one partition
    outcomes = await near.publish(messages(texts, partition=0, of=near))
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert contents(await near.read(Topic.MESSAGES, 0, limit=5000)) == texts


async def test_workers_do_not_notice_that_the_library_is_flushed(
    near: RedisTransport, client: Redis
) -> None:
    worker = Settler(near, batch=3)
    async with worker.working():
        for i in range(20):
            await client.execute_command("FUNCTION", "FLUSH")
            await near.publish([message(str(i), partition=0, of=near)])
            await eventually(lambda n=i + 1: len(worker.records) >= n)  # type: ignore[misc]
    assert contents(worker.records) == [str(i) for i in range(20)]


async def test_a_library_that_was_replaced_by_another_of_its_name_is_loaded_again(
    near: RedisTransport, client: Redis
) -> None:
    worker = Settler(near, batch=3)
    async with worker.working():
        for i in range(5):
            await replace_library(client, OTHER_FUNCTION)
            (outcome,) = await near.publish([message(str(i), partition=0, of=near)])
            assert isinstance(outcome, Appended), outcome
            await eventually(lambda n=i + 1: len(worker.records) >= n)  # type: ignore[misc]
    assert contents(worker.records) == [str(i) for i in range(5)]


@pytest.mark.parametrize(
    "value",
    ["nil", "1", "''", "{}", "{1}", "{{'1-1'}}", "{'no id', 'no id'}", "{'1-1', '1-2', '1-3'}"],
)
async def test_an_append_that_a_foreign_function_answers_is_of_unknown_outcome(
    near: RedisTransport, client: Redis, value: str
) -> None:
    """Until a call finds a function missing: the library is loaded again then."""
    (before,) = await near.publish([message("before", partition=0, of=near)])
    assert isinstance(before, Appended)
    await replace_library(client, answers_append(value))
    outcomes = await near.publish(messages(["a", "b"], partition=0, of=near))
    assert [type(outcome) for outcome in outcomes] == [AppendUnknown] * 2
    assert "FUNCTION DELETE" in str(outcomes[0])
    assert contents(await near.read(Topic.MESSAGES, 0)) == ["before"]
    outcomes = await near.publish(messages(["a", "b"], partition=0, of=near))
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert contents(await near.read(Topic.MESSAGES, 0)) == ["before", "a", "b"]


async def test_processes_that_load_it_at_the_same_time_do_not_disturb_each_other(
    near: RedisTransport, client: Redis, settings: TransportSettings
) -> None:
    async with RedisTransport.from_settings(settings) as other:
        for _ in range(5):
            await client.execute_command("FUNCTION", "FLUSH")
            batches = [
                transport.publish([message("x", partition=p, of=transport) for p in range(4)])
                for transport in (near, other)
            ]
            for outcomes in await asyncio.gather(*batches):
                assert all(isinstance(outcome, Appended) for outcome in outcomes)


async def test_two_releases_share_a_server(
    near: RedisTransport, client: Redis, settings: TransportSettings
) -> None:
    """A library is named after its text, so a newer one does not replace it."""
    connections = RedisConnections(settings)
    ours, newer = (Functions(connections, text) for text in (None, f"{library_source()}\n-- newer"))
    await newer.load()
    names = {library[1].decode() for library in await client.execute_command("FUNCTION", "LIST")}
    assert ours.library != newer.library
    assert {ours.library, newer.library} <= names
    (appended,) = await near.publish([message("x", partition=0, of=near)])
    assert isinstance(appended, Appended)
    await client.execute_command("FUNCTION", "DELETE", newer.library)
    await connections.close()


async def test_a_restart_without_persistence_is_survived(
    own_redis: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = ValkeyServer(
        tmp_path_factory.mktemp("volatile") / "data",
        binary=own_redis.binary,
        config={"appendonly": "no"},
    )
    await server.start()
    try:
        async with RedisTransport.from_settings(short_settings(server)) as near:
            worker = Settler(near)
            async with worker.working():
                await near.publish([message("before", partition=0, of=near)])
                await eventually(lambda: len(worker.records) == 1)
                await server.kill()
                await server.start()

                async def appended() -> bool:
                    (outcome,) = await near.publish([message("after", partition=0, of=near)])
                    return isinstance(outcome, Appended)

                await eventually(appended)
                # What the restart lost is appended again, and may come by itself.
                await eventually(lambda: "after" in contents(worker.records))
            await near.publish([message("last", partition=1, of=near)])
            assert contents(await settle(near, 1, partition=1)) == ["last"]
    finally:
        await server.stop()
