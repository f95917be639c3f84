"""A repeat that was answered is acknowledged, so a rescue brings its record back."""

from __future__ import annotations

from tests.support.appends import append, append_at_last, texts
from tests.transport.redis_failover import Failover, log_of
from transport.conformance.envelopes import messages
from transport.contract import Remembered
from transport.errors import AppendUnknown


async def test_an_append_whose_reply_was_lost_is_rescued_once_its_repeat_was_answered(
    failover: Failover,
) -> None:
    async with log_of(failover) as log:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        lost = messages(["lost-0", "lost-1"], partition=0, of=log)
        failover.proxy.lose_reply_to(b"_append")
        assert {type(it) for it in await log.publish(lost)} == {AppendUnknown}
        await append(log, messages(["lost-2"], partition=0, of=log))
        assert {type(it) for it in await log.publish(lost)} == {Remembered}
        await failover.promote()
        await append_at_last(log, "new")
        assert await texts(log) == ["kept", "lost-0", "lost-1", "lost-2", "new"]


async def test_what_an_ended_process_appended_is_rescued_by_the_one_that_answered_a_repeat(
    failover: Failover,
) -> None:
    async with log_of(failover) as log:
        async with log_of(failover) as ended:
            await append(ended, messages(["kept"], partition=0, of=ended))
            await failover.cut()
            lost = messages(["lost"], partition=0, of=ended)
            await append(ended, lost)
        assert {type(it) for it in await log.publish(lost)} == {Remembered}
        await failover.promote()
        await append_at_last(log, "new")
        assert await texts(log) == ["kept", "lost", "new"]


async def test_a_record_that_two_processes_still_have_is_appended_again_once(
    failover: Failover,
) -> None:
    async with log_of(failover) as one, log_of(failover) as other:
        await append(one, messages(["kept"], partition=0, of=one))
        await failover.cut()
        lost = messages(["lost-0", "lost-1"], partition=0, of=one)
        await append(one, lost)
        for log in (one, other, other):
            assert {type(it) for it in await log.publish(lost)} == {Remembered}
        await failover.promote()
        await append_at_last(one, "new")
        await append_at_last(other, "newer")
        assert await texts(one) == ["kept", "lost-0", "lost-1", "new", "newer"]
        assert await one.rescued() == 2
