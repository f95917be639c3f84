"""A former primary takes the writes again, without what another server got in between."""

from __future__ import annotations

import asyncio

import pytest

from compose.local.valkey import ValkeyServer
from tests.support.appends import append, append_at_last, texts
from tests.transport.redis_failover import Failover, log_of, run
from transport.conformance.envelopes import messages

_FIRST = "before anything new of this process"


def _lead_to(failover: Failover, server: ValkeyServer) -> None:
    failover.proxy.lead_to(server.host, server.port)
    failover.proxy.reset()


async def test_what_only_the_other_server_got_is_appended_again(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    """The address moves back, as a floating IP does; a rescue to this server has ended before."""
    async with log_of(failover) as one, log_of(failover) as other:
        for log in (one, other):
            await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await failover.promote()
        for log in (one, other):
            await append_at_last(log, "here")
        failover.primary, failover.replica = failover.replica, failover.primary
        await failover.replica.start()
        primary = failover.primary
        await run(failover.replica, "REPLICAOF", primary.host, str(primary.port))
        await failover.cut()
        _lead_to(failover, failover.replica)
        await append_at_last(one, "there")
        await append_at_last(other, "there")
        there = [f"there-{n}" for n in range(20)]
        for n, text in enumerate(there):
            log = (one, other)[n % 2]
            await append(log, messages([text], partition=0, of=log))
        caplog.clear()
        _lead_to(failover, primary)
        await asyncio.gather(append_at_last(one, "new"), append_at_last(other, "new"))
        found = await texts(one)
        assert found[:4] == ["kept", "kept", "here", "here"]
        assert sorted(found[4:]) == sorted(["there", "there", *there, "new", "new"])
        for own in (there[::2], there[1::2]):
            assert [text for text in found if text in own] == own
        assert found[-1] == "new"
        assert await one.rescued() == 22
    assert _FIRST in caplog.text


async def test_an_id_that_is_kept_free_is_no_record_that_overtook(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that notices the loss first has new records get later ids than lost ones."""
    stream = "msg:stream:0"
    async with log_of(failover) as log:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await append(log, messages(["lost"], partition=0, of=log))
        ((offset, _),) = await run(failover.primary, "XREVRANGE", stream, "+", "-", "COUNT", "1")
        milliseconds = int(offset.split(b"-")[0])
        await run(failover.replica, "XSETID", stream, f"{milliseconds + 1}-0")
        await failover.promote()
        await append_at_last(log, "new")
        assert await texts(log) == ["kept", "lost", "new"]
    assert _FIRST in caplog.text
