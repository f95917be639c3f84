"""Revision 0010: the rows of two tables become jobs, and yesterday's code works on beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from persistence import migrate

REDRIVE = UUID("00000000-0000-4000-8000-000000000001")
BACKFILL = UUID("00000000-0000-4000-8000-000000000002")
SINCE = datetime(2026, 11, 24, 20, 18, 19, 123457, UTC)
UNFINISHED = ["running", "interrupted", "failed"]

# The statements of the release before.
CREATE_REDRIVE = """
INSERT INTO redrives (id, selection, until_id, most_redrives, rate, state, total, started_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
RUNNING = """
UPDATE redrives SET seen_at = now() WHERE id = $1 AND state = $2
RETURNING id, selection, until_id, most_redrives, rate, started_by
"""
REOPEN = """
UPDATE redrives SET state = $2, seen_at = now(), finished_at = NULL, error = NULL
WHERE id = $1 AND state = ANY($3::text[])
"""
FINISH_REDRIVE = """
UPDATE redrives SET state = $2, finished_at = now(), error = coalesce($4, error)
WHERE id = $1 AND state = ANY($3::text[])
"""
COUNT = """
UPDATE redrives SET redriven = redriven + $2, failed = failed + $3, error = $4 WHERE id = $1
"""
REDRIVES = """
SELECT id, state, total, redriven, failed, rate, error, started_by, started_at, seen_at,
    finished_at, abs(extract(epoch FROM now() - seen_at))::float8 AS silent_seconds
FROM redrives ORDER BY started_at DESC LIMIT $1
"""
TAKE_UP = """
UPDATE backfills SET state = $6, seen_at = now(), rate = $5, error = NULL
WHERE id = (
    SELECT id FROM backfills
    WHERE source = $1 AND target = $2 AND from_rows = $3 AND since IS NOT DISTINCT FROM $4
        AND state = ANY($7::text[])
    ORDER BY started_at DESC LIMIT 1
)
RETURNING id, cursor, appended, present
"""
CREATE_BACKFILL = """
INSERT INTO backfills (id, source, target, from_rows, since, state, rate, started_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
NOTE = """
UPDATE backfills SET seen_at = now(), cursor = cursor || $2::jsonb, examined = $3, missing = $4,
    appended = $5, present = $6, error = $7
WHERE id = $1 AND state = $8
"""
FINISH_BACKFILL = """
UPDATE backfills SET state = $2, finished_at = now(), error = coalesce($3, error)
WHERE id = $1 AND state = ANY($4::text[])
"""
BACKFILLS = """
SELECT id, source, target, from_rows, state, rate, examined, missing, appended, present, error,
    started_by, started_at, seen_at, finished_at,
    abs(extract(epoch FROM now() - seen_at))::float8 AS silent_seconds
FROM backfills ORDER BY started_at DESC LIMIT $1
"""


class Yesterday:
    """A process of the release before: one connection, which remembers its statements."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def redrives_begin(self) -> None:
        asked = json.dumps({"conversationId": "c"})
        await self.connection.execute(
            CREATE_REDRIVE, REDRIVE, asked, 7, None, 20, "running", 5, "ann"
        )

    async def redrives_go_on(self, redriven: int) -> None:
        run = self.connection
        async with run.transaction():
            row = await run.fetchrow(RUNNING, REDRIVE, "running")
            assert json.loads(row["selection"]) == {"conversationId": "c"}
            assert (row["until_id"], row["most_redrives"], row["rate"]) == (7, None, 20)
            assert await run.execute(COUNT, REDRIVE, redriven, 1, "why") == "UPDATE 1"

    async def redrives_end(self, state: str) -> None:
        ended = await self.connection.execute(FINISH_REDRIVE, REDRIVE, state, ["running"], None)
        assert ended == "UPDATE 1"

    async def redrives_resume(self) -> None:
        assert await self.connection.execute(REOPEN, REDRIVE, "running", UNFINISHED) == "UPDATE 1"

    async def backfills_begin(self) -> None:
        await self.connection.execute(
            CREATE_BACKFILL, BACKFILL, "redis", "kafka", True, SINCE, "running", 100, "bob"
        )

    async def backfills_go_on(self, appended: int) -> None:
        cursor = json.dumps({str(appended): f"{appended}-0"})
        status = await self.connection.execute(
            NOTE, BACKFILL, cursor, 50, 10, appended, 2, "why", "running"
        )
        assert status == "UPDATE 1"

    async def backfills_end(self, state: str) -> None:
        ended = await self.connection.execute(FINISH_BACKFILL, BACKFILL, state, None, UNFINISHED)
        assert ended == "UPDATE 1"

    async def backfills_resume(self) -> dict[str, str]:
        row = await self.connection.fetchrow(
            TAKE_UP, "redis", "kafka", True, SINCE, 30, "running", UNFINISHED
        )
        assert (row["id"], row["present"]) == (BACKFILL, 2)
        return json.loads(row["cursor"])

    async def lists(self) -> list[dict[str, object]]:
        found = [*await self.connection.fetch(REDRIVES, 20)]
        found += await self.connection.fetch(BACKFILLS, 20)
        shown = [{**row, "silent_seconds": None} for row in found]
        assert len(shown) == 2
        return shown


@pytest.fixture
async def url(postgres_server):
    yield await postgres_server.create_database("jobs_migration")
    await postgres_server.drop_database("jobs_migration")


async def test_yesterdays_code_goes_on_while_the_schema_goes_up_down_and_up(url):
    await migrate.upgrade(url, "0009")
    connection = await asyncpg.connect(url)
    yesterday = Yesterday(connection)
    await yesterday.redrives_begin()
    await yesterday.redrives_go_on(1)
    await yesterday.backfills_begin()
    await yesterday.backfills_go_on(1)
    before = await yesterday.lists()

    await migrate.upgrade(url, "0010")
    assert await yesterday.lists() == before
    redrive, backfill = await connection.fetch("SELECT * FROM jobs ORDER BY kind DESC")
    assert (redrive["id"], redrive["total"], redrive["done"], redrive["failed"]) == (
        REDRIVE, 5, 1, 1,
    )  # fmt: skip
    assert json.loads(redrive["request"]) == {"selection": {"conversationId": "c"}, "untilId": 7}
    assert (backfill["id"], backfill["total"], backfill["done"]) == (BACKFILL, 10, 1)
    assert json.loads(backfill["request"]) == {
        "source": "redis", "target": "kafka", "fromRows": True, "since": SINCE.timestamp(),
    }  # fmt: skip
    assert json.loads(backfill["counts"]) == {"examined": 50, "present": 2}

    # A process that began before, and one that begins now: each statement of theirs works.
    await yesterday.redrives_go_on(2)
    await yesterday.redrives_end("interrupted")
    await yesterday.redrives_resume()
    await yesterday.backfills_go_on(3)
    await yesterday.backfills_end("failed")
    assert await yesterday.backfills_resume() == {"1": "1-0", "3": "3-0"}
    await connection.execute("DELETE FROM jobs")
    await yesterday.redrives_begin()
    await yesterday.redrives_go_on(4)
    await yesterday.redrives_end("done")
    await yesterday.backfills_begin()
    await yesterday.backfills_go_on(5)
    between = await yesterday.lists()
    assert (between[0]["state"], between[0]["redriven"]) == ("done", 4)
    assert (between[1]["state"], between[1]["appended"]) == ("running", 5)

    await migrate.downgrade(url, "0009")
    assert await yesterday.lists() == between
    await yesterday.backfills_go_on(6)
    await migrate.upgrade(url, "0010")
    assert (await yesterday.lists())[1]["appended"] == 6
    await yesterday.backfills_end("done")
    await connection.close()
