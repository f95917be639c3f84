"""A rescue that is not over yet: answers of the former server, and the end of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.support.appends import append, append_at_last, texts
from tests.transport.redis_failover import Failover, log_of
from transport.conformance.envelopes import message, messages
from transport.contract import Appended
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport


def _log(failover: Failover) -> RedisTransport:
    """Return a log with long time limits, for answers that are held back."""
    return log_of(failover, redis_timeout_ms=60_000)


@asynccontextmanager
async def _appending_again(
    failover: Failover, log: RedisTransport
) -> AsyncIterator[asyncio.Task[list[str]]]:
    """Fail over, and hold back the rescue's first append; yield an append of a new message."""
    failover.proxy.hold(b"_append")
    await failover.promote()
    new = asyncio.create_task(append_at_last(log, "new"))
    await failover.proxy.held.wait()
    yield new
    failover.proxy.release()


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
