"""``crossfade migrate parity`` and ``backfill`` as they are typed, on real logs."""

from __future__ import annotations

import json
import re
from uuid import uuid4

import pytest

from tests.parity.mirroring import every, message, send
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually


@pytest.fixture
def crossfade(tmp_path, both_settings, database_url):
    """Run ``crossfade migrate ARGUMENTS`` against both logs and the test's database."""
    named = both_settings.model_dump(
        include={
            "transport", "transport_shadow", "stream_partitions", "redis_host", "redis_port",
            "redis_stream_db", "kafka_bootstrap_servers", "kafka_topic", "kafka_dlq_topic",
        }
    )  # fmt: skip
    settings = {name.upper(): str(value) for name, value in named.items()}

    async def start(*arguments: str, of: str = "migrate", **more: str) -> Crossfade:
        named = {**settings, "DATABASE_URL": database_url, **more}
        return await Crossfade.fork(of, *arguments, cwd=tmp_path, **named)

    return start


async def test_parity_says_by_its_status_whether_the_logs_are_equal_and_shows_what_is_not(
    crossfade, redis_log, kafka_log, database_pool
):
    nothing = await crossfade("parity", "--settle", "0")
    assert await nothing.ends() == 3
    assert "nothing to compare: that is not parity" in nothing.text
    await send(redis_log, kafka_log, range(20))
    equal = await crossfade("parity", "--settle", "0")
    assert await equal.ends() == 0
    assert "equal: 20 compared, coverage 100.0%" in equal.text
    offsets = await send(redis_log, kafka_log, range(20, 24), copied=lambda n: n != 21)
    differs = await crossfade("parity", "--settle", "0")
    assert await differs.ends() == 1
    assert "they differ: 24 compared" in differs.text
    (sample,) = [line for line in differs.lines if line.startswith("missing_in_shadow")]
    for told in (message(21).message_id, offsets[21], f"{22:032x}", "no copy"):
        assert told in sample
    as_data = await crossfade("parity", "--settle", "0", "--json")
    assert await as_data.ends() == 1
    report = json.loads(as_data.text)
    assert (report["verdict"], report["compared"], report["coverage"]) == ("differs", 24, 1.0)
    assert report["counts"]["missing_in_shadow"] == 1
    (one,) = report["samples"]
    assert (one["primaryOffset"], one["shadowOffset"]) == (offsets[21], None)
    assert (one["traceId"], one["correlationId"]) == (f"{22:032x}", "correlation-21")
    kept = await database_pool.fetch("SELECT verdict FROM parity_reports ORDER BY made_at")
    verdicts = ["nothing to compare", "equal", "differs", "differs"]
    assert [row["verdict"] for row in kept] == verdicts


@pytest.mark.parametrize(
    "named",
    [("backfill", "--source", "kafka", "--into"), ("parity", "--primary", "kafka", "--shadow")],
)
async def test_one_log_is_not_taken_for_two(crossfade, named):
    refused = await crossfade(*named, "kafka")
    assert await refused.ends() == 2
    assert named[-1] in refused.text
    assert "kafka is both; name another log." in refused.text


async def test_parity_goes_on_until_ctrl_c_and_then_answers(crossfade, redis_log, kafka_log):
    await send(redis_log, kafka_log, range(5))
    following = await crossfade("parity", "--settle", "0", "--follow", "--json")

    def compared() -> int:
        return json.loads(following.lines[-1])["compared"] if following.lines else 0

    await eventually(lambda: compared() == 5)
    await send(redis_log, kafka_log, range(5, 9))
    await eventually(lambda: compared() == 9)
    assert await following.interrupt() == 0
    report = json.loads(following.lines[-1])
    assert (report["verdict"], report["counts"]["matched"]) == ("equal", 9)
    await send(redis_log, kafka_log, range(9, 12), copied=lambda n: n != 10)
    # Drawn over and over as in a terminal, although it is read from a pipe.
    drawn = await crossfade("parity", "--settle", "0", "--follow", TTY_COMPATIBLE="1")
    await drawn.says("they differ.*12 compared")
    assert await drawn.interrupt() == 1
    assert "Traceback" not in drawn.text


