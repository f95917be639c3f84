"""What a worker counts and logs of the parts of one statement."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from otel.metrics import Metrics
from persistence.metrics import IdempotencyMetrics, PersistenceMetrics
from persistence.worker.batch.batch_log import BatchLog
from persistence.worker.batch.bisect import BatchOutcome
from persistence.worker.batch.letter_log import LetterLog
from persistence.worker.batch.worker_metrics import WorkerMetrics
from tests.persistence.samples import message, placed, raw_record
from tests.support.metric_values import value_of
from transport.clock import now
from transport.contract import DeadLetter, Reason

PARTITIONS = 40


async def test_the_partitions_of_a_statement_are_counted_together() -> None:
    """A line and a few increments for each partition cost more than writing a row does."""
    metrics = Metrics()
    worker = WorkerMetrics(metrics)
    with structlog.testing.capture_logs() as logs:
        for partition in range(PARTITIONS):
            batch = [placed(message(f"{partition}/{i}"), partition) for i in range(3)]
            worker.written(batch, BatchOutcome([0, 2], [1], [], []))
        await asyncio.sleep(0)
    said = _at("info", logs)
    assert [(log["event"], log["count"]) for log in said] == [
        ("Persisted", 2 * PARTITIONS),
        ("Idempotent: persisted earlier, no new row", PARTITIONS),
    ]
    assert {tuple(log["partitions"]) for log in said} == {tuple(range(PARTITIONS))}
    processed = metrics.of(PersistenceMetrics).processed
    assert value_of(processed.labels("persisted")) == 2 * PARTITIONS
    assert value_of(processed.labels("duplicate")) == PARTITIONS
    keys = metrics.of(IdempotencyMetrics)
    assert value_of(keys.requests.labels("persist")) == 3 * PARTITIONS
    assert value_of(keys.hits.labels("persist")) == PARTITIONS


async def test_what_is_refused_counts_as_asked_only() -> None:
    metrics = Metrics()
    worker = WorkerMetrics(metrics)
    for turn in range(2):
        worker.written([placed(message(f"{turn}"))], BatchOutcome([], [], [0], []))
        await asyncio.sleep(0)
    assert value_of(metrics.of(IdempotencyMetrics).requests.labels("persist")) == 2
    assert value_of(metrics.of(PersistenceMetrics).processed.labels("persisted")) == 0


async def test_a_message_alone_is_named_in_the_log() -> None:
    worker = WorkerMetrics(Metrics())
    alone = placed(message("c1"))
    with structlog.testing.capture_logs() as logs:
        worker.written([alone], BatchOutcome([0], [], [], []))
        await asyncio.sleep(0)
    for (said,) in (_at("info", logs), _at("debug", logs)):
        assert (said["message_id"], said["partition"]) == (alone.event.message_id, alone.partition)


async def test_many_batches_of_a_minute_are_one_line(eventually: Any) -> None:
    """On Redis as on Kafka: a line for each would be forty a second."""
    lines = BatchLog("Persisted", "persisted", seconds=0.05)
    with structlog.testing.capture_logs() as logs:
        for i in range(10):
            lines.add([placed(message(f"{i}/{j}"), i % 4) for j in range(3)])
        assert [log["count"] for log in _at("info", logs)] == [3]
        await eventually(lambda: len(_at("info", logs)) == 2)
        last = _at("info", logs)[1]
        assert (last["count"], last["partitions"]) == (27, [0, 1, 2, 3])
        lines.add([placed(message("next"), 5)])
        alone = await eventually(lambda: _at("info", logs)[2:])
    assert (alone[0]["count"], alone[0]["partition"]) == (1, 5)
    assert [log["count"] for log in _at("debug", logs)] == [3] * 10 + [1]


async def test_a_worker_that_stops_says_what_no_line_said_yet() -> None:
    worker = WorkerMetrics(Metrics())
    with structlog.testing.capture_logs() as logs:
        for i in range(3):
            worker.written([placed(message(f"{i}"))], BatchOutcome([0], [], [], []))
            await asyncio.sleep(0)
        worker.written([placed(message("last"))], BatchOutcome([0], [], [], []))
        worker.tell()
        await asyncio.sleep(0)
        worker.tell()
    assert [log["count"] for log in _at("info", logs)] == [1, 3]


async def test_dead_letters_without_end_are_a_bounded_number_of_lines(eventually: Any) -> None:
    """Another producer may write thousands of records a second that are no messages."""
    lines = LetterLog(most=3, seconds=0.05)
    letters = [
        DeadLetter(raw_record(b"?"), Reason.UNDECODABLE, f"{n}", 1, now()) for n in range(50)
    ]
    with structlog.testing.capture_logs() as logs:
        for at in range(0, 50, 2):
            lines.add(letters[at : at + 2])
        assert [log["error"] for log in logs] == ["0", "1", "2"]
        (last,) = await eventually(lambda: logs[3:])
        lines.add(letters[:1])
    assert (last["count"], last["reasons"]) == (47, {"undecodable": 47})
    assert [log["error"] for log in logs[4:]] == ["0"]


async def test_each_dead_letter_is_counted_and_a_stop_says_how_many_had_no_line() -> None:
    metrics = Metrics()
    worker = WorkerMetrics(metrics)
    letter = DeadLetter(raw_record(b"?"), Reason.UNDECODABLE, "why", 1, now())
    with structlog.testing.capture_logs() as logs:
        worker.dead_lettered([letter] * 500)
        worker.tell()
    assert sum(log.get("count", 1) for log in logs) == 500
    assert len(logs) < 30
    counts = metrics.of(PersistenceMetrics)
    assert value_of(counts.processed.labels("dead_lettered")) == 500
    assert value_of(counts.dead_letters.labels("undecodable")) == 500


def _at(level: str, logs: list[Any]) -> list[Any]:
    return [log for log in logs if log["log_level"] == level]
