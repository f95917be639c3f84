"""The comparison that runs with the service: one at a time, its rows for everybody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.monitor import ParityMonitor
from otel.metrics import Metrics
from persistence import parity_reports
from tests.parity.mirroring import send
from transport.contract import Topic
from transport.registry import create

_SETTLE = 2.0  # a copy that comes later is counted as missing, and the counter keeps that


@pytest.fixture
def monitor(both_settings, database_pool):
    def make(member: str) -> tuple[ParityMonitor, Metrics]:
        metrics = Metrics()
        made = ParityMonitor(
            lambda name: create(name, both_settings),
            primary="redis",
            shadow="kafka",
            pool=database_pool,
            metrics=metrics,
            member=member,
            limits=ParityLimits(settle=_SETTLE),
            interval=0.1,
        )
        return made, metrics

    return make


async def test_a_log_that_lost_records_is_compared_again(
    monitor, redis_log, kafka_log, both_settings, database_pool, eventually
):
    """Where it had read to, there may be other records by now than those that it has not read."""
    one, _ = monitor("one")
    stop = asyncio.Event()
    running = asyncio.create_task(one.run(stop))
    long_ago = datetime.now(UTC) - timedelta(hours=1)

    async def matched(count: int) -> bool:
        total = await parity_reports.totals(database_pool, "redis", "kafka", long_ago)
        return total is not None and total.counts.get("matched", 0) == count

    try:
        await eventually(lambda: one.is_comparing)
        await send(redis_log, kafka_log, range(10))
        await eventually(lambda: matched(10))
        where = {"host": both_settings.redis_host, "port": both_settings.redis_port}
        async with Redis(**where, db=both_settings.redis_stream_db) as client:
            held = [await redis_log.read(Topic.MESSAGES, p) for p in range(redis_log.partitions)]
            lost = max(held, key=len)[0]
            assert await client.xdel(f"msg:stream:{lost.partition}", lost.offset) == 1
        await eventually(lambda: matched(10 + 9))
    finally:
        stop.set()
        await running


async def test_one_process_compares_and_the_next_goes_on_where_it_ended(
    monitor, redis_log, kafka_log, database_pool, eventually
):
    (one, metrics), (two, others) = monitor("one"), monitor("two")
    stop_one, stop_two = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(one.run(stop_one))
    await eventually(lambda: one.is_comparing)
    second = asyncio.create_task(two.run(stop_two))
    long_ago = datetime.now(UTC) - timedelta(hours=1)

    async def found(matched: int, missing: int) -> bool:
        total = await parity_reports.totals(database_pool, "redis", "kafka", long_ago)
        if total is None or total.counts.get("matched", 0) < matched:
            return False
        return total.counts.get("missing_in_shadow", 0) == missing

    try:
        await send(redis_log, kafka_log, range(40), copied=lambda n: n != 30)
        await eventually(lambda: found(39, 1))
        row = await parity_reports.latest(database_pool, "redis", "kafka")
        assert row is not None
        assert (row.made_by, row.verdict, row.coverage) == ("one", "differs", 1.0)
        assert [sample["result"] for sample in row.samples] == ["missing_in_shadow"]
        results = metrics.registry.get_sample_value
        assert results("shadow_parity_total", {"result": "missing_in_shadow"}) == 1
        # Shown after the row is written.
        await eventually(lambda: results("shadow_lag_messages", {"partition": "0"}) == 0)
        assert others.registry.get_sample_value("shadow_lag_messages", {"partition": "0"}) is None
        stop_one.set()
        await first
        await eventually(lambda: two.is_comparing)
        await send(redis_log, kafka_log, range(40, 60))
        # Added up over both. (What matched in the last moment is counted by both.)
        await eventually(lambda: found(59, 1))
    finally:
        stop_one.set()
        stop_two.set()
        await asyncio.gather(first, second)
