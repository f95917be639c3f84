"""A server whose settings are altered while a process runs. Redis tells no client of that."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from compose.process.logs.altered_logs import AlteredLogs
from compose.process.metrics import process_metrics
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.redis_failover import log_of, pair, run
from transport.errors import TransportError
from transport.redis import RedisTransport
from transport.redis.connection.rights import LEAST

_GAUGE = ("stream_log_altered_settings", {"transport": "redis"})


@pytest.fixture(autouse=True)
def _each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look each time, not once in ten seconds."""
    monkeypatch.setattr("transport.features.watched_settings._SECONDS", 0.0)


@pytest.mark.parametrize(
    ("altered", "restored", "told"),
    [
        ({"appendonly": "no"}, {"appendonly": "yes"}, "appendonly is no, and was yes"),
        (
            {"appendfsync": "everysec"},
            {"appendfsync": "always"},
            "appendfsync is everysec, and was always",
        ),
        (
            {"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"},
            {"maxmemory-policy": "noeviction", "maxmemory": "0"},
            "maxmemory-policy is allkeys-lru, wanted noeviction",
        ),
    ],
    ids=["appendonly", "appendfsync", "policy"],
)
async def test_altered_settings_are_told_until_they_are_as_before(
    near: RedisTransport,
    client: Redis,
    caplog: pytest.LogCaptureFixture,
    altered: dict[str, str],
    restored: dict[str, str],
    told: str,
) -> None:
    caplog.set_level(logging.INFO)
    metrics = process_metrics()
    watch = AlteredLogs([near], metrics, timeout_seconds=5)
    (probe,) = watch.probes()
    assert (await probe()).status == "up"
    try:
        for name, value in altered.items():
            await client.config_set(name, value)
        state = await probe()
        assert (state.status, state.required) == ("degraded", False)
        assert f"{told}. Alter them back" in state.detail
        await watch.report()
        assert metrics.registry.get_sample_value(*_GAUGE) == 1
    finally:
        for name, value in restored.items():
            await client.config_set(name, value)
    assert (await probe()).status == "up"
    await watch.report()
    assert metrics.registry.get_sample_value(*_GAUGE) == 0
    lines = [record.message for record in caplog.records if "Settings of" in record.message]
    assert [line.partition(":")[0] for line in lines] == [
        "Settings of Redis are not as wanted",
        "Settings of Redis are as wanted again",
    ]


async def test_the_first_look_is_at_the_start(near: RedisTransport) -> None:
    """An alteration before the first look is not noticed."""
    metrics, stop = process_metrics(), asyncio.Event()
    watch = AlteredLogs([near], metrics, timeout_seconds=5)
    running = asyncio.create_task(watch.run(stop))
    await eventually(lambda: metrics.registry.get_sample_value(*_GAUGE) == 0)
    stop.set()
    await running


@pytest.mark.parametrize(
    ("setting", "of_the_primary", "of_the_replica"),
    [("appendonly", "yes", "no"), ("min-replicas-to-write", "1", "0")],
    ids=["appendonly", "replicas"],
)
async def test_a_replica_with_other_settings_that_is_promoted_is_told(
    tmp_path: Path, setting: str, of_the_primary: str, of_the_replica: str
) -> None:
    altered = f"{setting} is {of_the_replica}, and was {of_the_primary}"
    async with pair(tmp_path, None) as failover:
        await failover.in_step()
        await run(failover.primary, "CONFIG", "SET", setting, of_the_primary)
        await run(failover.replica, "CONFIG", "SET", setting, of_the_replica)
        async with log_of(failover) as log:
            assert list(await log.alterations()) == []
            await failover.cut()
            await failover.promote()

            async def told() -> bool:
                with suppress(TransportError):
                    return list(await log.alterations()) == [altered]
                return False

            await eventually(told)


async def test_a_policy_that_evicts_nothing_of_a_log_is_not_told(
    near: RedisTransport, client: Redis
) -> None:
    """Providers' default is ``volatile-lru``, and no stream has a time to live."""
    await client.config_set("maxmemory", "1gb")
    await client.config_set("maxmemory-policy", "volatile-lru")
    try:
        assert list(await near.alterations()) == []
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "0")


async def test_nothing_is_told_where_our_user_may_not_ask(
    own_redis: ValkeyServer, near: RedisTransport, client: Redis
) -> None:
    await client.execute_command("ACL", "SETUSER", "few", "on", ">secret", *LEAST.split())
    given = {"redis_username": "few", "redis_password": "secret"}
    async with RedisTransport.from_settings(short_settings(own_redis, **given)) as log:
        await client.config_set("appendfsync", "everysec")
        try:
            assert list(await log.alterations()) == []
        finally:
            await client.config_set("appendfsync", "always")


async def test_nothing_is_told_once_our_user_may_no_longer_ask(
    own_redis: ValkeyServer, near: RedisTransport, client: Redis
) -> None:
    await client.execute_command(
        "ACL", "SETUSER", "few", "on", ">secret", *LEAST.split(), "+config"
    )
    given = {"redis_username": "few", "redis_password": "secret"}
    async with RedisTransport.from_settings(short_settings(own_redis, **given)) as log:
        await client.config_set("min-replicas-to-write", 1)
        try:
            assert list(await log.alterations()) == []
            await client.execute_command("ACL", "SETUSER", "few", "-config")
            assert list(await log.alterations()) == []
        finally:
            await client.config_set("min-replicas-to-write", 0)
