"""The consumed log changes under load, there and back, and by hand (promises 1, 2, 3)."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from lab.harness.anomaly import Anomaly, What
from lab.harness.load import Mix
from tests.faults.both_logs import (
    CONSUME,
    KAFKA,
    MIRROR,
    PRIMARY,
    REDIS,
    BothLogsDeployment,
    has_shares,
)
from tests.support.eventually import eventually


async def test_the_consumed_log_changes_there_and_back_while_old_and_new_workers_overlap(
    both_logs: BothLogsDeployment,
) -> None:
    """Each worker owns half of its log's partitions, and its follower half of the other log's."""
    ingresses, (first, second) = await both_logs.run(workers=2, **MIRROR)
    await both_logs.are_mirrored()
    async with (
        both_logs.load(ingresses) as load,
        both_logs.reader(ingresses, load.conversations[-8:]),
    ):
        await load.goes_on(100)
        for step in (CONSUME, MIRROR):
            for restarted in (first, second):
                await restarted.restart(**{"CONSUME_FROM": "redis", **step})
                await has_shares(first, second)
                await load.goes_on(150)
                # Messages must go on while both kinds of workers run.
                await both_logs.catches_up()
        await load.goes_on(100)
    final = await both_logs.assert_promises_held()
    assert {row.transport for row in final.rows} == {"redis", "kafka"}


@pytest.mark.chaos
async def test_an_old_worker_that_sleeps_through_the_change_does_no_harm(
    both_logs: BothLogsDeployment,
) -> None:
    """It wakes after a takeover, with a batch of a log that is no longer consumed."""
    ingresses, (old, new) = await both_logs.run(workers=2, **MIRROR)
    await both_logs.are_mirrored()
    async with both_logs.load(ingresses) as load:
        await has_shares(old, new)
        await load.goes_on(100)
        await old.suspend()
        await new.restart(**CONSUME)
        await has_shares(new, partitions=16)
        await load.goes_on(150)
        await old.resume()
        await load.goes_on(150)
        await old.kill()
        await load.goes_on(50)
        await old.start(**CONSUME)
        await load.goes_on(50)
    await both_logs.assert_promises_held()


async def test_redis_stays_small_as_the_shadow_of_kafka(both_logs: BothLogsDeployment) -> None:
    """Records that the workers persisted from Kafka are acknowledged in Redis, and trimmed."""
    small = {"STREAM_RETENTION_SECONDS": "0", "STREAM_RETENTION_RECORDS": "16"}
    ingresses, _ = await both_logs.run(ingresses=1, **PRIMARY, **small)
    async with (
        both_logs.load(ingresses, conversations=40, pause=0.05) as load,
        Redis(host=both_logs.log.server.host, port=both_logs.log.server.port, db=1) as client,
    ):

        async def is_small() -> bool:
            records = sum([await client.xlen(f"msg:stream:{p}") for p in range(16)])
            assert records < 800, f"records in Redis, of {load.acknowledged} messages"
            return True

        for _ in range(4):
            await load.goes_on(500)
            await eventually(is_small)
    final = await both_logs.assert_promises_held()
    assert len(final.rows) > 2000
    assert {row.transport for row in final.rows} == {"kafka"}


async def test_a_log_changed_by_hand_strands_and_doubles_nothing(
    both_logs: BothLogsDeployment,
) -> None:
    """TRANSPORT is changed by hand and back, and leaves unread messages each time."""
    ingresses, (worker,) = await both_logs.run(ingresses=1, **REDIS)
    # No receipts: a receipt is refused while its message waits in the other log.
    mix = Mix(receipt=0)
    async with both_logs.load(ingresses, conversations=12, mix=mix) as load:
        for there in (KAFKA, REDIS):
            await load.goes_on(60)
            await worker.stop()
            await load.goes_on(80)  # no worker persists these
            await asyncio.gather(*(process.restart(**there) for process in (*ingresses, worker)))
            await load.goes_on(60)
            await both_logs.catches_up()

    def by_hand(anomaly: Anomaly) -> bool:
        return anomaly.what is What.REORDERED  # a change by hand does not keep the order

    await both_logs.assert_promises_held(except_for=by_hand)
    said = worker.log_path.read_text()
    assert said.count("is not configured here, but") == 2


@pytest.mark.parametrize(("read", "written"), [(REDIS, KAFKA), (KAFKA, REDIS)])
async def test_a_running_worker_finds_the_log_that_only_others_write(
    both_logs: BothLogsDeployment, read: dict[str, str], written: dict[str, str]
) -> None:
    """TRANSPORT is changed by hand for the processes that accept, but not for the workers."""
    _, (worker,) = await both_logs.run(ingresses=0, **read)
    ingress = both_logs.ingress(**written)
    await ingress.start()
    async with both_logs.load([ingress], conversations=12, mix=Mix(receipt=0)) as load:
        await load.goes_on(60)
        await both_logs.catches_up()
        await load.goes_on(60)
    await ingress.stop()  # its messages are persisted, although no process reports the log as used
    final = await both_logs.assert_promises_held()
    assert {row.transport for row in final.rows} == {written["TRANSPORT"]}
    said = worker.log_path.read_text()
    assert said.count("another process uses it") == 1, "and nothing is started twice"
