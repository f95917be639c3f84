"""Records that a failover lost are counted, and so are those of them that were appended again."""

from __future__ import annotations

from tests.support.appends import append, append_at_last, texts
from tests.support.eventually import eventually
from tests.transport.redis_failover import Failover, log_of, run
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Progress, Topic
from transport.redis import RedisTransport

P = 0


async def _progress(log: RedisTransport) -> Progress:
    return (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[P]


async def _lose(failover: Failover, log: RedisTransport, count: int, name: str = "lost") -> None:
    """Append records that the replica will not have."""
    await append(log, messages([f"{name}-{n}" for n in range(count)], partition=P, of=log))
    assert (await _progress(log)).lag >= count, "this process knows that they were there"


async def test_what_was_lost_and_appended_again_is_put_back(failover: Failover) -> None:
    async with log_of(failover) as log:
        await append(log, messages(["kept"], partition=P, of=log))
        assert (await _progress(log)).lost_at is None
        await failover.cut()
        await _lose(failover, log, 5)
        await failover.promote()
        await append_at_last(log, "new")
        progress = await eventually(lambda: _lost(log))
        assert (progress.lost, progress.put_back, progress.lost_uncounted) == (5, 5, False)
        assert progress.lost_at is not None
        assert len(await texts(log)) == 7


async def _lost(log: RedisTransport) -> Progress | None:
    progress = await _progress(log)
    return progress if progress.lost else None


async def test_what_was_put_back_after_a_deletion_does_not_heal_the_deletion(
    failover: Failover,
) -> None:
    """What was deleted was appended by a process that keeps nothing for a rescue."""
    async with log_of(failover, redis_rescue_seconds=0) as other:
        await append(other, messages(["deleted"] * 4, partition=P, of=other))
    async with log_of(failover) as log:
        assert (await _progress(log)).lag == 4
        await run(failover.primary, "DEL", f"msg:stream:{P}")
        deleted = await eventually(lambda: _lost(log))
        assert (deleted.lost, deleted.put_back) == (4, 0)
        await append(log, messages(["kept"], partition=P, of=log))
        await failover.cut()
        await _lose(failover, log, 6)
        await failover.promote()
        await append_at_last(log, "new")
        assert await log.rescued() == 6
        progress = await _progress(log)
        assert progress.lost - progress.put_back == 4


async def test_every_rescue_of_the_day_is_counted(failover: Failover) -> None:
    """The second one is to the server that was the primary first."""
    async with log_of(failover) as log:
        await append(log, messages(["kept"], partition=P, of=log))
        await failover.cut()
        await _lose(failover, log, 5)
        await failover.promote()
        await append_at_last(log, "new")
        assert await log.rescued() == 5
        failover.primary, failover.replica = failover.replica, failover.primary
        await failover.replica.start()
        primary = failover.primary
        await run(failover.replica, "REPLICAOF", primary.host, str(primary.port))
        await failover.cut()
        await _lose(failover, log, 3, "lost-again")
        await failover.promote()
        await append_at_last(log, "newest")
        assert await log.rescued() == 8


async def test_what_is_gone_with_a_process_is_counted_exactly(failover: Failover) -> None:
    """It ends with the primary; another process knows a later record."""
    async with log_of(failover) as log:
        async with log_of(failover) as other:
            await append(other, messages(["kept"], partition=P, of=other))
            await append(log, messages(["kept-too"], partition=P, of=log))
            await failover.cut()
            gone = messages([f"gone-{n}" for n in range(7)], partition=P, of=other)
            await append(other, gone)
        await append(log, messages([f"lost-{n}" for n in range(8)], partition=P, of=log))
        await failover.promote()
        await append_at_last(log, "new")
        await eventually(lambda: _lost(log))
        progress = await _progress(log)
        assert progress.lost - progress.put_back == 7
        assert not progress.lost_uncounted
