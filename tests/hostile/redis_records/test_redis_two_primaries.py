"""Two primaries: one is cut off from its replica and the sentinels, and clients reach both."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from compose.local.valkey import ValkeyServer
from compose.process.logs.primaries import primary_probes
from lab.harness.anomaly import Anomaly, What
from lab.load.client import Client
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from tests.support.partitioned_redis import PartitionedRedis, partitioned_redis
from tests.support.sentinel import MASTER, SentinelServer
from transport.conformance.envelopes import contents, message
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.connection.connection import Address
from transport.redis.connection.greeting import Greeting
from transport.redis.connection.locator import SentinelLocator
from transport.settings import TransportSettings

NewRedis = Callable[..., Awaitable[ValkeyServer]]
_PARTITION_SECONDS = 56.0


@pytest_asyncio.fixture
async def redis(new_redis: NewRedis, tmp_path: Path) -> AsyncIterator[PartitionedRedis]:
    async with partitioned_redis(new_redis, tmp_path) as redis:
        yield redis


def _settings(redis: PartitionedRedis, *, rescue: float = 60) -> TransportSettings:
    given: dict[str, Any] = {k.lower(): v for k, v in redis.environment().items()}
    # A busy machine may take longer than ten seconds for a failover.
    return TransportSettings(
        **given, stream_partitions=4, redis_timeout_ms=5000, redis_rescue_seconds=rescue
    )


@pytest_asyncio.fixture
async def log(redis: PartitionedRedis) -> AsyncIterator[RedisTransport]:
    async with RedisTransport.from_settings(_settings(redis)) as log:
        yield log


class _Appends:
    """Appends one record after the other, and keeps what was acknowledged, in order."""

    def __init__(self, log: RedisTransport) -> None:
        self.acknowledged: list[str] = []
        self._log = log
        self._numbers = itertools.count()

    async def one(self) -> bool:
        """Append a record, and return whether it was acknowledged."""
        content = f"m{next(self._numbers)}"
        (outcome,) = await self._log.publish([message(content, partition=0, of=self._log)])
        if not isinstance(outcome, Appended):
            return False
        self.acknowledged.append(content)
        return True

    async def run(self) -> None:
        while True:
            await self.one()
            await asyncio.sleep(0.01)


async def test_a_primary_that_the_sentinels_no_longer_name_is_left_at_once(
    redis: PartitionedRedis, log: RedisTransport
) -> None:
    """What it acknowledged in the partition is appended again, before anything else."""
    appends = _Appends(log)
    running = asyncio.create_task(appends.run())
    try:
        await eventually(lambda: len(appends.acknowledged) > 10)
        redis.cut()
        before = len(appends.acknowledged)
        await eventually(lambda: len(appends.acknowledged) > before)
        assert await redis.promoted() == 1
        old = await redis.run(0, "XLEN", "msg:stream:0")

        async def is_left() -> bool:
            return bool(await redis.run(1, "XLEN", "msg:stream:0") > old)

        await eventually(is_left)
    finally:
        running.cancel()
        await asyncio.wait([running])
    found = contents(await log.read(Topic.MESSAGES, 0, limit=100_000))
    assert [it for it in found if it in set(appends.acknowledged)] == appends.acknowledged

    await _warns(log, f"the sentinels name {redis.address(1)}, and {redis.address(0)} reports")
    (probe,) = primary_probes([log])
    state = await probe()
    assert (state.status, state.required) == ("degraded", False)
    assert "two primaries" in state.detail
    redis.heal()
    await eventually(lambda: not log.server_warnings())
    assert (await probe()).status == "up"


async def test_sentinels_that_do_not_answer_stop_nothing(
    redis: PartitionedRedis, log: RedisTransport
) -> None:
    appends = _Appends(log)
    assert await appends.one()
    for sentinel in redis.sentinels[1:]:
        await sentinel.kill()
    await _warns(log, "1 of 3 sentinels")
    assert await appends.one()
    await redis.servers[0].cut_connections()
    await eventually(appends.one)
    for sentinel in redis.sentinels[1:]:
        await sentinel.start()
    await eventually(lambda: not log.server_warnings())


async def test_a_minority_of_the_sentinels_is_never_followed(
    redis: PartitionedRedis, new_redis: NewRedis, tmp_path: Path
) -> None:
    """Also if it claims to know a later failover."""
    other = await new_redis()
    async with SentinelServer(tmp_path / "other" / "data", other) as wrong:
        await wrong.stop()
        state = tmp_path / "other" / "data" / "sentinel.conf"
        epoch = f"sentinel config-epoch {MASTER} "
        assert epoch + "0" in state.read_text()
        state.write_text(state.read_text().replace(epoch + "0", epoch + "9"))
        await wrong.start()
        right, *_ = redis.sentinels
        greeting = Greeting(password=right.password)
        good, bad = (Address(it.host, it.port, None, greeting, 1.0, 1.0) for it in (right, wrong))
        locator = SentinelLocator([bad, good, good], MASTER, good)
        split = SentinelLocator([bad, good], MASTER, good)
        try:
            for _ in range(20):
                assert (await locator.locate()).port == redis.proxies[0].port
            with pytest.raises(TransportUnavailable, match=r"2 of 2 sentinels.*have to name"):
                await split.locate()
        finally:
            locator.close()
            split.close()


@pytest.mark.chaos
@pytest.mark.parametrize("demanded", ["0", "1"])
async def test_what_the_sentinels_notice_late_is_refused_or_lost_and_counted(
    new_redis: NewRedis, tmp_path: Path, demanded: str
) -> None:
    """They notice the partition after more seconds than a process keeps what it appended."""
    config = {"min_replicas_to_write": demanded, "min_replicas_max_lag": "2"}
    async with (
        partitioned_redis(new_redis, tmp_path, replicas=2, down_after=20, **config) as redis,
        RedisTransport.from_settings(_settings(redis, rescue=8)) as log,
    ):
        appends = _Appends(log)
        running = asyncio.create_task(appends.run())
        try:
            await eventually(lambda: len(appends.acknowledged) > 10)
            redis.cut()
            safe = len(appends.acknowledged)
            promoting = asyncio.create_task(redis.promoted())
            while not promoting.done():
                with suppress(TransportUnavailable):
                    await _gone(log)  # as processes do every five seconds
                await asyncio.sleep(0.5)
            await promoting
            named = len(appends.acknowledged)
            await eventually(lambda: len(appends.acknowledged) > named + 500)
        finally:
            running.cancel()
            await asyncio.wait([running])
        found = contents(await log.read(Topic.MESSAGES, 0, limit=100_000))
        lost = [n for n, it in enumerate(appends.acknowledged) if it not in set(found)]
        kept = [it for it in appends.acknowledged if it in set(found)]
        assert [it for it in found if it in set(kept)] == kept, "in their order"
        if demanded == "1":
            assert not lost
        else:
            assert safe - 2 <= lost[0] <= lost[-1] < named
            assert await _gone(log) == len(lost)


async def _gone(log: RedisTransport) -> int:
    parts = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return sum(it.lost - it.put_back for it in parts)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("demanded", ["0", "1"])
async def test_a_partition_of_a_minute_loses_no_message(
    deployment: Deployment, new_redis: NewRedis, tmp_path: Path, demanded: str
) -> None:
    """An ingress and a worker restart in it: they find the new primary, the others had the old."""
    assert isinstance(deployment.log, RedisLog)
    config = {"min_replicas_to_write": demanded, "min_replicas_max_lag": "5"}
    async with partitioned_redis(new_redis, tmp_path, replicas=2, **config) as redis:
        given = {"REDIS_HOST": "", "REDIS_PORT": "", **redis.environment()}
        ingresses, workers = await deployment.run(workers=2, **given)
        async with deployment.load(ingresses) as load:
            await load.goes_on(2000)
            redis.cut()
            began = time.monotonic()
            promoted = await redis.promoted()
            await asyncio.gather(ingresses[0].restart(), workers[0].restart())
            await load.goes_on(500)
            for ingress in ingresses:
                await eventually(partial(_shows_two_primaries, ingress))
            await asyncio.sleep(began + _PARTITION_SECONDS - time.monotonic())
            redis.heal()
            await load.goes_on(500)
        deployment.log.server = redis.servers[promoted]  # where the verdict is read
        await deployment.assert_promises_held(except_for=_is_between_processes)
        await deployment.stop()


def _is_between_processes(anomaly: Anomaly) -> bool:
    """Return whether it is the order of lost records, which docs/order.md calls best effort.

    A client sends each message to any of the ingresses. The order within one process is asserted by
    the tests above.
    """
    return anomaly.what is What.REORDERED


async def _shows_two_primaries(ingress: ForkedService) -> bool:
    client = Client()
    try:
        return "two primaries" in (await client.get(f"{ingress.url}/readyz")).text
    finally:
        await client.close()


async def _warns(log: RedisTransport, words: str) -> None:
    await eventually(lambda: any(words in it for it in log.server_warnings() or ()))
