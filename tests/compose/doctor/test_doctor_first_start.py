"""``crossfade doctor`` before the first start, on servers that hold no log yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.doctor import examined, kafka_variables
from tests.support.kafka import KafkaNode, alter_brokers, fresh_settings
from transport.kafka import KafkaTransport
from transport.redis.connection.rights import BETTER, LEAST

NewRedis = Callable[..., Awaitable[ValkeyServer]]


def _without_functions(folder: Path) -> dict[str, str]:
    """Stand in for Redis 6."""
    (folder / "old.conf").write_text('rename-command FUNCTION ""\n')
    return {"include": str(folder / "old.conf")}


@pytest.mark.parametrize(
    ("config", "what", "told"),
    [
        (
            lambda _: {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            "connection",
            "this Redis has maxmemory-policy allkeys-lru",
        ),
        (_without_functions, "connection", "this server has no functions: Redis 7.0"),
        (lambda _: {"appendonly": "no"}, "durability", "a crash of the server and a power cut"),
        (lambda _: {"appendfsync": "everysec"}, "durability", "a power cut may lose acknowledged"),
    ],
    ids=["evicts", "old", "in-memory", "everysec"],
)
async def test_a_redis_that_is_not_fit_is_bad_and_nothing_is_made(
    new_redis: NewRedis,
    database_url: str,
    tmp_path: Path,
    config: Callable[[Path], dict[str, str]],
    what: str,
    told: str,
) -> None:
    server = await new_redis(**config(tmp_path))
    settings = {"REDIS_PORT": str(server.port), "DATABASE_URL": database_url}
    status, found = await examined(tmp_path, settings=settings)
    assert (status, found[f"log redis, {what}"]["grade"]) == (1, "bad")
    assert told in found[f"log redis, {what}"]["found"]
    async with Redis(port=server.port, db=1) as client:
        assert await client.dbsize() == 0


@pytest.mark.parametrize("right", ["+function|load", "+@stream"])
async def test_a_right_that_making_the_log_needs_is_named(
    new_redis: NewRedis, database_url: str, tmp_path: Path, right: str
) -> None:
    server = await new_redis()
    rights = [each for each in f"{LEAST} {BETTER}".split() if each != right]
    async with Redis(port=server.port) as client:
        await client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", *rights)
    settings = {
        "REDIS_PORT": str(server.port),
        "REDIS_USERNAME": "limited",
        "REDIS_PASSWORD": "secret",
        "DATABASE_URL": database_url,
    }
    status, found = await examined(tmp_path, settings=settings)
    told = found["log redis, rights"]
    assert (status, told["grade"]) == (1, "bad")
    assert told["found"] == f"our user lacks {right}"


async def test_replicas_that_kafka_has_not_are_bad_and_no_topic_is_made(
    kafka_server: KafkaNode, database_url: str, tmp_path: Path
) -> None:
    transport = fresh_settings(kafka_server.bootstrap)
    settings = kafka_variables(transport) | {"DATABASE_URL": database_url}
    status, found = await examined(tmp_path, settings={**settings, "KAFKA_REPLICATION_FACTOR": "3"})
    assert (status, found["log kafka, connection"]["grade"]) == (1, "bad")
    assert "eplication factor" in found["log kafka, connection"]["found"]
    status, found = await examined(tmp_path, settings=settings)
    assert (status, found["log kafka, durability"]["grade"]) == (0, "warning")
    assert "log kafka, rights" not in found, "Kafka tells of topics once they are there"
    assert not await KafkaTransport(transport).exists()


@pytest.mark.parametrize(
    ("flushes", "grade"), [("9223372036854775807", "bad"), ("1", "warning")], ids=["stock", "each"]
)
async def test_a_power_cut_is_foreseen_on_a_kafka_that_flushes_as_it_likes(
    kafka_server: KafkaNode, database_url: str, tmp_path: Path, flushes: str, grade: str
) -> None:
    """Kafka's default is to leave it to the system. The servers of the tests have another."""
    log = fresh_settings(kafka_server.bootstrap)
    settings = kafka_variables(log) | {"DATABASE_URL": database_url}
    await alter_brokers(kafka_server.bootstrap, {"log.flush.interval.messages": flushes})
    try:
        _, foreseen = await examined(tmp_path, settings=settings)
        async with KafkaTransport(log):
            pass
        _, found = await examined(tmp_path, settings=settings)
    finally:
        await alter_brokers(kafka_server.bootstrap, {})
    assert "not made yet" in foreseen["log kafka, log"]["found"]
    for told in (foreseen["log kafka, durability"], found["log kafka, durability"]):
        assert told["grade"] == grade, told
        assert ("a power cut may lose" in told["found"]) is (grade == "bad"), told
