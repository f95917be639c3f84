"""A failover while our functions are loaded again: a call for one server goes to no other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.appends import append, append_at_last, texts
from tests.transport.redis_failover import Failover, log_of, run
from transport.conformance.envelopes import messages
from transport.redis.client.functions import Functions


async def test_an_append_that_found_no_function_comes_after_what_was_lost(
    failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Functions.load

    async def load_and_fail_over(self: Functions, *some: Any) -> None:
        await load(self, *some)
        monkeypatch.undo()
        await failover.promote()

    async with log_of(failover) as log:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await append(log, messages(["lost"], partition=0, of=log))
        await run(failover.primary, "FUNCTION", "FLUSH")
        monkeypatch.setattr(Functions, "load", load_and_fail_over)
        await append_at_last(log, "new")
        assert await texts(log) == ["kept", "lost", "new"]
