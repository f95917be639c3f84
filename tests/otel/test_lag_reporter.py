"""Lag as gauges: known, unknown, and never a zero that is not one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from otel.lag_reporter import LagReporter
from otel.losses import Loss, Losses
from otel.metrics import Metrics
from tests.support.eventually import eventually
from transport.contract import Progress
from transport.errors import TransportUnavailable

_LABELS = {"transport": "fake", "partition": "0"}


class _Log:
    name = "fake"
    partitions = 1

    def __init__(self) -> None:
        self.answer: Sequence[Progress] | Exception = [Progress(0, 7, 1.5, "1", "8", 0)]

    async def progress(self, topic, *, group):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def _value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, _LABELS)


async def test_known_figures_are_reported(metrics: Metrics):
    await LagReporter(_Log(), metrics).report()  # type: ignore[arg-type]
    assert _value(metrics, "stream_partition_lag") == 7
    assert _value(metrics, "stream_oldest_unprocessed_age_seconds") == 1.5
    assert _value(metrics, "stream_lag_unknown") == 0


async def test_a_lag_that_the_log_does_not_know_is_absent_and_flagged(metrics: Metrics):
    log = _Log()
    reporter = LagReporter(log, metrics)  # type: ignore[arg-type]
    await reporter.report()
    log.answer = [Progress(0, None, 1.5, "1", "8", 2)]
    await reporter.report()
    assert _value(metrics, "stream_partition_lag") is None
    assert _value(metrics, "stream_lag_unknown") == 1
    assert _value(metrics, "stream_loss_detected") == 2


async def test_an_unreachable_log_makes_all_unknown_and_keeps_a_loss_that_was_seen(
    metrics: Metrics,
):
    log = _Log()
    log.answer = [Progress(0, 1, 0.1, None, "1", 5)]
    reporter = LagReporter(log, metrics)  # type: ignore[arg-type]
    await reporter.report()
    log.answer = TransportUnavailable("connection refused")
    await reporter.report()
    assert _value(metrics, "stream_partition_lag") is None
    assert _value(metrics, "stream_oldest_unprocessed_age_seconds") is None
    assert _value(metrics, "stream_lag_unknown") == 1
    assert _value(metrics, "stream_loss_detected") == 5


async def test_what_was_put_back_is_counted_beside_the_loss_and_stays_too(metrics: Metrics):
    log = _Log()
    reporter = LagReporter(log, metrics)  # type: ignore[arg-type]
    await reporter.report()
    assert _value(metrics, "stream_loss_put_back") == 0
    log.answer = [Progress(0, 1, 0.1, None, "1", lost=5)]
    await reporter.report()
    log.answer = [Progress(0, 1, 0.1, None, "1", lost=5, put_back=3)]
    await reporter.report()
    assert _value(metrics, "stream_loss_put_back") == 3
    log.answer = TransportUnavailable("connection refused")
    await reporter.report()
    assert _value(metrics, "stream_loss_put_back") == 3
    log.answer = [Progress(0, 1, 0.1, None, "1", lost=5, put_back=7)]
    await reporter.report()
    assert _value(metrics, "stream_loss_put_back") == 5, "more than were lost heal no other loss"


async def test_a_loss_is_dated_when_it_rises(metrics: Metrics):
    now = 100.0
    losses = Losses(clock=lambda: now)
    log = _Log()
    reporter = LagReporter(log, metrics, losses=losses)  # type: ignore[arg-type]
    await reporter.report()
    assert losses.all() == []
    log.answer = [Progress(0, 1, 0.1, None, "1", lost=5)]
    await reporter.report()
    now = 130.0
    await reporter.report()
    assert losses.all() == [Loss("fake", 5, 30.0)]
    log.answer = [Progress(0, 1, 0.1, None, "1", lost=6)]
    await reporter.report()
    assert losses.all() == [Loss("fake", 6, 0.0)]
    now = 150.0
    log.answer = [Progress(0, None, None, None, None, unavailable=True)]
    await reporter.report()
    assert losses.all() == [Loss("fake", 6, 20.0)], "what nobody can tell now has not changed"
    assert _value(metrics, "stream_loss_detected") == 6


async def test_a_loss_older_than_the_process_has_no_date_and_a_later_one_has(metrics: Metrics):
    losses = Losses(clock=lambda: 100.0)
    log = _Log()
    reporter = LagReporter(log, metrics, losses=losses)  # type: ignore[arg-type]
    log.answer = [Progress(0, 1, 0.1, None, "1", lost=100)]
    await reporter.report()
    assert losses.all() == [Loss("fake", 100, None)]
    log.answer = [Progress(0, 0, 0.0, None, None, lost=0)]  # it lost its count too
    await reporter.report()
    assert losses.all() == [Loss("fake", 100, None)], "those records are still lost"
    log.answer = [Progress(0, 1, 0.1, None, "1", lost=20)]
    await reporter.report()
    assert losses.all() == [Loss("fake", 120, 0.0)]


async def test_it_reports_again_and_stops_at_once(metrics: Metrics):
    log, stop = _Log(), asyncio.Event()
    reporter = LagReporter(log, metrics, interval=0.01)  # type: ignore[arg-type]
    running = asyncio.create_task(reporter.run(stop))
    await eventually(lambda: _value(metrics, "stream_partition_lag") == 7)
    log.answer = [Progress(0, 0, 0.0, "8", "8", 0)]
    await eventually(lambda: _value(metrics, "stream_partition_lag") == 0)
    stop.set()
    await asyncio.wait_for(running, 10)


async def test_a_partition_is_stalled_while_records_wait_and_none_is_acknowledged(
    metrics: Metrics, monkeypatch
):
    log, clock = _Log(), [100.0]
    monkeypatch.setattr("otel.lag_reporter.time.monotonic", lambda: clock[0])
    reporter = LagReporter(log, metrics)  # type: ignore[arg-type]

    async def stalled(lag: int | None, floor: str | None) -> float | None:
        log.answer = [Progress(0, lag, 1.0, floor, "9", 0)]
        clock[0] += 10
        await reporter.report()
        return _value(metrics, "stream_partition_stalled_seconds")

    assert await stalled(2, None) == 0
    assert await stalled(5, None) == 10
    assert await stalled(9, "1") == 0  # the position moved, although the lag grew
    assert await stalled(9, "1") == 10
    assert await stalled(None, "1") is None
    assert await stalled(9, "1") == 30  # an unknown moment in between moved nothing
    assert await stalled(0, "9") == 0
    assert await stalled(1, "9") == 0  # idle time is not stalled time
