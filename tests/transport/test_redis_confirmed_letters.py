"""``REDIS_WAIT_REPLICAS``: replicas have a dead letter before its record is acknowledged."""

from __future__ import annotations

import pytest

from compose.local.valkey import ValkeyServer
from tests.support.appends import append
from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_failover import Failover, log_of, run
from tests.transport.redis_shards import PARTITIONS, opened
from transport.clock import now
from transport.conformance.envelopes import messages
from transport.contract import DeadLetter, Reason, Record, Topic
from transport.errors import PartlyUnavailable, TransportUnavailable, Unwritable
from transport.redis.administration.replicas import lacking_replicas


def _letter(record: Record) -> DeadLetter:
    return DeadLetter(
        record=record, reason=Reason.REJECTED, error="bad", attempts=3, failed_at=now()
    )


async def test_a_letter_that_no_replica_has_is_not_appended(failover: Failover) -> None:
    async with log_of(failover, redis_wait_replicas=1, redis_timeout_ms=1000) as log:
        await failover.in_step()
        await append(log, messages(["bad"], partition=0, of=log))
        (record,) = await log.read(Topic.MESSAGES, 0)
        await failover.cut()
        for _ in range(2):  # the second one is a repeat, and writes nothing
            with pytest.raises(TransportUnavailable, match="REDIS_WAIT_REPLICAS"):
                await log.dead_letter([_letter(record)])


async def test_the_log_is_not_ready_while_no_replica_can_confirm(failover: Failover) -> None:
    """Each POST gets 503 then: an operator must not be told that all is well."""
    async with log_of(failover, redis_wait_replicas=1) as log, log_of(failover) as careless:
        await failover.in_step()
        await log.ping()
        await failover.cut()
        with pytest.raises(Unwritable, match=r"REDIS_WAIT_REPLICAS=1 .* 0 are there: bring"):
            await log.ping()
        await careless.ping()
        await run(failover.replica, "REPLICAOF", failover.primary.host, str(failover.primary.port))
        await failover.in_step()
        await log.ping()


@pytest.mark.parametrize(
    ("state", "lag", "is_there"), [("online", 1, True), ("online", 60, False), ("sync", 0, False)]
)
def test_a_replica_that_hangs_or_is_still_fed_confirms_nothing(
    state: str, lag: int, is_there: bool
) -> None:
    info = f"connected_slaves:1\r\nslave0:ip=::1,port=1,state={state},offset=9,lag={lag}\r\n"
    assert (lacking_replicas([info.encode(), 1], 1) is None) is is_there


@pytest.mark.parametrize(("confirming", "is_there"), [(1, True), (0, False)])
def test_a_server_behind_a_proxy_may_show_no_replicas(confirming: int, is_there: bool) -> None:
    told = [b"role:master\r\nconnected_slaves:0\r\n", confirming]
    assert (lacking_replicas(told, 1) is None) is is_there


async def test_a_letter_is_confirmed_on_a_full_server(failover: Failover) -> None:
    """With our functions, and by a script where they can't be loaded."""
    async with log_of(failover, redis_wait_replicas=1) as log:
        await failover.in_step()
        await append(log, messages(["bad", "worse"], partition=0, of=log))
        records = await log.read(Topic.MESSAGES, 0)
        await run(failover.primary, "CONFIG", "SET", "maxmemory", "1")
        await log.dead_letter([_letter(records[0])])
        await run(failover.primary, "FUNCTION", "FLUSH")
        await log.dead_letter([_letter(record) for record in records])
        assert len(await log.read(Topic.DEAD_LETTERS, 0)) == 2


async def test_the_replica_of_the_letters_shard_has_to_confirm(shards: RedisCluster) -> None:
    async with opened(shards, redis_wait_replicas=1, redis_timeout_ms=1000) as log:
        letters = await shards.primary_of("msg:dlq")
        partition = await _partition_off(shards, letters)
        await append(log, messages(["bad", "worse"], partition=partition, of=log))
        records = await log.read(Topic.MESSAGES, partition)
        await log.dead_letter([_letter(records[0])])
        await log.ping()
        await shards.cut("msg:dlq")
        for _ in range(2):
            with pytest.raises(TransportUnavailable, match="REDIS_WAIT_REPLICAS"):
                await log.dead_letter([_letter(records[1])])
        with pytest.raises(PartlyUnavailable, match=r"the others do: .*REDIS_WAIT_REPLICAS=1"):
            await log.ping()


async def _partition_off(shards: RedisCluster, server: ValkeyServer) -> int:
    """Return a partition that is on another server."""
    for partition in range(PARTITIONS):
        if await shards.primary_of(f"msg:stream:{partition}") is not server:
            return partition
    raise AssertionError
