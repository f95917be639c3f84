"""What the memory transport does beyond the suite: it forgets what it may, and nothing else."""

from __future__ import annotations

import msgspec

from transport.conformance.member import Member, contents, drain, message, messages
from transport.contract import WORKER_GROUP, Appended, Record, Remembered, Topic
from transport.memory import MemoryLog, MemoryTransport
from transport.settings import TransportSettings

PATIENCE = 5.0


async def test_acknowledged_records_are_dropped_in_the_end_and_no_others() -> None:
    settings = TransportSettings(stream_partitions=1, stream_retention_records=100)
    log = MemoryLog(settings)
    transport = MemoryTransport(settings, log=log)
    async with Member(transport) as member:
        claim = await member.claim(0)
        for _ in range(10):
            await transport.publish(messages(["x"] * 100, partition=0, of=transport))
            records = await drain(claim, 100, patience=PATIENCE)
            await claim.ack(records[-1].offset)
        await transport.publish(messages(["y"] * 50, partition=0, of=transport))
        (partition,) = log.topics[Topic.MESSAGES]
        assert 150 <= len(partition.records) <= 400
        assert contents(await drain(claim, 50, patience=PATIENCE)) == ["y"] * 50
    (progress,) = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert (progress.lag, progress.end) == (50, "1049")


async def test_nothing_is_dropped_while_a_group_has_not_acknowledged_it() -> None:
    settings = TransportSettings(stream_partitions=1, stream_retention_records=0)
    transport = MemoryTransport.from_settings(settings)
    await transport.publish(messages(["x"] * 50, partition=0, of=transport))
    await transport.publish([message("y", partition=0, of=transport)])
    assert len(await transport.read(Topic.MESSAGES, 0)) == 51


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


async def test_the_epochs_of_a_group_that_was_forgotten_go_on() -> None:
    """Also where they are ahead of the clock: an owner of before must not be taken for the new."""
    transport = MemoryTransport.from_settings(TransportSettings(stream_partitions=1))
    async with Member(transport) as member:
        claim = await member.claim(0)
        await claim.raise_epoch(claim.epoch + 3_600_000)
    await transport.forget_group(WORKER_GROUP)
    async with Member(transport) as member:
        assert (await member.claim(0)).epoch > claim.epoch


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
