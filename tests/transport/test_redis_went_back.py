"""A Redis that went back: a lagging replica is promoted, or an older file is restored.

The lost records stay lost here; ``test_redis_rescue.py`` tests that they are appended again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.stepped_clock import SteppedClock
from tests.transport.redis_backend import short_settings, silence
from tests.transport.redis_failover import Failover, pair, run
from transport.conformance.member import (
    ConformanceWorker,
    Member,
    contents,
    drain,
    message,
    messages,
    until,
)
from transport.contract import (
    WORKER_GROUP,
    Appended,
    HandingClaim,
    Progress,
    Record,
    Remembered,
    Topic,
)
from transport.errors import PartitionLost, TransportError, TransportUnavailable
from transport.redis import RedisTransport

PATIENCE = 15.0
HOUR = 3600


@pytest.fixture(params=[0, -HOUR], ids=["clocks-agree", "an-hour-behind"])
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> SteppedClock | None:
    """The replica's clock, where it differs from the primary's."""
    if not request.param:
        return None
    clock = SteppedClock(tmp_path)
    clock.step(request.param)
    return clock


@pytest_asyncio.fixture
async def failover(tmp_path: Path, clock: SteppedClock | None) -> AsyncIterator[Failover]:
    async with pair(tmp_path, clock) as failover:
        yield failover


@pytest_asyncio.fixture
async def log(failover: Failover) -> AsyncIterator[RedisTransport]:
    async with _transport(failover) as log:
        yield log


def _transport(failover: Failover) -> RedisTransport:
    return RedisTransport.from_settings(
        short_settings(
            None,
            redis_host=failover.proxy.host,
            redis_port=failover.proxy.port,
            redis_rescue_seconds=0,
        )
    )


async def _progress(log: RedisTransport) -> Progress:
    return (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]


async def _publish_at_last(log: RedisTransport, texts: list[str]) -> None:
    for text in texts:
        envelope = message(text, partition=0, of=log)

        async def appended(envelope=envelope) -> bool:
            (outcome,) = await log.publish([envelope])
            return not isinstance(outcome, TransportError)

        await eventually(appended, timeout=PATIENCE)


async def _hand_three(log: RedisTransport, handed: list[Record], read: list[Record]) -> bool:
    """Append three records; return whether they were handed over. A claim that reads reads them."""
    last = (await log.publish(messages(["one", "two", "three"], partition=0, of=log)))[-1]
    assert isinstance(last, Appended)

    def came() -> bool:
        return any(record.offset == last.offset for record in [*handed, *read])

    await until(came, patience=PATIENCE)
    return handed[-1].offset == last.offset


async def test_a_worker_gets_all_that_is_accepted_afterwards_and_the_loss_is_told(
    failover: Failover, log: RedisTransport
) -> None:
    """The worker had read and acknowledged the lost records, and holds its claim throughout."""
    worker = ConformanceWorker(log, "worker")
    async with worker.working():
        await log.publish(messages([f"kept-{n}" for n in range(30)], partition=0, of=log))
        await until(lambda: len(worker.records) == 30, patience=PATIENCE)
        await failover.cut()
        lost = messages([f"lost-{n}" for n in range(20)], partition=0, of=log)
        await log.publish(lost)
        await until(lambda: len(worker.records) == 50, patience=PATIENCE)
        await failover.promote()
        accepted = [f"new-{n}" for n in range(40)]
        await _publish_at_last(log, accepted)

        def arrived() -> bool:
            return contents(worker.records)[-1] == accepted[-1]

        await until(arrived, patience=PATIENCE)
        got = contents(worker.records)
        assert [text for text in dict.fromkeys(got) if text.startswith("new")] == accepted
        assert {type(it) for it in await log.publish(lost)} == {Appended}, "nothing remembers them"

        async def all_read() -> bool:
            return (await _progress(log)).lag == 0

        await until(all_read, patience=PATIENCE)


async def test_what_was_lost_unread_is_counted_and_outlives_the_process(
    failover: Failover, log: RedisTransport
) -> None:
    async with Member(log) as member:
        claim = await member.claim(0)
        await log.publish(messages(["kept"], partition=0, of=log))
        (kept,) = await drain(claim, 1, patience=PATIENCE)
        await claim.ack(kept.offset)
        await failover.cut()
        await log.publish(messages([f"lost-{n}" for n in range(20)], partition=0, of=log))
        assert (await _progress(log)).lag == 20
        await failover.promote()
        failover.proxy.lose_reply_to(b"_renew", times=2)  # it is counted, and the answer is lost
        await _publish_at_last(log, [f"new-{n}" for n in range(25)])
        await until(lambda: member.claims[0] is not claim, patience=PATIENCE)
        with pytest.raises(PartitionLost):
            await claim.ack(kept.offset)

        async def counted() -> bool:
            return (await _progress(log)).lost > 0

        await until(counted, patience=PATIENCE)
        records = await drain(member.claims[0], 25, patience=PATIENCE)
        assert contents(records)[-25:] == [f"new-{n}" for n in range(25)]
        lost = (await _progress(log)).lost
        # With the clock behind, new records take the ids of some lost ones.
        assert lost == 20 or (failover.replica.binary != failover.primary.binary and lost > 0)
    async with _transport(failover) as another:
        assert (await _progress(another)).lost == lost


async def test_a_process_that_only_accepts_tells_the_loss_of_what_it_was_told(
    failover: Failover, log: RedisTransport
) -> None:
    await log.publish([message("kept", partition=0, of=log)])
    await failover.cut()
    await log.publish([message("lost", partition=0, of=log)])
    await failover.promote()
    await _publish_at_last(log, ["new"])
    for _ in range(3):
        assert (await _progress(log)).lost == 1, "and no more, however often it is asked"
    assert (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[1].lost == 0


async def test_what_several_processes_know_to_be_lost_is_counted_once(
    failover: Failover, log: RedisTransport
) -> None:
    async with _transport(failover) as other:
        await log.publish([message("kept", partition=0, of=log)])
        await failover.cut()
        await log.publish(messages(["lost"] * 10, partition=0, of=log))
        assert (await _progress(log)).lag == 11
        await other.publish(messages(["lost"] * 10, partition=0, of=log))
        assert (await _progress(other)).lag == 21
        await failover.promote()
        told = []
        for _ in range(3):
            for process in (log, other):
                with contextlib.suppress(TransportUnavailable):
                    told.append((await _progress(process)).lost)
        assert told[-4:] == [20] * 4, told


async def test_no_new_record_gets_the_id_of_one_that_is_known_to_be_lost(
    failover: Failover, log: RedisTransport
) -> None:
    await failover.cut()
    (lost,) = await log.publish([message("lost", partition=0, of=log)])
    await failover.promote()

    async def counted() -> bool:
        try:
            return (await _progress(log)).lost == 1
        except TransportUnavailable:
            return False

    await eventually(counted, timeout=PATIENCE)
    (new,) = await log.publish([message("new", partition=0, of=log)])
    assert isinstance(lost, Appended)
    assert isinstance(new, Appended)
    assert log.sort_key(new.offset) > log.sort_key(lost.offset)


async def test_a_read_whose_answer_was_lost_after_the_log_went_back_skips_nothing(
    failover: Failover, log: RedisTransport
) -> None:
    """The records it was given are pending, perhaps below all that this claim ever read."""
    async with Member(log) as member:
        claim = await member.claim(0)
        await failover.cut()
        await log.publish(messages(["one", "two"], partition=0, of=log))
        records = await drain(claim, 2, patience=PATIENCE)
        await failover.promote()
        await _publish_at_last(log, ["a", "b", "c"])
        failover.proxy.lose_reply_to(b"XREADGROUP")
        with pytest.raises(TransportError):
            while True:
                await claim.next(max_records=10, max_wait=0)
        got: list[str] = []

        async def came() -> bool:
            try:
                current = member.claims[0]
                some = await current.next(max_records=10, max_wait=0.1)
                if some:
                    got.extend(contents(some))
                    await current.ack(some[-1].offset)
                else:
                    await current.ack(records[-1].offset)
            except TransportError:
                return False
            return "c" in got

        await until(came, patience=PATIENCE)
        assert [text for text in dict.fromkeys(got) if text in "abc"] == ["a", "b", "c"]


async def test_what_was_read_before_acknowledges_nothing_that_came_after(
    failover: Failover, log: RedisTransport
) -> None:
    """A worker writes one batch, reads the next one ahead, acknowledges the first, and dies."""
    async with Member(log, "first") as member:
        claim = await member.claim(0)
        await failover.cut()
        await log.publish(messages(["one", "two"], partition=0, of=log))
        before = await drain(claim, 2, patience=PATIENCE)
        await silence(member.consumer)  # or it would be told by its lease, sooner or later
        await failover.promote()
        await _publish_at_last(log, ["a", "b", "c"])

        async def read_ahead() -> bool:
            try:
                return bool(await claim.next(max_records=10, max_wait=0))
            except TransportUnavailable:
                return False
            except PartitionLost:
                return True

        await until(read_ahead, patience=PATIENCE)
        with contextlib.suppress(PartitionLost):
            await claim.ack(before[-1].offset)
        async with Member(log, "heir") as heir:
            rest = await drain(await heir.claim(0), 3, patience=PATIENCE)
            assert contents(rest) == ["a", "b", "c"]


@pytest.mark.parametrize("id_of", ["its own", "the lost one's"])
async def test_what_was_handed_over_and_is_lost_passes_no_record_of_another_process(
    failover: Failover, log: RedisTransport, id_of: str
) -> None:
    """Nothing else tells this owner: the group is where it left it, and so is its epoch."""
    async with Member(log) as member:
        claim = await member.claim(0)
        assert isinstance(claim, HandingClaim)
        handed: list[Record] = []
        read: list[Record] = []

        def take(records: Sequence[Record]) -> bool:
            handed.extend(records)
            return True

        async def work() -> None:
            while True:
                with contextlib.suppress(TransportUnavailable):
                    read.extend(await claim.next(max_records=10, max_wait=PATIENCE))
                    if read:
                        await claim.ack(read[-1].offset)

        async def settled() -> bool:
            return (await _progress(log)).lag == 0

        async def is_handed() -> bool:
            if not handed and await settled():
                await _publish_at_last(log, ["kept"])
            return bool(handed)

        claim.hand_over(take)
        working = asyncio.create_task(work())
        try:
            await until(is_handed, patience=PATIENCE)
            claim.passed(handed[-1].offset)
            await until(settled, patience=PATIENCE)
            read.clear()
            await silence(member.consumer)  # or it would be told by its lease, sooner or later
            await failover.cut()
            await until(partial(_hand_three, log, handed, read), patience=PATIENCE)
            await failover.promote()
            async with _transport(failover) as another:
                if id_of == "its own":
                    await _publish_at_last(another, ["new"])
                else:
                    new = message("new", partition=0, of=log)
                    fields = itertools.chain(*new.headers.items())
                    await run(
                        failover.replica,
                        *("XADD", "msg:stream:0", handed[-1].offset),
                        *("key", new.key, "body", new.body, *fields),
                    )
            claim.passed(handed[-1].offset)
            await until(lambda: "new" in contents(read), patience=PATIENCE)
        finally:
            working.cancel()
            await asyncio.wait([working])


async def test_an_older_file_that_was_restored_is_told_and_what_comes_after_is_read(
    tmp_path: Path,
) -> None:
    server = ValkeyServer(tmp_path / "redis" / "data")
    await server.start()
    try:
        async with RedisTransport.from_settings(
            short_settings(server, redis_rescue_seconds=0)
        ) as log:
            worker = ConformanceWorker(log, "worker")
            async with worker.working():
                await log.publish(messages([f"kept-{n}" for n in range(10)], partition=0, of=log))
                await until(lambda: len(worker.records) == 10, patience=PATIENCE)
            await server.stop()
            shutil.copytree(server.data_dir, tmp_path / "backup")
            await server.start()
            sent = messages([f"lost-{n}" for n in range(20)], partition=0, of=log)
            assert all(isinstance(it, Appended) for it in await log.publish(sent))
            assert {type(it) for it in await log.publish(sent)} == {Remembered}
            assert (await _progress(log)).lag == 20
            await server.stop()
            shutil.rmtree(server.data_dir)
            shutil.copytree(tmp_path / "backup", server.data_dir)
            await server.start()
            progress = await _progress(log)
            assert (progress.lag, progress.lost) == (0, 20)
            assert {type(it) for it in await log.publish(sent[:1])} == {Appended}
            heir = ConformanceWorker(log, "heir")
            async with heir.working():
                await _publish_at_last(log, ["new"])
                await until(lambda: len(heir.records) == 2, patience=PATIENCE)
            assert contents(heir.records) == ["lost-0", "new"]
            assert (await _progress(log)).lost == 20
    finally:
        await server.stop()


async def test_a_server_that_kept_everything_went_back_nowhere(tmp_path: Path) -> None:
    """Killed and started again; trimmed to the last record and beyond; deleted from by hand."""
    server = ValkeyServer(tmp_path / "redis" / "data")
    await server.start()
    try:
        settings = short_settings(server, stream_retention_records=0, stream_retention_seconds=0)
        async with RedisTransport.from_settings(settings) as log:
            worker = ConformanceWorker(log, "worker")
            async with worker.working():
                for turn in range(4):
                    await log.publish(messages(["x"] * 150, partition=0, of=log))
                    expected = 150 * (turn + 1)
                    await until(lambda n=expected: len(worker.records) >= n, patience=PATIENCE)
                    await _progress(log)
                    if turn == 0:
                        await server.kill()
                        await server.start()
                    elif turn == 1:
                        await run(server, "XTRIM", "msg:stream:0", "MAXLEN", "0")
                    elif turn == 2:
                        (outcome,) = await log.publish([message("gone", partition=0, of=log)])
                        await until(lambda: len(worker.records) >= 451, patience=PATIENCE)
                        assert isinstance(outcome, Appended)
                        await run(server, "XDEL", "msg:stream:0", outcome.offset)

                async def at_rest() -> bool:
                    return (await _progress(log)).lag == 0

                await until(at_rest, patience=PATIENCE)
            assert (await _progress(log)).lost == 0
    finally:
        await server.stop()
