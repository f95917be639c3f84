"""A log that was consumed before and is not configured any more: drained, then left alone."""

from __future__ import annotations

import asyncio

import structlog

from compose.process.context import ProcessContext
from compose.process.logs.orphaned_logs import OrphanedLogDrainer
from compose.settings import Settings, load
from otel.metrics import Metrics
from persistence.fleet.retired_logs import retire_log
from persistence.fleet.used_logs import forget_used, used_logs
from tests.persistence.fences import OWN
from tests.persistence.samples import message
from tests.support.eventually import eventually
from transport.message.envelope import seal_message
from transport.redis import RedisTransport
from transport.settings import TransportSettings


def gauge(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"transport": "redis"})


def without_redis(database_url: str, redis_settings: TransportSettings) -> Settings:
    """Return settings of a process that knows the address of Redis, and names another log."""
    return load(
        {
            "TRANSPORT": "memory",
            "DATABASE_URL": database_url,
            "REDIS_HOST": redis_settings.redis_host,
            "REDIS_PORT": redis_settings.redis_port,
            "REDIS_STREAM_DB": redis_settings.redis_stream_db,
        }
    )


async def test_what_was_left_is_persisted_and_then_the_log_is_forgotten(
    database_url, database_pool, redis_settings, metrics
):
    async with RedisTransport(redis_settings) as redis:
        sealed = [
            seal_message(message(f"c{i}", f"conv{i}"), partitions=16, traceparent=None)
            for i in range(40)
        ]
        await redis.publish(sealed)
    await database_pool.execute(OWN, "redis", 0, 1, "yesterday")
    settings = without_redis(database_url, redis_settings)
    # A process of yesterday's settings may still append.
    await database_pool.execute(
        "INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,"
        " consume_from, started_at) VALUES ('old', 'serve', 'h', 1, '1', 'u', 'u', 'redis',"
        " 'redis', now())"
    )
    stop = asyncio.Event()
    context = ProcessContext(settings, database_pool, metrics, "m")
    await context.chain.begin("redis")
    await context.chain.update(lambda now: now.changed_by_hand("memory", {"memory"}))
    drainer = OrphanedLogDrainer(context, (), empty_seconds=0.3)
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(drainer.run(stop))
        try:
            await eventually(lambda: database_pool.fetchval("SELECT count(*) = 40 FROM messages"))
            assert gauge(metrics, "stream_leftover") == 1
            assert list(drainer.status()) == ["redis"]
            assert gauge(metrics, "stream_leftover") == 1, "somebody may still append"
            await database_pool.execute("DELETE FROM processes")
            await eventually(lambda: gauge(metrics, "stream_leftover") == 0)
            assert drainer.status() == {}
        finally:
            stop.set()
            await running
    assert await used_logs(database_pool) == []
    assert not context.chain.now.is_unbounded("redis"), "it ended, and has a mark"
    said = [log["event"] for log in logs if log["event"].startswith(("redis", "Nothing"))]
    assert len(said) == 2
    assert "holds 40 unread records" in said[0]
    assert "crossfade migrate" in said[0]
    assert said[1].startswith("Nothing is left in redis")


async def test_of_a_log_that_was_retired_it_does_not_say_that_nothing_is_left(
    database_url, database_pool, metrics
):
    """An operator gave it up: nobody knows what it held, and no alert about it lasts."""
    partition = {"transport": "redis", "partition": "0"}

    def paused() -> float | None:
        return metrics.registry.get_sample_value("stream_worker_paused", {"dependency": "redis"})

    await database_pool.execute(OWN, "redis", 0, 1, "yesterday")
    settings = load({"TRANSPORT": "memory", "DATABASE_URL": database_url, "REDIS_PORT": 1})
    stop = asyncio.Event()
    context = ProcessContext(settings, database_pool, metrics, "m")
    with structlog.testing.capture_logs() as logs:
        drainer = OrphanedLogDrainer(context, (), empty_seconds=0.3)
        running = asyncio.create_task(drainer.run(stop))
        try:
            await eventually(lambda: list(drainer.status()) == ["redis"])
            await eventually(
                lambda: metrics.registry.get_sample_value("stream_lag_unknown", partition)
            )
            await eventually(paused)
            async with database_pool.acquire() as connection, connection.transaction():
                assert await forget_used(connection, "redis")
                await retire_log(connection, "redis", who="op", why="burnt")
                # Of a process that was taking a partition at that moment.
                await connection.execute(OWN, "redis", 1, 1, "late")
            await eventually(lambda: gauge(metrics, "stream_leftover") == 0)
            assert metrics.registry.get_sample_value("stream_lag_unknown", partition) is None
            assert paused() == 0
        finally:
            stop.set()
            await running
    said = [log["event"] for log in logs]
    assert "redis was retired: what it may hold is not looked at any more" in said
    assert not [line for line in said if line.startswith("Nothing is left")]


async def test_a_step_of_the_migration_is_no_change_by_hand(
    database_url, database_pool, redis_settings, metrics
):
    """A process on the new phase does not name the old log, which others still copy to."""
    async with RedisTransport(redis_settings) as redis:
        envelope = seal_message(message("c", "conv"), partitions=16, traceparent=None)
        await redis.publish([envelope])
    await database_pool.execute(OWN, "redis", 0, 1, "of phase 4")
    await database_pool.execute(
        "INSERT INTO migration (id, phase, target, epoch, changed_by, why, old_log, new_log)"
        " VALUES (1, 4, 5, 9, 'op', 'test', 'redis', 'memory')"
    )
    settings = without_redis(database_url, redis_settings)
    stop = asyncio.Event()
    drainer = OrphanedLogDrainer(ProcessContext(settings, database_pool, metrics, "m"), ())
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(drainer.run(stop))
        try:
            await eventually(lambda: list(drainer.status()) == ["redis"])
        finally:
            stop.set()
            await running
    (line,) = [log for log in logs if log["event"].startswith("redis")]
    assert line["log_level"] == "info"
    assert "while a step of the migration is under way" in line["event"]


async def test_a_log_that_is_no_log_here_counts_as_left_until_postgresql_forgets_it(
    database_url, database_pool, metrics
):
    def leftover() -> float | None:
        return metrics.registry.get_sample_value("stream_leftover", {"transport": "redis.gone"})

    await database_pool.execute(OWN, "redis.gone", 0, 1, "yesterday")
    settings = load({"TRANSPORT": "memory", "DATABASE_URL": database_url})
    stop = asyncio.Event()
    drainer = OrphanedLogDrainer(
        ProcessContext(settings, database_pool, metrics, "m"), (), empty_seconds=0.3
    )
    running = asyncio.create_task(drainer.run(stop))
    try:
        await eventually(lambda: leftover() == 1)
        async with database_pool.acquire() as connection, connection.transaction():
            assert await forget_used(connection, "redis.gone")
        await eventually(lambda: leftover() == 0)
    finally:
        stop.set()
        await running
