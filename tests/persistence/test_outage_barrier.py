"""The barrier: one prober for all who wait, growing delays, and everyone goes on at once."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from persistence.database.outage import OutageBarrier, Stopping
from persistence.errors import Outage
from persistence.metrics import PersistenceMetrics
from tests.support.metric_values import value_of
from transport.backoff import Backoff


class Dependency:
    """Fails until it is told to work; counts who asks, and how many at a time."""

    def __init__(self) -> None:
        self.works = False
        self.probes = 0
        self._asking = 0

    async def probe(self) -> None:
        self._asking += 1
        assert self._asking == 1
        self.probes += 1
        try:
            await asyncio.sleep(0)
        finally:  # the caller may be cancelled
            self._asking -= 1
        if not self.works:
            raise Outage("still down")


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
def barrier(dependency, metrics) -> OutageBarrier:
    return OutageBarrier(
        "it", dependency.probe, metrics, outages=Outage, backoff=Backoff(0.05, 0.05)
    )


async def test_one_probes_for_all_and_all_go_on_at_once(barrier, dependency, eventually):
    stop = asyncio.Event()
    holders = [asyncio.create_task(barrier.hold(Outage("down"), stop)) for _ in range(16)]
    await eventually(lambda: dependency.probes >= 3)
    assert not any(holder.done() for holder in holders)
    assert barrier.paused().dependency == "it"
    assert barrier.paused().error == "still down"
    dependency.works = True
    before = dependency.probes
    await asyncio.gather(*holders)
    assert dependency.probes <= before + 2
    assert barrier.paused() is None


async def test_whoever_probes_may_be_cancelled_and_another_takes_over(
    barrier, dependency, eventually
):
    stop = asyncio.Event()
    holders = [asyncio.create_task(barrier.hold(Outage("down"), stop)) for _ in range(3)]
    await eventually(lambda: dependency.probes)
    holders[0].cancel()
    dependency.works = True
    await asyncio.gather(*holders[1:])


async def test_a_stop_ends_every_wait(dependency, metrics):
    barrier = OutageBarrier("it", dependency.probe, metrics, backoff=Backoff(30, 30))
    stop = asyncio.Event()
    holders = [asyncio.create_task(barrier.hold(Outage("down"), stop)) for _ in range(4)]
    await asyncio.sleep(0)
    stop.set()
    ended = await asyncio.gather(*holders, return_exceptions=True)
    assert all(isinstance(end, Stopping) for end in ended)


async def test_a_stop_ends_a_wait_behind_another_caller(dependency, metrics):
    barrier = OutageBarrier("it", dependency.probe, metrics, backoff=Backoff(30, 30))
    stop, never = asyncio.Event(), asyncio.Event()
    probing = asyncio.create_task(barrier.hold(Outage("down"), never))
    await asyncio.sleep(0)
    queued = asyncio.create_task(barrier.hold(Outage("down"), stop))
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(Stopping):
        await queued
    assert not probing.done()
    probing.cancel()


async def test_a_pause_ends_with_the_last_caller_that_waits(barrier, dependency, metrics):
    """Its partitions may go to another process in an outage, and nobody would find its end."""
    first, last = asyncio.Event(), asyncio.Event()
    holders = [asyncio.create_task(barrier.hold(Outage("down"), stop)) for stop in (first, last)]
    await asyncio.sleep(0)
    first.set()
    await asyncio.wait([holders[0]])
    assert value_of(metrics.of(PersistenceMetrics).paused.labels("it")) == 1
    since = barrier.paused().since
    last.set()
    await asyncio.wait([holders[1]])
    assert value_of(metrics.of(PersistenceMetrics).paused.labels("it")) == 0
    assert barrier.paused() is None
    with structlog.testing.capture_logs() as logs:
        again = asyncio.create_task(barrier.hold(Outage("down"), asyncio.Event()))
        await asyncio.sleep(0)
        assert barrier.paused().since == since
        dependency.works = True
        await again
    assert value_of(metrics.of(PersistenceMetrics).paused.labels("it")) == 0
    assert [log["event"] for log in logs] == ["Resumed: the dependency works again"]


async def test_a_dependency_that_answers_probes_but_not_work_is_asked_less_and_less(
    dependency, metrics
):
    barrier = OutageBarrier("it", dependency.probe, metrics)
    dependency.works = True
    stop, delays = asyncio.Event(), []
    for _ in range(4):
        began = asyncio.get_running_loop().time()
        await barrier.hold(Outage("no work done"), stop)
        delays.append(asyncio.get_running_loop().time() - began)
    # 0.1, 0.2, 0.4, 0.8 seconds, each less up to half of it.
    assert delays[3] > 0.4
    assert delays[0] < 0.3


async def test_a_call_goes_through_after_outages_and_verdicts_come_out(metrics, dependency):
    dependency.works = True
    barrier = OutageBarrier(
        "it",
        dependency.probe,
        metrics,
        outages=OSError,
        verdicts=FileNotFoundError,
        backoff=Backoff(0.01, 0.01),
    )
    answers = [OSError("down"), OSError("down"), "done"]

    async def call() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await barrier.run(call, asyncio.Event()) == "done"
    answers = [FileNotFoundError("gone")]
    with pytest.raises(FileNotFoundError):
        await barrier.run(call, asyncio.Event())
    assert value_of(metrics.of(PersistenceMetrics).processed.labels("error")) == 2


async def test_work_that_fails_while_probes_succeed_is_one_outage(dependency, metrics, eventually):
    """A full disk, or a right that was taken away: PostgreSQL goes on answering."""
    barrier = OutageBarrier(
        "it", dependency.probe, metrics, outages=Outage, backoff=Backoff(0.01, 0.01, calm=0.5)
    )
    dependency.works = True
    stop, since = asyncio.Event(), set()
    with structlog.testing.capture_logs() as lines:
        for _ in range(20):
            held = asyncio.create_task(barrier.hold(Outage("disk full"), stop))
            await asyncio.sleep(0)
            since.add(barrier.paused().since)
            await held
        await eventually(lambda: len(lines) == 4)
        await barrier.hold(Outage("down"), stop)
    assert len(since) == 1
    assert [line["event"].split(":")[0] for line in lines] == [
        "Paused", "Resumed", "Paused again", "Resumed", "Paused", "Resumed",
    ]  # fmt: skip
    assert "refuses the work" in lines[2]["event"]
    assert lines[3]["paused_seconds"] > lines[1]["paused_seconds"]


async def test_a_dependency_that_hangs_is_told_as_one_that_gives_no_answer(
    metrics, eventually, monkeypatch
):
    monkeypatch.setattr("persistence.database.outage._PROBE_SECONDS", 0.05)
    barrier = OutageBarrier(
        "it", asyncio.Event().wait, metrics, outages=Outage, backoff=Backoff(0.01, 0.01)
    )
    holder = asyncio.create_task(barrier.hold(Outage("down"), asyncio.Event()))
    await eventually(lambda: barrier.paused() and barrier.paused().error == "no answer in 0.05 s")
    holder.cancel()
