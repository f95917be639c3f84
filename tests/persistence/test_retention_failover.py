"""PostgreSQL fails over to a standby that was behind, while rows are archived or erased."""

from __future__ import annotations

import asyncio

import pytest

from persistence.database.pool import connect
from persistence.errors import Outage
from persistence.retention import erasure as erasure_module
from persistence.retention.archive_file import ArchiveDraft
from persistence.retention.archiver import Archiver
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from persistence.settings import PersistenceSettings
from persistence.store.writer import insert
from tests.payloads.stores import opened
from tests.persistence.samples import message, placed, receipt
from tests.support.postgres_pair import PostgresPair, pair

_OLD = "UPDATE messages SET created_at = now() - interval '40 days'"


@pytest.fixture
async def servers(migrated_postgres, tmp_path):
    async with pair(migrated_postgres, tmp_path) as both:
        yield both


@pytest.fixture
async def pool(servers: PostgresPair):
    made = await connect(PersistenceSettings(database_url=servers.url))
    yield made
    made.terminate()


@pytest.fixture
async def sent(pool) -> None:
    """An old message with a receipt."""
    sent = message("1")
    async with pool.acquire() as connection:
        await insert(connection, [placed(sent), placed(receipt(sent))])
        await connection.execute(_OLD)


async def _fail_over(servers: PostgresPair) -> None:
    await servers.primary.kill()
    await servers.promote()


async def _counts(pool) -> tuple[int, int]:
    """Return how many messages and receipts have a row."""
    found = await pool.fetchrow(
        "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM message_receipts)"
    )
    return tuple(found)


async def test_rows_whose_tombstones_were_lost_keep_their_receipts(
    servers, pool, sent, tmp_path, monkeypatch
):
    """The file is sent meanwhile, so no statement meets the failover."""
    store, real = opened(f"file://{tmp_path}/archive"), ArchiveDraft.store
    await servers.cut()

    async def slow(*arguments):
        await _fail_over(servers)
        return await real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ArchiveDraft, "store", slow)
        with pytest.raises(Outage):
            await Archiver(pool, store, days=30).archive(asyncio.Event())
    assert await _counts(pool) == (1, 1)
    report = await Archiver(pool, store, days=30).archive(asyncio.Event())
    assert report is not None
    assert report.rows == 1
    assert await _counts(pool) == (0, 0)


async def test_an_erasure_is_not_done_while_a_row_is_there(servers, pool, sent, monkeypatch):
    """Payloads are deleted between the mark and the rows: that may take long."""
    marked, failures = erasure_module.mark_erased, 0

    async def lost(pool, doomed) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            await servers.cut()  # the job has begun
        await marked(pool, doomed)
        if failures == 1:
            await _fail_over(servers)

    monkeypatch.setattr(erasure_module, "mark_erased", lost)
    report = await Erasure(pool, Subject("sender", "alice"), [], None).run(by="me")
    assert (report.state, report.rows) == ("done", 1)
    assert await _counts(pool) == (0, 0)


async def test_an_erasure_marks_what_it_took_out_of_a_file(
    servers, pool, sent, tmp_path, monkeypatch
):
    """The file alone told whose message it was, and is written anew when the mark is lost."""
    store, real = opened(f"file://{tmp_path}/archive"), ArchiveDraft.store
    async with pool.acquire() as connection:
        await insert(connection, [placed(message("2", sender="carol"))])
        await connection.execute(_OLD)
    await Archiver(pool, store, days=30).archive(asyncio.Event())
    marked, steps = erasure_module.mark_erased, list[str]()

    async def mark(pool, doomed) -> None:
        steps.append("mark")
        if len(steps) == 1:
            await servers.cut()  # the job has begun
        await marked(pool, doomed)

    async def put(*arguments):
        facts = await real(*arguments)
        steps.append("put")
        if steps.count("put") == 1:
            await _fail_over(servers)
        return facts

    with monkeypatch.context() as patched:
        patched.setattr(erasure_module, "mark_erased", mark)
        patched.setattr(ArchiveDraft, "store", put)
        report = await Erasure(pool, Subject("sender", "carol"), [], None, store).run(by="me")
    assert (report.state, report.archived) == ("done", 1)
    assert await pool.fetchval("SELECT count(*) FROM tombstones WHERE erased_at IS NOT NULL") == 1
    report = await Erasure(pool, Subject("sender", "alice"), [], None, store).run(by="me")
    assert report.archived == 1
