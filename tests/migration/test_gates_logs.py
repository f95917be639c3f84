"""What the two logs tell: their partitions, and whether their readers are through."""

from __future__ import annotations

import asyncio
import time

import pytest

from persistence.fleet.log_choice import LogPair
from tests.migration.gate_inputs import ReportedProgress, ask
from tests.persistence.samples import message
from tests.support.mirrors import append
from tests.support.positions import settle


async def test_homes(scene, both):
    assert (await ask(await scene(1, 2), "homes")).verdict == "green"
    other = await scene(1, 2, settings=both.model_copy(update={"stream_partitions": 5}))
    other.logs.clear()
    result = await ask(other, "homes")
    assert (result.verdict, "STREAM_PARTITIONS" in result.reason) == ("red", True)
    assert "STREAM_PARTITIONS" in (result.remedy or "")


async def test_what_cannot_be_looked_at_is_unknown(scene, both):
    gone = await scene(2, 3, settings=both.model_copy(update={"redis_port": 1}))
    gone.logs.clear()
    result = await ask(gone, "workers")
    assert (result.verdict, "can't be judged" in result.reason) == ("unknown", True)
    assert result.remedy is None, "the server may come back"
    assert (await ask(gone, "durability")).verdict == "unknown"


@pytest.mark.parametrize(
    ("gate", "log", "told", "verdict", "reason", "waits"),
    [
        ("workers", "redis", {"lag": None}, "unknown", "can't say how far", True),
        ("workers", "redis", {"lag": 2501}, "red", "10004 messages wait in redis", True),
        ("workers", "redis", {"lag": 2500}, "green", "no worker waits", True),
        (
            "homes",
            "kafka",
            {"parts": 3},
            "red",
            "kafka has 3 partitions, and is used as",
            False,
        ),
        ("start", "kafka", {"lost": 1}, "unknown", "kafka once lost 4 records", False),
        ("start", "redis", {"lost": 1}, "unknown", "redis once lost 4 records", False),
    ],
)
async def test_what_a_log_says_of_its_readers_decides(  # noqa: PLR0913 - its cases
    scene, process, own, logs, gate, log, told, verdict, reason, waits
):
    await process("w", 2)
    await own("w", "redis")
    asked = await scene(2, 3)
    asked.logs[log] = ReportedProgress(logs[log], **told)
    result = await ask(asked, gate)
    assert result.verdict == verdict
    assert reason in result.reason
    assert (result.remedy is None) is waits


@pytest.mark.parametrize("why", ["held", "unavailable"])
async def test_drained_is_unknown_where_the_log_can_not_be_read(scene, logs, why):
    asked = await scene(4, 5)
    asked.logs["redis"] = ReportedProgress(logs["redis"], **{why: True})
    result = await ask(asked, "drained")
    assert (result.verdict, "no readable end" in result.reason) == ("unknown", True)


@pytest.mark.parametrize("name", ["redis", "kafka"])
async def test_drained_waits_for_what_was_there_by_whichever_clock(
    scene, logs, monkeypatch, name, database_pool
):
    """Red for an unsettled record, and green once it is settled, though later ones are not."""
    log = logs[name]
    pair = LogPair(name, "redis" if name == "kafka" else "kafka")
    asked = await scene(4, 5, pair=pair)
    await append(log, message("a", "c"))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 300)
    result = await ask(asked, "drained")
    assert (result.verdict, "has an unsettled record" in result.reason) == ("red", True)
    judging = asyncio.create_task(ask(asked, "drained"))
    await settle(database_pool, log)
    await append(log, message("later", "c"))
    assert (await judging).verdict == "green"