async def test_a_killed_backfill_goes_on_and_the_next_one_appends_nothing(
    crossfade, redis_log, kafka_log, database_pool
):
    await send(redis_log, kafka_log, range(60), copied=lambda n: n < 10)
    settled = ("--settle", "0")
    dry = await crossfade("backfill", "--dry-run", *settled)
    assert await dry.ends() == 0
    assert "would append 50 records to kafka" in dry.text
    assert len(await every(kafka_log)) == 10

    killed = await crossfade("backfill", "--rate", "4", *settled)

    async def under_way() -> bool:
        return 12 <= len(await every(kafka_log)) < 40

    await eventually(under_way)
    await killed.kill()
    listed = await crossfade("list", "--kind", "backfill", of="jobs")
    assert await listed.ends() == 0
    assert re.search(r"redis to kafka +stalled +\d+ of 50 ", listed.text), listed.text

    resumed = await crossfade("backfill", *settled)
    assert await resumed.ends() == 0
    assert "records appended to kafka" in resumed.text
    again = await crossfade("backfill", *settled)
    assert await again.ends() == 0
    assert "done: 0 records appended to kafka" in again.text
    found = [record.headers["messageId"].decode() for record in await every(kafka_log)]
    assert sorted(found) == sorted(message(n).message_id for n in range(60))
    equal = await crossfade("parity", *settled)
    assert await equal.ends() == 0
    rows = await database_pool.fetch("SELECT state, done FROM jobs ORDER BY started_at")
    assert [row["state"] for row in rows] == ["done", "done"]
    # What the killed one had not noted before it died is found there, and not appended again.
    assert 46 <= rows[0]["done"] <= 50
    assert rows[1]["done"] == 0


async def test_a_backfill_keeps_to_its_rate_and_ctrl_c_interrupts_it(
    crossfade, redis_log, kafka_log, database_pool
):
    await send(redis_log, kafka_log, range(40), copied=lambda n: n < 4)
    rate = 5  # so that Ctrl-C comes long before the end, on a busy machine too
    slow = await crossfade("backfill", "--settle", "0", "--rate", str(rate))

    async def begun() -> bool:
        return len(await every(kafka_log)) > 4

    await eventually(begun)
    assert await slow.interrupt() == 130
    assert "interrupted; the same command goes on where it stopped" in slow.text
    assert await database_pool.fetchval("SELECT state FROM jobs") == "interrupted"
    left = 40 - len(await every(kafka_log))
    assert left > 12, "the rate was not kept"
    resumed = await crossfade("backfill", "--settle", "0", "--rate", str(rate))
    assert await resumed.ends() == 0
    row = await database_pool.fetchrow(
        "SELECT state, done, extract(epoch FROM finished_at - started_at) AS seconds FROM jobs"
    )
    assert row["state"] == "done"
    # What was appended and not yet noted when Ctrl-C came is found there, and not appended again.
    assert 33 <= row["done"] <= 36
    assert len(await every(kafka_log)) == 40
    assert row["seconds"] > left / rate - 1


async def test_resume_goes_on_with_the_backfill_that_is_named_as_it_was_asked_for(
    crossfade, redis_log, kafka_log, database_pool
):
    await send(redis_log, kafka_log, range(6), copied=lambda n: n < 2)
    older, newer = uuid4(), uuid4()
    for identifier in (older, newer):
        await database_pool.execute(
            "INSERT INTO jobs (id, kind, state, request, rate, total, started_by, started_at) "
            "VALUES ($1, 'backfill', 'interrupted', $2, 0, 0, 'ann', clock_timestamp())",
            identifier,
            '{"source": "redis", "target": "kafka", "settle": 0.0}',
        )
    refused = await crossfade("backfill", "--resume", str(older), "--settle", "9")
    assert await refused.ends() == 1
    assert "leave the other options out" in refused.text
    resumed = await crossfade("backfill", "--resume", str(older))
    assert await resumed.ends() == 0
    assert "done: 4 records appended to kafka" in resumed.text, "of records younger than 15 s"
    rows = await database_pool.fetch("SELECT id, state, done FROM jobs ORDER BY started_at")
    assert [tuple(row) for row in rows] == [(older, "done", 4), (newer, "interrupted", 0)]
