"""What the memory transport does beyond the suite: it forgets what it may, and nothing else."""

from __future__ import annotations

import msgspec

from transport.conformance.envelopes import contents, message, messages
from transport.contract import WORKER_GROUP, Appended, Record, Remembered, Topic
from transport.memory import MemoryLog, MemoryTransport
from transport.settings import TransportSettings


async def test_records_before_all_positions_are_dropped_in_the_end_and_no_others() -> None:
    settings = TransportSettings(stream_partitions=1, stream_retention_records=100)
    transport = MemoryTransport.from_settings(settings)
    after = None
    for _ in range(10):
        await transport.publish(messages(["x"] * 100, partition=0, of=transport))
        records = await transport.read(Topic.MESSAGES, 0, after=after)
        assert len(records) == 100
        after = records[-1].offset
        await transport.publish_positions(Topic.MESSAGES, {0: after}, group=WORKER_GROUP)
    await transport.publish(messages(["y"] * 50, partition=0, of=transport))
    assert 150 <= len(await transport.read(Topic.MESSAGES, 0)) <= 400
    assert contents(await transport.read(Topic.MESSAGES, 0, after=after)) == ["y"] * 50
    (progress,) = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert (progress.lag, progress.end) == (50, "1049")


async def test_nothing_is_dropped_that_is_after_the_position_of_any_group() -> None:
    settings = TransportSettings(stream_partitions=1, stream_retention_records=0)
    transport = MemoryTransport.from_settings(settings)
    await transport.publish(messages(["x"] * 50, partition=0, of=transport))
    (last,) = await transport.read_back(Topic.MESSAGES, 0, limit=1)
    await transport.publish_positions(Topic.MESSAGES, {0: last.offset}, group="another")
    await transport.publish([message("y", partition=0, of=transport)])
    assert len(await transport.read(Topic.MESSAGES, 0)) == 51
    await transport.publish_positions(Topic.MESSAGES, {0: last.offset}, group=WORKER_GROUP)
    await transport.publish([message("z", partition=0, of=transport)])
    assert contents(await transport.read(Topic.MESSAGES, 0)) == ["y", "z"]


async def test_what_is_remembered_is_forgotten_after_its_time() -> None:
    settings = TransportSettings(stream_partitions=1, idempotency_ttl_seconds=1)
    log = MemoryLog(settings)
    transport = MemoryTransport(settings, log=log)
    log.remember_seconds = 0
    sent = message("x", partition=0, of=transport)
    assert isinstance((await transport.publish([sent]))[0], Appended)
    assert isinstance((await transport.publish([sent]))[0], Appended)
    log.remember_seconds = 60
    assert isinstance((await transport.publish([sent]))[0], Appended)
    assert isinstance((await transport.publish([sent]))[0], Remembered)


async def test_two_transports_of_their_own_share_nothing() -> None:
    settings = TransportSettings(stream_partitions=1)
    one, other = (MemoryTransport.from_settings(settings) for _ in range(2))
    await one.publish([message("x", partition=0, of=one)])
    assert not await other.read(Topic.MESSAGES, 0)


async def test_published_positions_let_records_be_dropped() -> None:
    settings = TransportSettings(stream_partitions=1, stream_retention_records=10)
    transport = MemoryTransport.from_settings(settings)
    await transport.publish(messages(["x"] * 50, partition=0, of=transport))
    records = await transport.read(Topic.MESSAGES, 0)

    async def published(record: Record) -> int | None:
        """Publish the record's position; return the lag after that."""
        await transport.publish_positions(Topic.MESSAGES, {0: record.offset}, group=WORKER_GROUP)
        (progress,) = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return progress.lag

    assert await published(records[-1]) == 0
    await transport.publish([message("y", partition=0, of=transport)])
    left = await transport.read(Topic.MESSAGES, 0)
    assert contents(left) == ["x"] * 10 + ["y"]
    # The lag is the number of records that are there, however old or late a position is.
    assert await published(records[0]) == len(left)
    beyond = msgspec.structs.replace(records[0], offset="1000")
    assert await published(beyond) == 0
