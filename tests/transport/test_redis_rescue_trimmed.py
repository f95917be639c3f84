"""A record that a failover lost is not taken for one that was trimmed."""

from __future__ import annotations

from tests.support.appends import append, append_at_last
from tests.support.eventually import eventually
from tests.transport.redis_failover import Failover, log_of, run
from tests.transport.settler import Settler
from transport.conformance.envelopes import contents, messages
from transport.contract import Topic
from transport.redis.keys import messages_log


async def test_a_process_that_hears_late_brings_records_older_than_all_others(
    failover: Failover,
) -> None:
    brief = {"stream_retention_records": 0, "stream_retention_seconds": 0}
    async with log_of(failover, **brief) as log, log_of(failover) as late:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await append(late, messages(["late"], partition=0, of=late))
        await failover.promote()
        await append_at_last(log, "new")
        worker = Settler(log)
        async with worker.working():
            await append(log, messages(["x"] * 500, partition=0, of=log))
            await eventually(lambda: len(worker.records) >= 500)

            async def trimmed() -> bool:
                return len(await log.read(Topic.MESSAGES, 0)) < 400

            await eventually(trimmed)
            await append_at_last(late, "newer")
            await eventually(lambda: "newer" in contents(worker.records))
        assert contents(worker.records)[-2:] == ["late", "newer"]


async def test_an_overwritten_memory_does_not_end_a_rescue(failover: Failover) -> None:
    """Trimmed records are not taken for lost ones."""
    brief = {"stream_retention_records": 0, "stream_retention_seconds": 0}
    async with log_of(failover, **brief) as log:
        async with Settler(log).working():
            await append(log, messages(["x"] * 500, partition=0, of=log))

            async def trimmed() -> bool:
                return len(await log.read(Topic.MESSAGES, 0)) < 400

            await eventually(trimmed)
        for memory in messages_log(log.partitions).memories():
            await run(failover.primary, "SET", memory, "overwritten")
        await failover.cut()
        await append(log, messages(["lost"], partition=0, of=log))
        await failover.promote()
        await append_at_last(log, "new")
        found = contents(await log.read(Topic.MESSAGES, 0))
        assert len(found) < 400
        assert [it for it in found if it != "x"] == ["lost", "new"]
