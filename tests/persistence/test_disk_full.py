"""PostgreSQL answers, and takes no rows: its disk is full (SQLSTATE 53100)."""

from __future__ import annotations

from ingress.readiness import ReadinessChecks
from tests.persistence.loglib import append, lag
from tests.persistence.samples import message
from tests.support.eventually import eventually

FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file "base/5/16384": wrote only 4096 of 8192 bytes'
        USING ERRCODE = '53100';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON messages EXECUTE FUNCTION full_disk()
"""


async def test_readiness_says_so_and_rows_come_when_there_is_room(
    start, transport, database_pool
) -> None:
    worker = start().consumer
    readiness = ReadinessChecks(
        transport=transport,
        pool=database_pool,
        timeout_seconds=5.0,
        unwritten=worker.unwritten,
    )

    async def database():
        report = await readiness.report()
        (found,) = [part for part in report.components if part.name == "database"]
        return found

    assert (await database()).status == "up"
    await database_pool.execute(FULL)
    await append(transport, message("a"))
    await eventually(worker.unwritten)
    told = await database()
    assert told.status == "degraded"
    assert told.detail.startswith(
        "It answers, and takes no rows: its disk is full: make room on it (PostgreSQL: could not "
    )
    await database_pool.execute("DROP TRIGGER full_disk ON messages")

    async def persisted() -> bool:
        return await lag(transport) == 0

    await eventually(persisted)
    assert (await database()).status == "up"
