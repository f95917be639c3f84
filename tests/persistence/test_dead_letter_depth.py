"""How many dead letters wait, as gauges: known, or absent, and never a zero that is not one."""

from __future__ import annotations

from otel.metrics import Metrics
from persistence.database.pool import connect
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.depth_reporter import DepthReporter
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.metrics import DeadLetterMetrics
from persistence.dead_letters.selection import Selection
from persistence.settings import PersistenceSettings
from tests.persistence.samples import raw_record
from transport.clock import now
from transport.contract import DeadLetter, Reason


def _depth(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("stream_dead_letter_depth", {"reason": reason})


async def test_letters_count_from_the_log_to_the_decision(
    start, transport, database_pool, eventually
):
    metrics = Metrics()
    reporter = DepthReporter(database_pool, [transport], metrics)

    async def unindexed() -> float | None:
        await reporter.report()
        return metrics.registry.get_sample_value(
            "stream_dead_letter_unindexed", {"transport": transport.name}
        )

    assert await unindexed() == 0
    assert {_depth(metrics, reason.value) for reason in Reason} == {0}
    letters = [
        DeadLetter(raw_record(b"?", n), Reason.UNDECODABLE, "why", 1, now()) for n in range(2)
    ]
    await transport.dead_letter(letters)
    assert await unindexed() == 2
    start(DeadLetterIndexer, member="i1")

    async def all_indexed() -> bool:
        return await unindexed() == 0

    await eventually(all_indexed)
    assert _depth(metrics, "undecodable") == 2
    letters = DeadLetters(database_pool)
    await letters.discard(Selection(), by="me", why="tested", up_to=await letters.newest())
    await reporter.report()
    assert _depth(metrics, "undecodable") == 0


async def test_without_postgresql_the_depth_is_absent(transport):
    metrics = Metrics()
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    pool = await connect(PersistenceSettings(database_url=nowhere))
    metrics.of(DeadLetterMetrics).depth.labels("rejected").set(3)
    await DepthReporter(pool, [transport], metrics).report()
    assert _depth(metrics, "rejected") is None
    pool.terminate()
