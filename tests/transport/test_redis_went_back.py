"""A Redis that went back: a lagging replica is promoted, or an older file is restored.

The lost records stay lost here; ``test_redis_rescue.py`` tests that they are appended again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.stepped_clock import SteppedClock
from tests.transport.redis_backend import short_settings
from tests.transport.redis_failover import Failover, pair, run
from tests.transport.settler import Settler, settle
from transport.conformance.envelopes import contents, message, messages
from transport.contract import (
    WORKER_GROUP,
    Appended,
    Progress,
    Remembered,
    Topic,
)
from transport.errors import TransportError, TransportUnavailable
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


async def _is_settled(log: RedisTransport) -> bool:
    return (await _progress(log)).lag == 0


async def _publish_at_last(log: RedisTransport, texts: list[str]) -> None:
    for text in texts:
        envelope = message(text, partition=0, of=log)

        async def appended(envelope=envelope) -> bool:
            (outcome,) = await log.publish([envelope])
            return not isinstance(outcome, TransportError)

        await eventually(appended)


async def test_a_worker_gets_all_that_is_accepted_afterwards(
    failover: Failover, log: RedisTransport
) -> None:
    """It had read and settled the lost records, and reads throughout."""
    worker = Settler(log)
    async with worker.working():
        await log.publish(messages([f"kept-{n}" for n in range(30)], partition=0, of=log))
        await eventually(lambda: len(worker.records) == 30)
        await eventually(partial(_is_settled, log))
        await failover.cut()
        lost = messages([f"lost-{n}" for n in range(20)], partition=0, of=log)
        await log.publish(lost)
        await eventually(lambda: len(worker.records) == 50)
        await failover.promote()
        accepted = [f"new-{n}" for n in range(40)]
        async with _transport(failover) as another:  # which knows of none of these
            for text in accepted:
                await _publish_at_last(another, [text])
        await eventually(lambda: contents(worker.records)[-1] == accepted[-1])
        got = contents(worker.records)
        assert [text for text in dict.fromkeys(got) if text.startswith("new")] == accepted
        assert {type(it) for it in await log.publish(lost)} == {Appended}, "nothing remembers them"
        await eventually(partial(_is_settled, log))


async def test_what_was_lost_unread_is_counted_and_outlives_the_process(
    failover: Failover, log: RedisTransport
) -> None:
    await log.publish(messages(["kept"], partition=0, of=log))
    (kept,) = await settle(log, 1)
    await failover.cut()
    await log.publish(messages([f"lost-{n}" for n in range(20)], partition=0, of=log))
    assert (await _progress(log)).lag == 20
    await failover.promote()
    failover.proxy.lose_reply_to(b"_show", times=2)  # it is counted, and the answer is lost
    await _publish_at_last(log, [f"new-{n}" for n in range(25)])

    async def counted() -> bool:
        with contextlib.suppress(TransportUnavailable):
            await log.publish_positions(Topic.MESSAGES, {0: kept.offset}, group=WORKER_GROUP)
            return (await _progress(log)).lost > 0
        return False

    await eventually(counted)
    records = await log.read(Topic.MESSAGES, 0, after=kept.offset)
    assert contents(records) == [f"new-{n}" for n in range(25)]
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

    await eventually(counted)
    (new,) = await log.publish([message("new", partition=0, of=log)])
    assert isinstance(lost, Appended)
    assert isinstance(new, Appended)
    assert log.sort_key(new.offset) > log.sort_key(lost.offset)


@pytest.mark.parametrize("settled", ["first", "last"])
async def test_what_was_read_before_settles_nothing_that_came_after(
    failover: Failover, log: RedisTransport, settled: str
) -> None:
    """A worker's position, in PostgreSQL, is that of a record which is lost."""
    await log.publish(messages(["kept"], partition=0, of=log))
    (kept,) = await settle(log, 1)
    await failover.cut()
    await log.publish(messages(["one", "two"], partition=0, of=log))
    before = await log.read(Topic.MESSAGES, 0, after=kept.offset)
    await failover.promote()
    async with _transport(failover) as another:
        await _publish_at_last(another, ["a", "b", "c"])
    at = before[-1 if settled == "last" else 0].offset
    rest = await log.read(Topic.MESSAGES, 0, after=at, wait=PATIENCE)
    assert contents(rest) == ["a", "b", "c"]
    await log.publish_positions(Topic.MESSAGES, {0: at}, group=WORKER_GROUP)
    progress = await _progress(log)
    rest = await log.read(Topic.MESSAGES, 0, after=progress.floor)
    assert contents(rest)[-3:] == ["a", "b", "c"]


async def test_an_older_file_that_was_restored_is_told_and_what_comes_after_is_read(
    tmp_path: Path,
) -> None:
    server = ValkeyServer(tmp_path / "redis" / "data")
    await server.start()
    try:
        async with RedisTransport.from_settings(
            short_settings(server, redis_rescue_seconds=0)
        ) as log:
            await log.publish(messages([f"kept-{n}" for n in range(10)], partition=0, of=log))
            kept = await settle(log, 10)
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
            await _publish_at_last(log, ["new"])
            assert contents(await settle(log, 2, after=kept[-1])) == ["lost-0", "new"]
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
            worker = Settler(log)
            async with worker.working():
                for turn in range(4):
                    await log.publish(messages(["x"] * 150, partition=0, of=log))
                    expected = 150 * (turn + 1)
                    await eventually(lambda n=expected: len(worker.records) >= n)
                    await eventually(partial(_is_settled, log))
                    if turn == 0:
                        await server.kill()
                        await server.start()
                    elif turn == 1:
                        await run(server, "XTRIM", "msg:stream:0", "MAXLEN", "0")
                    elif turn == 2:
                        (outcome,) = await log.publish([message("gone", partition=0, of=log)])
                        await eventually(lambda: len(worker.records) >= 451)
                        await eventually(partial(_is_settled, log))
                        assert isinstance(outcome, Appended)
                        await run(server, "XDEL", "msg:stream:0", outcome.offset)

                await eventually(partial(_is_settled, log))
            assert (await _progress(log)).lost == 0
    finally:
        await server.stop()
