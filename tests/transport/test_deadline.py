"""``answer`` returns at its deadline, even if the cancelled call takes time to end."""

from __future__ import annotations

import asyncio

import pytest

from transport.deadline import answer
from transport.errors import TransportUnavailable


class Slow:
    """A call that gets no answer, and takes time to end when it is cancelled."""

    def __init__(self) -> None:
        self.cut_off = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = asyncio.Event()

    async def ask(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cut_off.set()
            await self.may_end.wait()
            self.ended.set()


async def test_what_comes_in_time_is_returned_or_raised():
    async def said() -> int:
        await asyncio.sleep(0)
        return 7

    async def refused() -> None:
        await asyncio.sleep(0)
        raise TransportUnavailable("away")

    assert await answer(said(), within=5) == 7
    with pytest.raises(TransportUnavailable, match="away"):
        await answer(refused(), within=5)


async def test_who_asks_is_told_in_time_though_the_asking_has_not_ended():
    slow = Slow()
    with pytest.raises(TimeoutError):
        await answer(slow.ask(), within=0.05)
    await slow.cut_off.wait()
    assert not slow.ended.is_set()
    slow.may_end.set()
    await slow.ended.wait()  # it ends by itself, and no caller has to wait for it


async def test_who_asks_no_more_cuts_the_asking_off():
    slow = Slow()
    asking = asyncio.create_task(answer(slow.ask(), within=60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await slow.cut_off.wait()
    slow.may_end.set()
    await slow.ended.wait()
