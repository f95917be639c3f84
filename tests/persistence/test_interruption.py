"""Waits end when a stop comes, and in no other way than they would."""

from __future__ import annotations

import asyncio

import pytest

from persistence.worker.interruption import Interruption


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_stop_ends_the_wait_under_way_and_every_later_one(stop):
    async with Interruption(stop) as interruption, asyncio.timeout(5):
        waiting = asyncio.create_task(interruption.unless_stopped(forever))
        await asyncio.sleep(0)
        stop.set()
        assert await waiting is None
        assert await interruption.unless_stopped(forever) is None


async def test_results_and_errors_come_through(stop):
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def fail() -> None:
        raise TimeoutError("its own")

    async with Interruption(stop) as interruption:
        for _ in range(3):
            assert await interruption.unless_stopped(answer) == 42
            with pytest.raises(TimeoutError, match="its own"):
                await interruption.unless_stopped(fail)


async def test_who_is_cancelled_is_cancelled(stop):
    async with Interruption(stop) as interruption:
        waiting = asyncio.create_task(interruption.unless_stopped(forever))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
