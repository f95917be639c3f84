"""Every failure of the client has a meaning, and what a sick server says reaches the right one."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator

import psutil
import pytest
import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.connection import DefaultParser

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.settler import settle
from transport.conformance.envelopes import message, messages
from transport.contract import WORKER_GROUP, Appended, DeadLetter, Reason, Topic
from transport.errors import TransportError, TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.connection.errors import MEANING, is_wrong_server, translate
from transport.redis.connection.rights import BETTER, LEAST


def test_no_exception_of_the_client_is_without_a_meaning() -> None:
    known = {
        cls
        for _, cls in inspect.getmembers(redis.exceptions, inspect.isclass)
        if issubclass(cls, Exception)
    }
    assert known, "the client's exceptions live elsewhere now"
    assert known - set(MEANING) == set()


def test_the_cause_is_kept_and_our_own_errors_stay_as_they_are() -> None:
    cause = redis.exceptions.OutOfMemoryError("used memory > maxmemory")
    told = translate(cause)
    assert isinstance(told, TransportUnavailable)
    assert told.__cause__ is cause
    assert translate(told) is told


@pytest.mark.parametrize(
    ("told", "is_wrong"),
    [
        ("READONLY You can't write against a read only replica.", True),
        ("READONLY You can't write against a read only replica. script: x, on @user:1.", True),
        ("ERR user_function:12: READONLY You can't write against a read only replica.", True),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", True),
        ("LOADING Redis is loading the dataset in memory", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", True),
        ("OOM command not allowed when used memory > 'maxmemory'.", False),
        ("MISCONF Redis is configured to save RDB snapshots", False),
        ("ERR Function not found", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
    ],
)
def test_a_server_that_is_no_primary_any_more_is_told_by_its_errors(
    told: str, is_wrong: bool
) -> None:
    assert is_wrong_server(DefaultParser.parse_error(told)) is is_wrong


@contextlib.asynccontextmanager
async def _changed(client: Redis, name: str, value: str) -> AsyncIterator[None]:
    before = (await client.config_get(name))[name]
    await client.config_set(name, value)
    try:
        yield
    finally:
        await client.config_set(name, before)


async def test_a_full_server_refuses_appends_and_lets_workers_drain(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(list("abc"), partition=0, of=near))
    async with _changed(client, "maxmemory", "1"):
        (outcome,) = await near.publish([message("d", partition=0, of=near)])
        assert isinstance(outcome, TransportUnavailable)
        assert "full" in str(outcome)
        with pytest.raises(TransportUnavailable):
            await near.ping()  # PING would be answered
        await settle(near, 3)
        progress = await near.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert progress[0].lag == 0
    (outcome,) = await near.publish([message("d", partition=0, of=near)])
    assert isinstance(outcome, Appended)


async def test_a_server_that_takes_no_more_connections_is_named_as_the_reason(
    own_redis: ValkeyServer, client: Redis
) -> None:
    connected = (await client.info("clients"))["connected_clients"]
    async with _changed(client, "maxclients", str(connected)):
        with pytest.raises(TransportUnavailable, match="raise its maxclients"):
            async with RedisTransport.from_settings(short_settings(own_redis)):
                pass


async def test_a_right_that_is_missing_in_a_function_is_told_as_any_other() -> None:
    told = "ACL failure in script: User crossfade has no permissions to run the 'xadd' command"
    assert "ACL SETUSER" in str(translate(DefaultParser.parse_error(f"ERR {told}")))


async def test_a_replica_is_named_as_the_reason(near: RedisTransport, client: Redis) -> None:
    await client.execute_command("REPLICAOF", "127.0.0.1", 1)
    try:
        (outcome,) = await near.publish([message("x", partition=0, of=near)])
        assert isinstance(outcome, TransportUnavailable)
        assert "read-only replica" in str(outcome)
        with pytest.raises(TransportUnavailable):
            await near.ping()
        assert len(await near.progress(Topic.MESSAGES, group=WORKER_GROUP)) == near.partitions
    finally:
        await client.execute_command("REPLICAOF", "NO", "ONE")


async def test_too_few_replicas_are_named_as_the_reason(
    near: RedisTransport, client: Redis
) -> None:
    async with _changed(client, "min-replicas-to-write", "1"):
        (outcome,) = await near.publish([message("x", partition=0, of=near)])
        assert isinstance(outcome, TransportUnavailable)
        assert "replicas" in str(outcome)
    assert not await near.read(Topic.MESSAGES, 0)


async def test_a_server_that_can_not_save_is_named_as_the_reason(
    near: RedisTransport, client: Redis, own_redis: ValkeyServer
) -> None:
    if own_redis.pid is None:
        pytest.skip("in a container: its process that saves can't be killed from here")
    await near.publish([message("to save", partition=0, of=near)])
    async with (
        _changed(client, "save", "3600 1"),
        _changed(client, "rdb-key-save-delay", "10000000"),
    ):
        await client.bgsave()
        children = psutil.Process(own_redis.pid).children()
        assert children
        for child in children:
            child.kill()

        async def failed() -> bool:
            return bool((await client.info("persistence"))["rdb_last_bgsave_status"] == "err")

        await eventually(failed)
        (outcome,) = await near.publish([message("x", partition=0, of=near)])
        assert isinstance(outcome, TransportUnavailable)
        assert "disk" in str(outcome)
    await client.bgsave()  # a good one lifts the ban

    async def saved() -> bool:
        return bool((await client.info("persistence"))["rdb_last_bgsave_status"] == "ok")

    await eventually(saved)


async def test_a_wrong_password_is_told_without_telling_any(
    own_redis: ValkeyServer, client: Redis
) -> None:
    settings = short_settings(own_redis, redis_username="nobody", redis_password="s3cret-word")
    with pytest.raises(TransportUnavailable, match="REDIS_PASSWORD") as told:
        async with RedisTransport.from_settings(settings):
            pass
    assert "s3cret-word" not in f"{told.value!r} {told.value} {told.value.__cause__!r}"


async def test_a_password_that_is_asked_for_later_is_an_outage(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish([message("before", partition=0, of=near)])
    async with _changed(client, "requirepass", "new"):
        await client.client_kill_filter(_type="normal", skipme=True)

        async def refused() -> bool:
            (outcome,) = await near.publish([message("x", partition=0, of=near)])
            return isinstance(outcome, TransportUnavailable) and "REDIS_PASSWORD" in str(outcome)

        await eventually(refused)
    (outcome,) = await near.publish([message("after", partition=0, of=near)])
    assert isinstance(outcome, Appended)


async def test_a_user_without_rights_is_told_which(own_redis: ValkeyServer, client: Redis) -> None:
    await client.execute_command(
        "ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-fcall", "-function"
    )
    try:
        settings = short_settings(own_redis, redis_username="weak", redis_password="pw")
        with pytest.raises(TransportUnavailable, match=r"\+fcall \+function\|load"):
            async with RedisTransport.from_settings(settings):
                pass
    finally:
        await client.execute_command("ACL", "DELUSER", "weak")


async def test_the_least_rights_that_the_error_asks_for_are_enough(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """With those that are better besides, the whole conformance suite runs."""
    told = str(translate(redis.exceptions.NoPermissionError("no")))
    assert LEAST in told
    assert BETTER in told
    await client.execute_command("ACL", "SETUSER", "least", "on", ">pw", *LEAST.split())
    try:
        settings = short_settings(own_redis, redis_username="least", redis_password="pw")
        async with RedisTransport.from_settings(settings) as transport:
            await transport.ping()
            record = None
            for i in range(3):
                waiting = asyncio.create_task(settle(transport, 1, after=record))
                await transport.publish([message(str(i), partition=0, of=transport)])
                (record,) = await waiting
            assert record is not None
            await transport.dead_letter([DeadLetter(record, Reason.REJECTED, "why", 1, "now")])
            await transport.recall([message("x", partition=0, of=transport).message_id])
            progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            assert progress[0].lag == 0
    finally:
        await client.execute_command("ACL", "DELUSER", "least")


async def test_a_loading_server_is_an_outage_and_nothing_is_appended(
    own_redis: ValkeyServer, near: RedisTransport, client: Redis
) -> None:
    # The server answers every 1024 commands while it loads: these keep it loading for 4 s, unless
    # the test has seen enough before.
    await near.publish(messages(["x"] * 20_000, partition=0, of=near))
    async with (
        _changed(client, "key-load-delay", "200"),
        Redis(host=own_redis.host, port=own_redis.port, socket_timeout=None) as reloader,
    ):
        reload = asyncio.ensure_future(reloader.execute_command("DEBUG", "LOADAOF"))
        try:

            async def loading() -> bool:
                (outcome,) = await near.publish([message("x", partition=1, of=near)])
                return isinstance(outcome, TransportError) and "loading" in str(outcome)

            await eventually(loading)
            with pytest.raises(TransportUnavailable):
                await near.read(Topic.MESSAGES, 0)
        finally:
            await client.config_set("key-load-delay", "0")
            await reload
