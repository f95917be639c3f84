"""The rescue's leader, which appends the lost records of all processes again, and its failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.support.appends import append, append_at_last, texts
from tests.transport.redis_failover import Failover, log_of, run
from transport.conformance.envelopes import message, messages
from transport.contract import Appended
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.keys import messages_log
from transport.redis.rescue.recent_appends import RecentAppend
from transport.redis.rescue.report import RescueReport, field_of, pages


def _log(failover: Failover) -> RedisTransport:
    """Return a log with long time limits, for answers that are held back."""
    return log_of(failover, redis_timeout_ms=60_000)


async def _rescue_key(failover: Failover, log: RedisTransport) -> str:
    """Return the key of the hash with the reports."""
    told = await run(failover.replica, "INFO", "replication")
    return messages_log(log.partitions).rescue(told["master_replid"])


@asynccontextmanager
async def _appending_again(
    failover: Failover, log: RedisTransport
) -> AsyncIterator[asyncio.Task[list[str]]]:
    """Fail over, and hold back the leader's first append; also yield one of a new message."""
    failover.proxy.hold(b"_append")
    await failover.promote()
    new = asyncio.create_task(append_at_last(log, "new"))
    await failover.proxy.held.wait()
    yield new
    failover.proxy.release()


async def test_who_reports_while_another_appends_loses_nothing(failover: Failover) -> None:
    async with _log(failover) as log:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await append(log, messages(["lost"], partition=0, of=log))
        async with _appending_again(failover, log) as new:
            late = RecentAppend("1-1", message("late", partition=0, of=log), remember=True)
            (page,) = pages([late])
            key, report = await _rescue_key(failover, log), RescueReport.of([late], 1)
            await run(failover.replica, "HSET", key, field_of("late", 0), page)
            await run(failover.replica, "HSET", key, "late", report.packed())
        await new
        assert await texts(log) == ["kept", "lost", "late", "new"]
        assert await log.rescued() == 2


async def test_reports_that_expire_meanwhile_are_made_again(
    failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do where the new server takes no appends for five minutes."""
    monkeypatch.setattr("transport.redis.rescue.report._PAGE_RECORDS", 2)
    monkeypatch.setattr("transport.redis.rescue.leader._RECORDS_PER_TURN", 2)
    async with _log(failover) as log:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        lost = [f"lost-{n}" for n in range(10)]  # five pages, of which two are read at first
        await append(log, messages(lost, partition=0, of=log))
        async with _appending_again(failover, log) as new:
            await run(failover.replica, "DEL", await _rescue_key(failover, log))
        await new
        assert await texts(log) == ["kept", *lost, "new"]


async def test_what_a_replaced_server_takes_late_is_not_acknowledged(failover: Failover) -> None:
    """The old server hung and goes on after the rescue; no client uses its log any more."""
    async with _log(failover) as log:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        failover.proxy.hold(b"late")
        late = asyncio.create_task(log.publish([message("late", partition=0, of=log)]))
        await failover.proxy.held.wait()
        failover.proxy.lead_to(failover.replica.host, failover.replica.port)
        await append_at_last(log, "new")
        failover.proxy.release()
        (outcome,) = await late
        assert not isinstance(outcome, Appended)
        assert "failed over while" in str(outcome)
        await append_at_last(log, "late")
        assert await texts(log) == ["kept", "new", "late"]


async def test_an_append_that_waits_ends_when_the_log_is_closed(failover: Failover) -> None:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(_log(failover))
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await append(log, messages(["lost"], partition=0, of=log))
        async with _appending_again(failover, log) as new:
            new.cancel()
            waiting = asyncio.create_task(log.publish([message("waits", partition=0, of=log)]))
            await asyncio.sleep(0)
            await stack.aclose()
            (outcome,) = await asyncio.wait_for(waiting, 10.0)
    assert isinstance(outcome, TransportUnavailable)
    assert not [it for it in asyncio.all_tasks() if it.get_name() == "rescue"]
