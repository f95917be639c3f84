"""``crossfade migrate parity``, ``backfill`` and ``backfills`` as they are typed, on real logs."""

from __future__ import annotations

import json

import pytest

from tests.parity.mirroring import message, send
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

    async def start(*arguments: str) -> Crossfade:
        return await Crossfade.start(
            "migrate", *arguments, cwd=tmp_path, DATABASE_URL=database_url, **settings
        )

    return start


async def test_parity_says_by_its_status_whether_the_logs_are_equal_and_shows_what_is_not(
    crossfade, redis_log, kafka_log, database_pool
):
    nothing = await crossfade("parity", "--settle", "0")
    assert await nothing.ends() == 2
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


async def test_parity_goes_on_until_ctrl_c_and_then_answers(crossfade, redis_log, kafka_log):
    await send(redis_log, kafka_log, range(5))
    following = await crossfade("parity", "--settle", "0", "--follow", "--json")

    def compared() -> int:
        return json.loads(following.lines[-1])["compared"] if following.lines else 0

    await eventually(lambda: compared() == 5, timeout=40)
    await send(redis_log, kafka_log, range(5, 9))
    await eventually(lambda: compared() == 9)
    assert await following.interrupt() == 0
    table = await crossfade("parity", "--settle", "0", "--follow")
    # A table is drawn over and over, which is nothing to write into a pipe: its last one is.
    await eventually(lambda: "Traceback" in table.text or table.process.returncode is None)
    await send(redis_log, kafka_log, range(9, 12), copied=lambda n: n != 10)
